"""Sub-classes: the components of a Gaussian mixture inside each original class.

Source: Marrero-Fernandez et al. (2020), Algorithm 2, and its public code for the limit on the components of a small class. That code also
means to leave classes below 100 images whole but divides them, and so do we. Sub-classes of less than 2 images are merged, which is our
choice: they would have no other member to be drawn to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mdml.errors import MethodError
from mdml.subspace.mixture import fit_mixture, ranked

IMAGES_PER_COMPONENT = 10  # a class of n images has at most n / 10 components, as in the paper's code
LEAST = 2  # members of a sub-class


class SubClasses(NamedTuple):
    """Sub-classes of a training set.

    Attributes:
        labels: (M,) int64. The k-th sub-class of class c, the largest being the 0th, is k x C + c: with one sub-class each, they are
            the classes themselves, and the class of sub-class g is always g mod C.
        diagonal: classes whose mixture has diagonal covariances for want of vectors.

    """

    labels: npt.NDArray[np.int64]
    diagonal: tuple[int, ...]


def split_classes(
    vectors: npt.NDArray[Any], labels: npt.NDArray[np.int64], classes: int, components: int, seed: int
) -> SubClasses:
    """Fit a mixture inside each class; its components are the sub-classes.

    Args:
        vectors: (M, D) float, the embedding.
        labels: (M,) int64, the original classes, 0 .. C - 1.
        classes: C.
        components: of every class; a class of n images gets at most n / 10, and at least one.
        seed: at least 0; every class draws its own from it.

    Raises:
        MethodError: where labels do not fit the vectors or the classes, or vectors are not finite.

    """
    if labels.shape != vectors.shape[:1]:
        raise MethodError(f"Expected one label for each of the {len(vectors)} vectors, found labels {labels.shape}.")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise MethodError(f"Expected labels 0 to {classes - 1}, found {labels.min()} to {labels.max()}.")
    found = np.zeros(len(labels), np.int64)
    diagonal = []
    for label, own in enumerate(np.random.SeedSequence((seed, components)).generate_state(classes)):
        rows = np.flatnonzero(labels == label)
        if not len(rows):
            continue
        mixture = fit_mixture(vectors[rows], min(components, max(1, len(rows) // IMAGES_PER_COMPONENT)), int(own))
        members = merge_small(vectors[rows], mixture.members)
        found[rows] = members * classes + label
        if mixture.covariance == "diag":
            diagonal.append(label)
    return SubClasses(found, tuple(diagonal))


def merge_small(vectors: npt.NDArray[Any], members: npt.NDArray[np.int64], least: int = LEAST) -> npt.NDArray[np.int64]:
    """Merge groups of fewer than `least` vectors, the smallest first, into the group whose mean is nearest to theirs.

    Args:
        vectors: (M, D) float.
        members: (M,) int64, group of every vector.
        least: members that a group must have; a last group stays, however small.

    Returns:
        (M,) int64, numbered from 0: the largest first and, of equally large ones, that of the first vector first.

    """
    members = ranked(members)
    while (counts := np.bincount(members))[-1] < least and len(counts) > 1:
        means = np.stack([vectors[members == group].mean(0) for group in range(len(counts))])
        nearest = np.linalg.norm(means[:-1] - means[-1], axis=1).argmin()
        members = ranked(np.where(members == len(counts) - 1, nearest, members))
    return members
