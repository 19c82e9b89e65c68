"""The triplet family: batch-hard mining, conventional and dual triplet loss, over all slices of an embedding at once.

Sources: Yang et al., Multi-threshold Deep Metric Learning for FER (Pattern Recognition 156, 2024), its public code for the factor 1/2
of the dual form; Hermans et al., In Defense of the Triplet Loss (2017), for batch-hard mining.

Convention: d is the plain Euclidean distance (not squared), in [0, 2] for L2-normalised slices. For anchor i, p(i) is the farthest
sample of its class and n(i) the nearest of another class, mined in each slice on its own; ties go to the lowest index. Anchors
without a positive or a negative do not count; a batch without any valid anchor has loss 0, with a graph.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.errors import MethodError

Form = Literal["conventional", "dual"]
FORMS: tuple[Form, ...] = ("conventional", "dual")


class BatchHard(NamedTuple):
    """Distances of the mined triplets: `ap` d(i,p), `an` d(i,n), `pn` d(p,n), each (N, B); `valid` (B,) bool."""

    ap: Tensor
    an: Tensor
    pn: Tensor
    valid: Tensor


def normalize_slices(slices: Tensor) -> Tensor:
    """L2-normalise over the last axis, guarded at |f|^2 = 1e-10: (..., D) -> (..., D)."""
    return slices / slices.square().sum(-1, keepdim=True).clamp_min(1e-10).sqrt()


def _distance(u: Tensor, v: Tensor) -> Tensor:
    """Euclidean distance over the last axis, with gradient 0 (not NaN) where u and v coincide."""
    square = (u - v).square().sum(-1)
    coincide = square == 0
    return (square + 1e-16 * coincide).sqrt() * ~coincide


@torch.no_grad()
def mine_batch_hard(slices: Tensor, labels: Tensor, normalized: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The hardest positive and negative of every anchor in every slice.

    Args:
        slices: (N, B, D) float; `normalized` says that every row has length 1, so that similarity orders as distance does.
        labels: (B,) int64.
        normalized: whether to mine on the similarity matrix (fast) or on exact distances.

    Returns:
        p, n: (N, B) int64 indices into the batch (0 where there is none); valid: (B,) bool.
    """
    near = slices @ slices.mT if normalized else -torch.cdist(slices, slices, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    p = near.masked_fill(~positive, torch.inf).argmin(-1)
    n = near.masked_fill(same, -torch.inf).argmax(-1)
    return p, n, positive.any(1) & ~same.all(1)


def batch_hard_distances(slices: Tensor, labels: Tensor, normalize: bool = True) -> BatchHard:
    """Mine without gradient, then recompute the mined distances with it, so that backward never meets a B x B matrix.

    Args:
        slices: (N, B, D) float, one embedding a slice; half precision is raised to float32.
        labels: (B,) int64.
        normalize: L2-normalise every slice first.

    Returns:
        The three distances of each mined triplet, differentiable, (N, B) each.
    """
    check_shapes(slices, labels)
    with torch.autocast(slices.device.type, enabled=False):
        embeddings = slices if slices.dtype == torch.float64 else slices.float()
        if normalize:
            embeddings = normalize_slices(embeddings)
        p, n, valid = mine_batch_hard(embeddings, labels, normalize)
        rows = embeddings.reshape(-1, embeddings.shape[-1])
        first = torch.arange(0, rows.shape[0], len(labels), device=labels.device)[:, None]
        positives, negatives = F.embedding(p + first, rows), F.embedding(n + first, rows)
        return BatchHard(
            _distance(embeddings, positives), _distance(embeddings, negatives), _distance(positives, negatives), valid
        )


def triplet_terms(mined: BatchHard, thresholds: Tensor, form: Form) -> Tensor:
    """Loss of every anchor, (N, B): h1, or (h1 + h2) / 2 for the dual form.

    h1 = max(0, d(i,p) - d(i,n) + t) and h2 = max(0, d(i,p) - d(p,n) + t), t being the threshold of the slice.
    """
    reach = mined.ap + thresholds[:, None].to(mined.ap)
    h1 = F.relu(reach - mined.an)
    return h1 if form == "conventional" else 0.5 * (h1 + F.relu(reach - mined.pn))


def mean_over_valid(terms: Tensor, valid: Tensor) -> Tensor:
    """Mean of (N, B) terms over the valid anchors: (N,); 0, with a graph, where no anchor is valid."""
    return (terms * valid).sum(-1) / valid.sum().clamp_min(1)


def batch_hard_triplet(
    slices: Tensor, labels: Tensor, thresholds: Tensor, form: Form = "conventional", normalize: bool = True
) -> Tensor:
    """Batch-hard triplet loss of N slices, each with a threshold of its own, in one batched computation.

    Args:
        slices: (N, B, D) float, one embedding a slice.
        labels: (B,) int64 class ids.
        thresholds: (N,) float, the margin of each slice, in units of distance.
        form: "conventional" (Hermans et al. 2017) or "dual" (Yang et al. 2024).
        normalize: L2-normalise every slice first, as the paper does.

    Returns:
        (N,) float, the mean over valid anchors of each slice, with gradient.

    Raises:
        MethodError: where shapes or the form do not fit.
    """
    if form not in FORMS:
        raise MethodError(f'The form of a triplet loss is "conventional" or "dual", not {form!r}.')
    if thresholds.shape != slices.shape[:1]:
        raise MethodError(
            f"Expected one threshold for each of the {len(slices)} slices, found thresholds of shape {tuple(thresholds.shape)}."
        )
    mined = batch_hard_distances(slices, labels, normalize)
    return mean_over_valid(triplet_terms(mined, thresholds, form), mined.valid)


def check_shapes(slices: Tensor, labels: Tensor) -> None:
    """Raise MethodError unless slices are (N, B, D) float and labels (B,) int64."""
    if slices.ndim != 3 or not slices.is_floating_point():
        raise MethodError(f"Expected slices (N, B, D) float, found {tuple(slices.shape)} {slices.dtype}.")
    if labels.shape != slices.shape[1:2] or labels.dtype != torch.int64:
        raise MethodError(
            f"Expected labels ({slices.shape[1]},) int64 for slices {tuple(slices.shape)}, "
            f"found {tuple(labels.shape)} {labels.dtype}."
        )
