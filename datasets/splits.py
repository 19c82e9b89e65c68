"""Splits of a FaceSet by person: K folds of test subjects, and validation subjects out of the training subjects."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datasets.errors import DatasetError
from datasets.faceset import FaceSet

RULES = ("contiguous", "balanced")

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of faces, each a sorted int64 array of indices into a FaceSet."""

    train: Indices
    validation: Indices
    test: Indices


def split_fold(
    faces: FaceSet, *, fold: int, folds: int, rule: str = "contiguous", validation_fraction: float = 0.1
) -> Split:
    """Split a FaceSet for one fold of a K-fold cross-validation over subjects.

    Args:
        faces: the faces; only labels, subjects, sequences and classes are read.
        fold: which fold is the test set, 0 .. folds - 1.
        folds: number of folds K, at least 2 and at most the number of subjects.
        rule: "contiguous", the official rule: subjects sorted by their id as strings and cut into K runs, the first
            n % K of them one longer. "balanced": each class is spread over the folds as evenly as whole subjects allow.
        validation_fraction: share of the fold's training subjects that become validation subjects, rounded to whole
            subjects, at least one where it is above 0; fewer where more would leave a class without training subject.

    Returns:
        The split; no subject and no sequence is in two of its parts, and every class is in `train`.

    Raises:
        DatasetError: an argument is out of its range, there are fewer subjects than folds, or a class is missing
            among the training subjects.

    """
    names, subject = np.unique(faces.subjects, return_inverse=True)
    _check_arguments(len(names), fold, folds, rule, validation_fraction)
    counts = np.zeros((len(names), len(faces.classes)), np.int64)
    np.add.at(counts, (subject, faces.labels), 1)
    fold_of = _contiguous(len(names), folds) if rule == "contiguous" else _balanced(counts, folds)

    training = np.flatnonzero(fold_of != fold)
    missing = np.flatnonzero(counts[training].sum(0) == 0)
    if len(missing):
        raise DatasetError(
            f"expected every class among the training subjects of fold {fold} of {folds}, found nobody with "
            f"{faces.classes[missing[0]]!r}; use the rule balanced, other folds, or more subjects of that class."
        )
    held_out = _validation_subjects(names, counts, training, fold, validation_fraction)
    part = np.where(fold_of == fold, 2, 0)
    part[held_out] = 1
    train, validation, test = (np.flatnonzero(part[subject] == number) for number in range(3))
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
        seen: dict[object, str] = {}
        for part in ("train", "validation", "test"):
            members = values[getattr(split, part)].tolist()
            for value in sorted(set(members)):
                if value in seen:
                    raise DatasetError(
                        f"expected every {noun} in one part of a split, found {noun} {value!r} in both {seen[value]} "
                        f"and {part}; give each person's recordings names of their own."
                    )
                seen[value] = part


def _check_arguments(subjects: int, fold: int, folds: int, rule: str, validation_fraction: float) -> None:
    if rule not in RULES:
        raise DatasetError(f"expected the split rule to be {' or '.join(RULES)}, found {rule!r}.")
    if folds < 2:
        raise DatasetError(f"expected at least 2 folds, found {folds}.")
    if subjects < folds:
        raise DatasetError(
            f"expected at least as many subjects as folds, found {subjects} subjects for {folds} folds; "
            f"ask for at most {subjects} folds or add subjects."
        )
    if not 0 <= fold < folds:
        raise DatasetError(f"expected the fold to be within 0..{folds - 1}, found {fold}.")
    if not 0 <= validation_fraction < 1:
        raise DatasetError(f"expected validation_fraction to be at least 0 and below 1, found {validation_fraction}.")


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
    chosen: list[int] = []
    for subject in sorted(training, key=lambda index: hashlib.sha256(f"{fold}:{names[index]}".encode()).digest()):
        if len(chosen) < wanted and np.all(left > counts[subject]):
            chosen.append(int(subject))
            left = left - counts[subject]
    if len(chosen) < min(wanted, 1):
        raise DatasetError(
            f"expected a training subject that can be held out for validation in fold {fold}, found that each of the "
            f"{len(training)} is the only one with some class; set validation_fraction=0 or add subjects."
        )
    return chosen
