"""How far apart two images lie: the distribution of distances between classes and within them, slice by slice.

Source: Yang et al. 2024, fig. 3, whose "inter-class variation" is taken to be the distances of pairs of different classes (the natural
reading; the paper's text was not available). All pairs of classes are given besides.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdml.diagnostics import evenly_spaced
from mdml.losses.triplet import normalize_slices
from mdml.metrics import euclidean

BINS, FARTHEST = 100, 2.0
# Percentiles are read from a finer histogram, which takes one pass where sorting would take twenty; they are right to 0.0004.
_FINE = 50


class Pairs(NamedTuple):
    """Which pairs of images: `kind` inter or intra; of all classes, or of `first` and `second` (first <= second)."""

    kind: str
    first: int | None = None
    second: int | None = None


class Distribution(NamedTuple):
    """`counts` of the distances in 100 bins of equal width on [0, 2], their mean, standard deviation, 5th and 95th percentile."""

    counts: list[int]
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
    classes, members = labels.unique(return_inverse=True)
    number, device = len(classes), labels.device
    # A group of pairs is the number of its lower class x classes + that of its higher class, the fine bins within it.
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=device)
    low, high = torch.minimum(members[first], members[second]), torch.maximum(members[first], members[second])
    places, offsets = first * len(labels) + second, (low * number + high) * (BINS * _FINE)
    one_hot = torch.nn.functional.one_hot(members, number).to(slices.dtype)
    found = []
    # One slice at a time: seven matrices of 2048 x 2048 would take as much as the network.
    for points in normalize_slices(slices):
        matrix = euclidean.distances(points, points).clamp_(max=FARTHEST)
        bins = (matrix.flatten().index_select(0, places) * (BINS * _FINE / FARTHEST)).long()
        bins.clamp_(max=BINS * _FINE - 1)
        fine = torch.bincount(bins + offsets, minlength=number**2 * BINS * _FINE).view(number, number, -1)
        # Moments about the middle of the range lose no digits to their difference.
        shifted = (matrix - FARTHEST / 2).fill_diagonal_(0)
        sums, squares = ((one_hot.T @ powers @ one_hot).double().cpu() for powers in (shifted, shifted.square()))
        found.append(_by_pairs(classes.tolist(), fine.cpu(), sums, squares))
    return found


def _by_pairs(classes: list[int], fine: Tensor, sums: Tensor, squares: Tensor) -> dict[Pairs, Distribution]:
    """Distributions from fine counts (C, C, BINS x FINE) above the diagonal, and moments of both halves (C, C)."""
    upper = torch.ones_like(sums).triu(1)
    weights = upper + torch.eye(len(classes), dtype=upper.dtype) / 2
    sums, squares = sums * weights, squares * weights
    parts = {"inter": upper.bool(), "intra": torch.eye(len(classes), dtype=torch.bool)}
    found = {}
    for kind, mask in parts.items():
        found[Pairs(kind)] = _distribution(fine[mask].sum(0), sums[mask].sum(), squares[mask].sum())
        for i, j in mask.nonzero().tolist():
            found[Pairs(kind, classes[i], classes[j])] = _distribution(fine[i, j], sums[i, j], squares[i, j])
    return {pairs: one for pairs, one in found.items() if one is not None}


def _distribution(fine: Tensor, total: Tensor, squares: Tensor) -> Distribution | None:
    """From fine counts (BINS x FINE,), the sum of d - 1 and of its square; None without a pair."""
    below = fine.cumsum(0)
    pairs = int(below[-1])
    if pairs == 0:
        return None
    shifted = total.item() / pairs
    std = max(0.0, squares.item() / pairs - shifted**2) ** 0.5
    low, high = (_percentile(fine, below, share * (pairs - 1)) for share in (0.05, 0.95))
    return Distribution(fine.view(BINS, _FINE).sum(1).tolist(), FARTHEST / 2 + shifted, std, low, high)


def _percentile(fine: Tensor, below: Tensor, rank: float) -> float:
    """The value at a rank from 0, between two values where it is between two ranks, as numpy's percentiles are."""
    ranks = torch.tensor([int(rank), min(int(rank) + 1, int(below[-1]) - 1)])
    at = torch.searchsorted(below, ranks, right=True)
    within = (ranks - (below - fine)[at] + 0.5) / fine[at]
    lower, upper = ((at + within) * (FARTHEST / (BINS * _FINE))).tolist()
    return float(lower + (rank - int(rank)) * (upper - lower))
