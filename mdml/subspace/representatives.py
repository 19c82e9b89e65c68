"""The members that stand for a group: its medoid and those nearest to it.

Source: Marrero-Fernandez et al. (2020), figure 8: the medoid first, then its nearest, 16 in all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mdml.errors import MethodError

SHOWN = 16


def medoid(vectors: npt.NDArray[Any]) -> int:
    """Position of the vector (M, D) closest to the mean of all, in Euclidean distance; ties to the first.

    Raises:
        MethodError: for no vectors.

    """
    if vectors.ndim != 2 or not len(vectors):
        raise MethodError(f"The medoid of a group needs vectors (M, D) with M at least 1, found {vectors.shape}.")
    return int(_distances(vectors, vectors.mean(0, dtype=np.float64)).argmin())


def nearest_to_medoid(vectors: npt.NDArray[Any], k: int = SHOWN) -> npt.NDArray[np.int64]:
    """Positions of the k vectors nearest to the medoid, nearest first: (min(k, M),) int64.

    The medoid itself comes first, also before vectors equal to it; ties go to the first.
    """
    centre = medoid(vectors)
    distances = _distances(vectors, vectors[centre])
    distances[centre] = -1
    return distances.argsort(kind="stable")[:k].astype(np.int64)


def representatives(
    vectors: npt.NDArray[Any], groups: npt.NDArray[np.int64], k: int = SHOWN
) -> dict[int, npt.NDArray[np.int64]]:
    """Group -> positions of the k members nearest to its medoid, which comes first.

    Args:
        vectors: (M, D) float.
        groups: (M,) int64, any numbers; the result is in their order.
        k: members of a group; a smaller group gives all it has.

    """
    chosen = {}
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        chosen[int(group)] = rows[nearest_to_medoid(vectors[rows], k)]
    return chosen


def _distances(vectors: npt.NDArray[Any], point: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.linalg.norm(vectors.astype(np.float64) - point.astype(np.float64), axis=1)
