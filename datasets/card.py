"""Card: what is known of a data set before any of its files is seen."""

from __future__ import annotations

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A data set in a table of all.

    Attributes:
        name: as in `dataset=NAME`; the name of its module.
        title: as in the literature.
        description: one sentence: who, how recorded, what is labelled.
        classes: the expressions by label, canonical names in the official order; () where the files or options decide.
        images: number of labelled images by the default options, None where it is open.
        subjects: number of people by the default options; None where it is open or nobody can know.
        people: sets with one word here show the same people, so that a network trained on one is not judged on another; "" where the
            files or options decide who is shown.
        fold_rule: how the field splits it: a rule of datasets.splits.
        folds: how many test folds the field takes; 1 for an official split, None for one a subject.
        metric: the column of `trials` that the field reports.
        layout: what lies below `root`, a line a path.
        terms: under what terms it is given out.
        obtain: where and how to ask for it.
        source: the paper to cite.

    """

    name: str
    title: str
    description: str
    classes: tuple[str, ...]
    images: int | None
    subjects: int | None
    people: str
    fold_rule: str
    folds: int | None
    metric: str
    layout: tuple[str, ...]
    terms: str
    obtain: str
    source: str

    @property
    def identities(self) -> bool:
        """Whether people can be told apart; else every image is a subject of its own, and a fold "by subject" is one by image.

        A set that counts its images but not its people is one where nobody knows who is shown.
        """
        return self.subjects is not None or self.images is None


def card_of(name: str) -> Card:
    """The card of a data set by its name.

    Raises:
        DatasetError: there is no such data set.

    """
    # Modules of data sets import this one.
    from datasets import DatasetError, dataset_names, nearest

    names = dataset_names()
    if name not in names:
        raise DatasetError(f"expected dataset to be one of {', '.join(names)}, found {name!r}{nearest(name, names)}.")
    card: Card = importlib.import_module(f"datasets.{name}").CARD
    return card
