"""What happens inside a metric loss, per slice and epoch: activity, incomplete judgements, collapse.

An incomplete judgement (Yang et al. 2024, fig. 1c) is a valid triplet whose conventional loss is 0 although d(a,p) > d(p,n).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdml.losses.triplet import BatchHard, normalize_slices
from mdml.metrics import euclidean

JUDGED_COMPLETE = 1e-12
MOST_TRIPLETS = 1_000_000
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
    slices, labels = evenly_spaced(slices, labels, most)
    embeddings = normalize_slices(slices.float())
    distances = euclidean.distances(embeddings, embeddings)
    same = labels[:, None] == labels
    pairs = torch.ones_like(same).triu(1)
    inter, intra = pairs & ~same, pairs & same
    return (distances * inter).sum((1, 2)) / inter.sum(), (distances * intra).sum((1, 2)) / intra.sum()


def evenly_spaced(slices: Tensor, labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Slices (N, B, D) and labels (B,) of at most `most` samples, evenly spaced ones where there are more."""
    if len(labels) <= most:
        return slices, labels
    chosen = torch.linspace(0, len(labels) - 1, most, device=labels.device).long()
    return slices[:, chosen], labels[chosen]


@torch.no_grad()
def population_incomplete_rate(
    slices: Tensor, labels: Tensor, thresholds: Tensor, most: int = MOST_TRIPLETS, seed: int = 0
) -> Tensor:
    """Share of incomplete judgements among all valid triplets (a, p, n), mined or not, per slice: (N,) float64 on the host.

    The rate of triplet_rates speaks of the hardest triplet of each anchor in a batch; this one of the embedding as a whole.

    Args:
        slices: (N, M, D) float, to be L2-normalised here; of more than 2048 samples evenly spaced ones are taken.
        labels: (M,) int64.
        thresholds: (N,) float.
        most: of more triplets than this, as many are drawn with replacement, the same in every slice (our choice).
        seed: of that draw.

    Returns:
        NaN where there is no valid triplet.

    """
    slices, labels = evenly_spaced(slices, labels, 2048)
    order, number = labels.argsort(stable=True), len(labels)
    triplets = _triplets(labels[order].cpu(), most, seed)
    if triplets is None:
        return torch.full((len(slices),), torch.nan, dtype=torch.float64)
    a, p, n = (index.to(slices.device) for index in triplets)
    places = (a * number + p, a * number + n, p * number + n)
    rates = []
    for points, threshold in zip(normalize_slices(slices[:, order]), thresholds.tolist(), strict=True):
        distances = euclidean.distances(points, points).flatten()
        ap, an, pn = (distances.index_select(0, place) for place in places)
        rates.append(((ap - an + threshold <= JUDGED_COMPLETE) & (ap > pn)).double().mean().cpu())
    return torch.stack(rates)


def _triplets(labels: Tensor, most: int, seed: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Anchors, positives and negatives (T,) of sorted labels (M,): all valid triplets, or `most` drawn ones; None without any.

    Drawn ones have their anchors in every class in proportion to its triplets, and are drawn evenly within it.
    """
    sizes = labels.unique_consecutive(return_counts=True)[1]
    first, positives, negatives = sizes.cumsum(0) - sizes, sizes - 1, len(labels) - sizes
    valid = sizes * positives * negatives
    total = int(valid.sum())
    if total == 0:
        return None
    count = min(total, most)
    ends = valid.cumsum(0) * count // total
    members = torch.arange(len(sizes)).repeat_interleave(ends.diff(prepend=ends.new_zeros(1)))
    size, start, others = sizes[members], first[members], negatives[members]
    if total <= most:
        place = torch.arange(total) - (valid.cumsum(0) - valid)[members]
        anchor, step, n = place // others // (size - 1), place // others % (size - 1), place % others
    else:
        generator = torch.Generator().manual_seed(seed)
        anchor, step, n = (
            (torch.rand(count, dtype=torch.float64, generator=generator) * limit).long()
            for limit in (size, size - 1, others)
        )
    # The positive is a later member of the anchor's class, in turns; the negative's number skips that class.
    return start + anchor, start + (anchor + 1 + step) % size, n + size * (n >= start)
