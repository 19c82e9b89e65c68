"""The triplet family: batch-hard mining, conventional and dual triplet loss, over all slices of an embedding at once.

Sources: Yang et al., Multi-threshold Deep Metric Learning for FER (Pattern Recognition 156, 2024), its public code for the factor 1/2
of the dual form; Hermans et al., In Defense of the Triplet Loss (2017), for batch-hard mining.

Convention: d is the plain Euclidean distance (not squared), in [0, 2] for L2-normalised slices. For anchor i, p(i) is the farthest
sample of its class and n(i) the nearest of another class, mined in each slice on its own; ties go to the lowest index. Anchors
without a positive or a negative do not count; a batch without any valid anchor has loss 0, with a graph.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mdml.errors import MethodError
from mdml.losses.precision import full_precision, raised

Form = Literal["conventional", "dual"]
FORMS: tuple[Form, ...] = ("conventional", "dual")
# Embeddings shorter than this are not brought to length 1 but divided by it (1e-10 on the square, as in the paper's code).
GUARD = 1e-5


class BatchHard(NamedTuple):
    """Distances of the mined triplets: `ap` d(i,p), `an` d(i,n), `pn` d(p,n), each (N, B); `valid` (B,) bool."""

    ap: Tensor
    an: Tensor
    pn: Tensor
    valid: Tensor


def normalize_slices(slices: Tensor) -> Tensor:
    """L2-normalise over the last axis, guarded at |f| = 1e-5: (..., D) -> (..., D)."""
    return F.normalize(slices, dim=-1, eps=GUARD)


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
    if normalized:
        # -d(i,j)^2 / 2 up to a constant of row i; the squares matter for rows below the guard, whose length is not 1.
        near = slices @ slices.mT - slices.square().sum(-1).unsqueeze(-2) / 2
    else:
        near = -torch.cdist(slices, slices, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    p = near.masked_fill(~positive, torch.inf).argmin(-1)
    n = near.masked_fill(same, -torch.inf).argmax(-1)
    return p, n, positive.any(1) & ~same.all(1)


class _MinedDistances(torch.autograd.Function):
    """Distances of given triplets, with a backward of one matrix product a slice.

    The gradient of sum_ij w_ij |e_i - e_j| with respect to the embeddings is the Laplacian of the graph with edge weights w_ij / d_ij,
    times the embeddings. Kept from forward to backward: the embeddings, their norms, and the triplets; nothing else of size N x B x D.
    `embeddings` are the slices divided by their `norms` (N, B, 1), or the slices themselves where norms is None.
    """

    @staticmethod
    def forward(
        ctx: Any, slices: Tensor, embeddings: Tensor, norms: Tensor | None, p: Tensor, n: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = embeddings.reshape(-1, embeddings.shape[-1])
        first = torch.arange(0, len(rows), slices.shape[1], device=slices.device)[:, None]
        to_p = rows[(p + first).view(-1)].view_as(embeddings).sub_(embeddings)
        to_n = rows[(n + first).view(-1)].view_as(embeddings).sub_(embeddings)
        ap, an = torch.linalg.vector_norm(to_p, dim=-1), torch.linalg.vector_norm(to_n, dim=-1)
        pn = torch.linalg.vector_norm(to_n.sub_(to_p), dim=-1)
        ctx.save_for_backward(embeddings, p, n, norms, ap, an, pn)
        return ap, an, pn

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        embeddings, p, n, norms, *distances = ctx.saved_tensors
        # Coinciding embeddings pull in no direction: weight 0 instead of 0 / 0.
        ap, an, pn = (
            (gradient / distance).masked_fill_(distance == 0, 0)
            for gradient, distance in zip(gradients, distances, strict=True)
        )
        count, batch, _ = embeddings.shape
        edges = embeddings.new_zeros(count, batch, batch)
        edges.scatter_add_(2, p[:, :, None], ap[:, :, None]).scatter_add_(2, n[:, :, None], an[:, :, None])
        edges.view(count, -1).scatter_add_(1, p * batch + n, pn)
        laplacian = (edges + edges.mT).neg_()
        laplacian.diagonal(dim1=1, dim2=2).sub_(laplacian.sum(2))
        with full_precision(embeddings):
            gradient = laplacian @ embeddings
        if norms is not None:
            along = torch.linalg.vecdot(gradient, embeddings).unsqueeze(-1)
            gradient.addcmul_(embeddings, along.masked_fill_(norms <= GUARD, 0), value=-1).div_(norms)
        return gradient, None, None, None, None


def batch_hard_distances(slices: Tensor, labels: Tensor, normalize: bool = True) -> BatchHard:
    """Mine without gradient, then compute the mined distances with it.

    Args:
        slices: (N, B, D) float, one embedding a slice; half precision is raised to float32.
        labels: (B,) int64.
        normalize: L2-normalise every slice first.

    Returns:
        The three distances of each mined triplet, once differentiable, (N, B) each.

    """
    check_shapes(slices, labels)
    with full_precision(slices):
        full = raised(slices)
        norms = torch.linalg.vector_norm(full.detach(), dim=-1, keepdim=True).clamp_min_(GUARD) if normalize else None
        embeddings = full.detach() if norms is None else full.detach() / norms
        p, n, valid = mine_batch_hard(embeddings, labels, normalize)
        ap, an, pn = _MinedDistances.apply(full, embeddings, norms, p, n)
        return BatchHard(ap, an, pn, valid)


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
