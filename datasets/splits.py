"""Splits of a FaceSet: test folds of whole subjects or the released parts, and validation subjects out of the training subjects.

Of another data set, which is only judged on, `judged` gives the indices.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datasets.errors import DatasetError
from datasets.faceset import FaceSet

RULES = ("contiguous", "balanced", "leave_one_out", "official")
COUNTED = ("contiguous", "balanced")  # Those that cut into as many folds as are asked for.
OFFICIAL = ("train", "val", "test")

Indices = npt.NDArray[np.int64]
Codes = npt.NDArray[np.intp]

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of faces, each a sorted int64 array of indices into a FaceSet."""

    train: Indices
    validation: Indices
    test: Indices


def fold_count(faces: FaceSet, rule: str, folds: int | None = None) -> int:
    """Number of test folds that a rule makes of a FaceSet.

    Args:
        faces: the faces; only the subjects are read.
        rule: one of `RULES`.
        folds: how many are asked for. "leave_one_out" has one for each subject and "official" has one: there it may be None.

    Raises:
        DatasetError: no such rule, too few or too many folds for the subjects, or another number than the rule makes.

    """
    return _fold_count(rule, folds, len(np.unique(faces.subjects)))


def split_fold(
    faces: FaceSet,
    *,
    fold: int,
    folds: int | None = None,
    rule: str = "contiguous",
    validation_fraction: float = 0.1,
) -> Split:
    """Split a FaceSet for one of its test folds.

    Args:
        faces: the faces; only labels, subjects, sequences, official parts and classes are read.
        fold: which fold is the test set, 0 .. fold_count(faces, rule, folds) - 1.
        folds: number of folds, see `fold_count`.
        rule: "contiguous": subjects sorted by their id as strings and cut into K runs, the first n % K of them one longer, as K-fold
            by subject is published. "balanced": each class is spread over the folds as evenly as whole subjects allow.
            "leave_one_out": each subject is a fold, in the order of the ids as strings. "official": the released parts; what is
            tested is "test", or "val" where no labelled "test" was released, and "val" validates where it is not tested.
        validation_fraction: share of the fold's training subjects that become validation subjects, rounded to whole
            subjects, at least one where it is above 0; fewer where more would leave a class without training subject.
            Not used where the official part "val" validates.

    Returns:
        The split; no subject and no sequence is in two of its parts, and every class is in `train`. In a set without identities,
        where every image is a subject of its own, that says no more than that no image is.

    Raises:
        DatasetError: an argument is out of its range, there are fewer subjects than folds, no official part where one is needed, a
            class is missing among the training subjects, or a subject or a sequence is in two official parts.

    """
    names, subject = np.unique(faces.subjects, return_inverse=True)
    folds = _fold_count(rule, folds, len(names))
    if not 0 <= fold < folds:
        raise DatasetError(f"expected the fold to be within 0..{folds - 1}, found {fold}.")
    if not 0 <= validation_fraction < 1:
        raise DatasetError(f"expected validation_fraction to be at least 0 and below 1, found {validation_fraction}.")

    counts = _images(subject, faces.labels, len(names), len(faces.classes))
    if rule == "official":
        part = _official(faces)
    else:
        fold_of = _balanced(counts, folds) if rule == "balanced" else _contiguous(len(names), folds)
        part = np.where(fold_of == fold, 2, 0)[subject]
    rows = np.flatnonzero(part == 0)
    counts = _images(subject[rows], faces.labels[rows], len(names), len(faces.classes))
    missing = np.flatnonzero(counts.sum(0) == 0)
    if len(missing):
        where = "in the official part train" if rule == "official" else f"of fold {fold} of {folds}"
        instead = "take the rule balanced, other folds," if rule in COUNTED else "take another rule"
        raise DatasetError(
            f"expected every class among the training subjects {where}, found nobody with "
            f"{faces.classes[missing[0]]!r}; {instead} or more subjects of that class."
        )
    if not (part == 1).any():
        held_out = np.zeros(len(names), bool)
        held_out[_validation_subjects(names, counts, np.unique(subject[rows]), fold, validation_fraction)] = True
        part[(part == 0) & held_out[subject]] = 1
    train, validation, test = (np.flatnonzero(part == number) for number in range(3))
    split = Split(train, validation, test)
    check_disjoint(split, faces)
    return split


def check_disjoint(split: Split, faces: FaceSet) -> None:
    """Prove that no image, subject or sequence is in two parts of the split.

    Raises:
        DatasetError: one is; it names what crosses, and where.

    """
    columns = (("image", np.arange(len(faces.labels))), ("subject", faces.subjects), ("sequence", faces.sequences))
    for noun, values in columns:
        names, code = np.unique(values, return_inverse=True)
        held = np.zeros((len(_PARTS), len(names)), bool)
        for number, part in enumerate(_PARTS):
            held[number, code[getattr(split, part)]] = True
            crossing = np.flatnonzero(held[number] & held[:number].any(0))
            if len(crossing):
                first = _PARTS[int(np.argmax(held[:, crossing[0]]))]
                raise DatasetError(
                    f"expected every {noun} in one part of a split, found {noun} {names[crossing[0]].item()!r} in both "
                    f"{first} and {part}; give each person's recordings names of their own."
                )


