"""Tuplet clusters loss, 2B(N+M): each query with N images of its class and M of other classes, around the mean of the former.

Sources: Liu et al., Adaptive deep metric learning for identity-aware FER (CVPR workshops 2017), and its restatement in Liu et al.,
Pattern Recognition 88, 2019. Division by the violators alone (N*, M*) is recalled from the paper, not verified.

Convention: g is that of mdml.losses.radial, fixed (|f - c|^2 - T, with the hinge h = a/2) or adaptive (h = 1). The query counts among the
positives, in the centre as in the loss (our choice). A Mahalanobis distance in the fixed form would be one more linear layer after
the last one of the embedding, which is one already: it is left out.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.errors import MethodError
from mdml.losses.precision import full_precision, raised
from mdml.losses.radial import Metric

Reduction = Literal["violators", "all"]
REDUCTIONS: tuple[Reduction, ...] = ("violators", "all")


def tuplet_clusters(
    queries: Tensor, positives: Tensor, negatives: Tensor, metric: Metric, reduction: Reduction = "violators"
) -> Tensor:
    """Mean over the queries of mean_i max(0, h + g(positive_i, c)) + mean_j max(0, h - g(negative_j, c)).

    Args:
        queries: (K, D) float; half precision is raised to float32.
        positives: (K, N, D) float, of the query's class.
        negatives: (K, M, D) float, of other classes.
        metric: g and its hinge h.
        reduction: the means are over the terms above 0 ("violators"; no such term gives 0), or over all terms ("all").

    Returns:
        () float, with gradient.

    Raises:
        MethodError: where shapes or the reduction do not fit.

    """
    if reduction not in REDUCTIONS:
        raise MethodError(f'The reduction of a tuplet is "violators" or "all", not {reduction!r}.')
    _check(queries, positives, negatives)
    with full_precision(queries):
        positives = torch.cat([raised(queries)[:, None], raised(positives)], 1)
        center = positives.mean(1, keepdim=True)
        pull = F.relu(metric.hinge + metric(positives, center))
        push = F.relu(metric.hinge - metric(raised(negatives), center))
        return (_reduced(pull, reduction) + _reduced(push, reduction)).mean()


def _reduced(terms: Tensor, reduction: Reduction) -> Tensor:
    """(K, N) -> (K,)."""
    if reduction == "all":
        return terms.sum(1) / max(1, terms.shape[1])
    return terms.sum(1) / (terms > 0).sum(1).clamp_min(1)


def _check(queries: Tensor, positives: Tensor, negatives: Tensor) -> None:
    shapes = [tuple(part.shape) for part in (queries, positives, negatives)]
    tuplets = all(len(shape) == 3 and (shape[0], shape[2]) == shapes[0] for shape in shapes[1:])
    if queries.ndim != 2 or not queries.is_floating_point() or not tuplets:
        raise MethodError(
            f"Expected queries (K, D) float, positives (K, N, D) and negatives (K, M, D), found {shapes[0]} {queries.dtype}, "
            f"{shapes[1]} and {shapes[2]}."
        )
