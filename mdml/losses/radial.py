"""Radial metric learning (RML): queries inside a sphere around the centre of their class, references outside a larger one.

Sources: Liu et al., Hard negative generation for identity-disentangled FER (Pattern Recognition 88, 2019), eq. 8 (fixed form), eq. 9-16
(adaptive form). The signs and primes that the available text lost were restored by derivation: g = D - S, the distance to the centre
less the reference distance, which both sign conventions of the paper come to.

Convention: with h the hinge, half a margin, a query is pulled in to g <= -h and a reference pushed out to g >= h. Where both are in
one place the two terms sum to 2 h at least. Centres are means of the queries; references are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.losses.batch import check_batch
from mdml.losses.precision import full_precision, raised

# Thresholds of the adaptive form at its start: 1 for the queries, 3 for the references (our choice).
START = 2.0


@dataclass(frozen=True)
class FixedRadius:
    """The fixed form: g(f, C) = |f - C|^2 - threshold, and a shell of `margin` around it (eq. 8).

    threshold = margin / 2 is the center loss, with a push of the references beside it.

    Args:
        threshold: T, a squared distance.
        margin: t, between the sphere of the queries and that of the references, a squared distance.

    """

    threshold: float = START
    margin: float = 2.0

    def __post_init__(self) -> None:
        for name in ("threshold", "margin"):
            if not 0 <= getattr(self, name) < math.inf:
                raise MethodError(
                    f"The {name} of a radius must be finite and not negative, found {getattr(self, name)}."
                )

    @property
    def hinge(self) -> float:
        """Half the margin."""
        return self.margin / 2

    def __call__(self, embeddings: Tensor, centers: Tensor) -> Tensor:
        """(..., D), (..., D) float -> (...)."""
        return (embeddings - centers).square().sum(-1) - self.threshold


class RadialMetric(nn.Module):
    """The adaptive form: a learned quadratic, symmetric in its two arguments (eq. 9-16).

    g(f1, f2) = |A f1|^2 / 2 + |A f2|^2 / 2 - (B f1).(B f2) + c.(f1 + f2) + b

    It starts as the fixed form with threshold 2: A = B = sqrt(2) I, c = 0, b = -2 (our choice).

    Args:
        width: D.

    """

    hinge = 1.0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = nn.Parameter(math.sqrt(2) * torch.eye(width))
        self.b = nn.Parameter(math.sqrt(2) * torch.eye(width))
        self.linear = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.tensor(-START))

    def forward(self, embeddings: Tensor, centers: Tensor) -> Tensor:
        """(..., D), (..., D) float -> (...); half precision is raised to float32."""
        with full_precision(embeddings):
            one, two = torch.broadcast_tensors(raised(embeddings), raised(centers))
            a, b, linear, bias = (weight.to(one.dtype) for weight in (self.a, self.b, self.linear, self.bias))
            squares = (F.linear(one, a).square() + F.linear(two, a).square()).sum(-1) / 2
            return squares - (F.linear(one, b) * F.linear(two, b)).sum(-1) + (one + two) @ linear + bias


Metric: TypeAlias = FixedRadius | RadialMetric


class RunningCenters(nn.Module):
    """Centres of the classes over the batches: C <- (1 - rate) C + rate * batch mean, without gradient.

    A class that is met for the first time starts at its batch mean. Nothing moves in evaluation mode.

    Args:
        classes: number of classes C.
        width: D.
        rate: of the newest batch; 0.5 is our choice, after the step of the center loss.

    """

    means: Tensor
    seen: Tensor

    def __init__(self, classes: int, width: int, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("means", torch.zeros(classes, width))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    @torch.no_grad()
    def forward(self, queries: Tensor, labels: Tensor) -> Tensor:
        """Move towards a batch, then give the centre of every query's class: (K, D), (K,) -> (K, D)."""
        if self.training:
            with full_precision(queries):
                members = (labels == torch.arange(len(self.means), device=labels.device)[:, None]).to(self.means)
                counts = members.sum(1, keepdim=True)
                means = members @ queries.to(self.means) / counts.clamp_min(1)
            rate = torch.where(self.seen[:, None], self.rate, 1.0) * (counts > 0)
            self.means += rate * (means - self.means)
            self.seen |= counts[:, 0] > 0
        return self.means[labels].to(raised(queries).dtype)


def batch_centers(queries: Tensor, labels: Tensor) -> Tensor:
    """The mean of every query's class in the batch, with gradient: (K, D) float, (K,) int64 -> (K, D)."""
    with full_precision(queries):
        queries = raised(queries)
        same = (labels[:, None] == labels).to(queries)
        return same @ queries / same.sum(1, keepdim=True)


def radial_loss(
    queries: Tensor, references: Tensor, labels: Tensor, metric: Metric, centers: Tensor | None = None
) -> Tensor:
    """Mean over the queries of max(0, h + g(query, centre)) + max(0, h - g(reference, centre)).

    The paper's eq. 8 and 16 divide by K, its Algorithm 2 does not: the mean is taken.

    Args:
        queries: (K, D) float; half precision is raised to float32.
        references: (K, D) float, a hard negative for each query.
        labels: (K,) int64 of the queries.
        metric: g and its hinge h.
        centers: (K, D), the centre of each query's class; None for the means of the batch, with gradient (our choice).

    Returns:
        () float, with gradient.

    Raises:
        MethodError: where shapes or types do not fit.

    """
    check_batch(queries, labels)
    if references.shape != queries.shape:
        raise MethodError(
            f"Expected one reference for each of the queries {tuple(queries.shape)}, found {tuple(references.shape)}."
        )
    queries, references = raised(queries), raised(references)
    if centers is None:
        centers = batch_centers(queries, labels)
    inner, outer = metric(queries, centers), metric(references, centers)
    return (F.relu(metric.hinge + inner) + F.relu(metric.hinge - outer)).mean()