def judged(other: FaceSet, part: str | None = None) -> Indices:
    """What of another data set a network is judged on: all of it, or one official part.

    There is no fold to hold out, for nothing of `other` is trained on. That nobody crosses cannot be seen in the two sets: their ids
    are given by different hands, so that a name on both sides proves no crossing and none proves no absence of one. It rests on the
    cards, whose `people` say which sets show the same faces; for sets whose card leaves `people` open, see `names_in_both`.

    Args:
        other: the other data set.
        part: "train", "val" or "test"; None for every image.

    Returns:
        Sorted indices into `other`, at least one.

    Raises:
        DatasetError: there is no such part, or it is empty.

    """
    if part is None:
        return np.arange(len(other), dtype=np.int64)
    if part not in OFFICIAL:
        raise DatasetError(f"expected part to be {' or '.join(OFFICIAL)}, found {part!r}.")
    index = np.flatnonzero(other.official == part)
    if not len(index):
        raise DatasetError(
            f"expected images of the official part {part!r} in {other.name}, found {_parts_of(other)}; leave out part."
        )
    return index


def names_in_both(faces: FaceSet, other: FaceSet) -> list[str]:
    """Names of subjects that two sets have in common, sorted: perhaps the same people, where one hand named both."""
    return [str(name) for name in np.intersect1d(faces.subjects, other.subjects)]


def _fold_count(rule: str, folds: int | None, subjects: int) -> int:
    if rule not in RULES:
        raise DatasetError(f"expected the split rule to be {' or '.join(RULES)}, found {rule!r}.")
    if rule == "official":
        if folds not in (None, 1):
            raise DatasetError(
                f"expected 1 fold for the rule official, found {folds}; leave folds out or take another rule, as contiguous."
            )
        return 1
    if rule == "leave_one_out":
        if folds not in (None, subjects):
            raise DatasetError(
                f"expected {subjects} folds, one for each subject, for the rule leave_one_out, found {folds}; "
                "leave folds out or take the rule contiguous."
            )
        folds = max(subjects, 2)
    if folds is None or folds < 2:
        raise DatasetError(f"expected at least 2 folds, found {folds}.")
    if subjects < folds:
        raise DatasetError(
            f"expected at least as many subjects as folds, found {subjects} subjects for {folds} folds; "
            f"ask for at most {subjects} folds or add subjects."
        )
    return folds


def _images(subject: Codes, labels: Indices, subjects: int, classes: int) -> Indices:
    """Images (S, K) of each subject and class."""
    return np.bincount(subject * classes + labels, minlength=subjects * classes).reshape(subjects, classes)


def _official(faces: FaceSet) -> Indices:
    """Part of each image (N,): 0 train, 1 validation, 2 test."""
    present = set(np.unique(faces.official).tolist())
    if "train" not in present or not present & {"val", "test"} or "" in present:
        raise DatasetError(
            f"expected every image of {faces.name} in an official part, train and val or test, for the rule official, found "
            f"{_parts_of(faces)}; take another rule, as contiguous, with a number of folds."
        )
    tested = "test" if "test" in present else "val"
    return np.select([faces.official == tested, faces.official == "val"], [2, 1], 0)


def _parts_of(faces: FaceSet) -> str:
    """The official parts of a set in words, as in "30 images in train and 2 images in val"."""
    parts, counts = np.unique(faces.official, return_counts=True)
    return " and ".join(f"{count} images in {part or 'no part'}" for part, count in zip(parts, counts, strict=True))


def _contiguous(subjects: int, folds: int) -> Indices:
    """Fold of each subject (S,): contiguous runs, the first S % folds of them one longer."""
    runs = np.array_split(np.arange(subjects), folds)
    return np.repeat(np.arange(folds), [len(run) for run in runs])


def _balanced(counts: Indices, folds: int) -> Indices:
    """Fold of each subject (S,) from its images per class (S, K), greedily: those with the largest shares come first.

    Each goes to the fold where it raises the sum of squared shares least; a share is a part of a class's images, or
    of all subjects, so that a rare class weighs as much as a frequent one and folds stay alike in subjects.
    """
    counts = np.hstack([counts, np.ones((len(counts), 1), np.int64)])
    shares = counts / np.maximum(counts.sum(0), 1)
    held = np.zeros((folds, counts.shape[1]))
    fold_of = np.zeros(len(counts), np.int64)
    # A stable sort and argmin, which takes the first of equals, leave nothing to chance.
    for subject in np.argsort(-shares.sum(1), kind="stable"):
        fold_of[subject] = np.argmin(np.round(held @ shares[subject], 12))
        held[fold_of[subject]] += shares[subject]
    return fold_of


def _validation_subjects(
    names: npt.NDArray[np.str_], counts: Indices, training: Indices, fold: int, fraction: float
) -> list[int]:
    """Training subjects to hold out: those first in the order of a hash of fold and name.

    The hash keeps no state and does not depend on the other subjects, so that adding one moves few.
    """
    wanted = max(1, round(fraction * len(training))) if fraction > 0 else 0
    left = counts[training].sum(0)
    digests = [hashlib.sha256(f"{fold}:{name}".encode()).digest() for name in names[training].tolist()]
    chosen: list[int] = []
    for subject in training[np.argsort(np.frombuffer(b"".join(digests), "V32"))].tolist():
        if len(chosen) == wanted:
            break
        if np.all(left > counts[subject]):
            chosen.append(subject)
            left = left - counts[subject]
    if len(chosen) < min(wanted, 1):
        raise DatasetError(
            f"expected a training subject that can be held out for validation in fold {fold}, found that each of the "
            f"{len(training)} is the only one with some class; set protocol.validation_fraction=0 or add subjects."
        )
    return chosen
