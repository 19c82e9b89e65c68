"""Coupled clusters loss (Liu et al., Deep relative distance learning, CVPR 2016).

The formula follows a note on the paper, not the paper itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.losses.batch import check_batch
from mdml.losses.precision import full_precision, raised


def coupled_clusters(embeddings: Tensor, labels: Tensor, alpha: float = 0.3) -> Tensor:
    """Mean over samples i of max(0, |f_i - c|^2 + alpha - min_n |f_n - c|^2) / 2, c being the mean of i's class in the batch.

    n runs over all samples of other classes (the batch form, and the division by the number of samples counted, are our choice).
    Samples of a class that the batch has once do not count, but are negatives to others. Distances are squared; the gradient flows
    through c. pytorch-metric-learning has no such loss.

    Args:
        embeddings: (B, D) float, usually L2-normalised; half precision is raised to float32.
        labels: (B,) int64.
        alpha: margin, in units of squared distance; 0.3 is our choice.

    Returns:
        () float, with gradient; 0 where no sample counts, or all are of one class.

    Raises:
        MethodError: where shapes do not fit.

    """
    check_batch(embeddings, labels)
    same = labels[:, None] == labels
    sizes = same.sum(1)
    counted = (sizes > 1) & ~same.all(1)
    with full_precision(embeddings):
        embeddings = raised(embeddings)
        centers = same.to(embeddings) @ embeddings / sizes[:, None]
        own = (embeddings - centers).square().sum(1)
        other = (embeddings[_nearest_other(embeddings, centers, same)] - centers).square().sum(1)
        terms = 0.5 * F.relu(own + alpha - other)
        return (terms * counted).sum() / counted.sum().clamp_min(1)


@torch.no_grad()
def _nearest_other(embeddings: Tensor, centers: Tensor, same: Tensor) -> Tensor:
    """Index of the sample of another class that is nearest to each centre: (B, D), (B, D), (B, B) bool -> (B,) int64."""
    # Centred, so that a common offset does not eat the digits of the products.
    offset = embeddings.mean(0)
    embeddings, centers = embeddings - offset, centers - offset
    # |f_n - c_i|^2 up to a constant of row i.
    far = embeddings.square().sum(1) - 2 * centers @ embeddings.mT
    return far.masked_fill(same, torch.inf).argmin(1)
