"""What happens inside a metric loss, per slice and epoch: activity, incomplete judgements, collapse.

An incomplete judgement (Yang et al. 2024, fig. 1c) is a valid triplet whose conventional loss is 0 although d(a,p) > d(p,n).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdml.losses.triplet import BatchHard, normalize_slices

JUDGED_COMPLETE = 1e-12
RATES = ("active_rate", "incomplete_rate", "flip_rate", "positive_distance", "negative_distance", "cross_distance")


@torch.no_grad()
def triplet_rates(mined: BatchHard, thresholds: Tensor) -> Tensor:
    """Sums over the valid anchors of a batch.

    Returns:
        (7, N) float: one row for each of RATES, in that order, and last the count of valid anchors. Rates follow from the sums of
        many batches by division, which keeps the training step free of host synchronisation.

    """
    ap, an, pn, valid = mined
    h1 = ap - an + thresholds[:, None].to(ap)
    flipped = ap > pn
    rows = torch.stack(
        [(h1 > JUDGED_COMPLETE).to(ap), ((h1 <= JUDGED_COMPLETE) & flipped).to(ap), flipped.to(ap), ap, an, pn]
    )
    counts = valid.sum().to(ap).expand(1, len(ap))
    return torch.cat([(rows * valid).sum(-1), counts])


@torch.no_grad()
def spread(slices: Tensor) -> Tensor:
    """Root mean square distance between two different samples of a batch, per slice: (N, B, D) -> (N,).

    In L2-normalised slices; 0 says that the embedding has collapsed to a point (the triplet loss then equals its threshold).
    """
    embeddings = normalize_slices(slices.float())
    batch = embeddings.shape[1]
    variance = (embeddings - embeddings.mean(1, keepdim=True)).square().sum((1, 2)) / (batch - 1)
    return (2 * variance).sqrt()


@torch.no_grad()
def class_distances(slices: Tensor, labels: Tensor, most: int = 1024) -> tuple[Tensor, Tensor]:
    """Mean distance between samples of different classes and of the same class, per slice.

    Args:
        slices: (N, B, D) float.
        labels: (B,) int64.
        most: of more samples than this, evenly spaced ones are taken.

    Returns:
        inter, intra: (N,) float each, on L2-normalised slices; NaN where there is no such pair.

    """
    if len(labels) > most:
        chosen = torch.linspace(0, len(labels) - 1, most, device=labels.device).long()
        slices, labels = slices[:, chosen], labels[chosen]
    embeddings = normalize_slices(slices.float())
    distances = torch.cdist(embeddings, embeddings)
    same = labels[:, None] == labels
    pairs = torch.ones_like(same).triu(1)
    inter, intra = pairs & ~same, pairs & same
    return (distances * inter).sum((1, 2)) / inter.sum(), (distances * intra).sum((1, 2)) / intra.sum()
