"""Euclidean distances that keep their digits far from the origin.

torch.cdist takes |a|^2 + |b|^2 - 2 a.b for more than 25 rows, which loses as many digits as the squares have before those of the distance.
What all points share does not change a distance: about their mean, little of it is left.
"""

from __future__ import annotations

import torch
from torch import Tensor


def about_mean(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Both less the mean of `points`: (..., M, D), (..., P, D) float, of the same shapes."""
    mean = points.mean(-2, keepdim=True)
    return points - mean, others - mean


def distances(points: Tensor, others: Tensor) -> Tensor:
    """Distance of every row to every other: (..., M, D), (..., P, D) float -> (..., M, P)."""
    return torch.cdist(*about_mean(points, others))
