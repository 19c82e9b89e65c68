"""How far apart two images lie: the distribution of distances between classes and within them, slice by slice.

Source: Yang et al. 2024, fig. 3, whose "inter-class variation" is taken to be the distances of pairs of different classes (the natural
reading; the paper's text was not available). All pairs of classes are given besides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdml.diagnostics import evenly_spaced
from mdml.losses.triplet import normalize_slices

BINS, FARTHEST = 100, 2.0
Distances = npt.NDArray[np.floating]


class Pairs(NamedTuple):
    """Which pairs of images: `kind` inter or intra; of all classes, or of `first` and `second` (first <= second)."""

    kind: str
    first: int | None = None
    second: int | None = None


class Distribution(NamedTuple):
    """`counts` (100,) of the distances in bins of equal width on [0, 2], their mean, standard deviation, and percentiles."""

    counts: npt.NDArray[np.int64]
    mean: float
    std: float
    p5: float
    p95: float


@torch.no_grad()
def distance_distributions(slices: Tensor, labels: Tensor, most: int = 2048) -> list[dict[Pairs, Distribution]]:
    """Distributions of the distances of all pairs i < j, for each slice.

    Args:
        slices: (N, M, D) float, to be L2-normalised here.
        labels: (M,) int64.
        most: of more images than this, evenly spaced ones are taken.

    Returns:
        N dicts; what has no pair is left out.

    """
    slices, labels = evenly_spaced(slices, labels, most)
    order = labels.argsort(stable=True)
    classes, sizes = labels.unique(return_counts=True)
    names, ends = classes.tolist(), sizes.cumsum(0).tolist()
    spans = list(zip(names, [0, *ends[:-1]], ends, strict=True))
    # One slice at a time: seven matrices of 2048 x 2048 would take as much as the network.
    return [_of_slice(points, spans) for points in normalize_slices(slices[:, order])]


def _of_slice(points: Tensor, spans: list[tuple[int, int, int]]) -> dict[Pairs, Distribution]:
    """Distributions of points (M, D) that are sorted by class; spans: (class, first, end)."""
    matrix = torch.cdist(points, points).clamp_(max=FARTHEST).cpu().numpy()
    found: dict[Pairs, Distances] = {}
    for place, (first, start, end) in enumerate(spans):
        found[Pairs("intra", first, first)] = matrix[start:end, start:end][np.triu_indices(end - start, 1)]
        for second, begin, stop in spans[place + 1 :]:
            found[Pairs("inter", first, second)] = matrix[start:end, begin:stop].ravel()
    for kind in ("inter", "intra"):
        parts = [values for pairs, values in found.items() if pairs.kind == kind]
        found[Pairs(kind)] = np.concatenate(parts) if parts else np.empty(0)
    return {pairs: _distribution(values) for pairs, values in found.items() if len(values)}


def _distribution(values: Distances) -> Distribution:
    counts = np.histogram(values, BINS, (0, FARTHEST))[0]
    low, high = np.percentile(values, (5, 95))
    mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return Distribution(counts, float(mean), float(std), float(low), float(high))
