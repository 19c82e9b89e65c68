"""Contrastive loss over all pairs of a batch (Hadsell et al., CVPR 2006, the loss over pairs)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.losses.batch import check_batch
from mdml.losses.precision import full_precision, raised


def contrastive(embeddings: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over pairs i < j of d^2 / 2 for one class and max(0, margin - d)^2 / 2 for two.

    d is the plain Euclidean distance, computed from differences, so that coinciding embeddings are exactly 0 apart; they pull in no
    direction. ContrastiveLoss of pytorch-metric-learning differs: its terms are not squared or halved, and same and different pairs
    are averaged apart, each over its non-zero terms. Its terms, squared, halved and averaged over all pairs, are this loss.

    Args:
        embeddings: (B, D) float, usually L2-normalised; half precision is raised to float32.
        labels: (B,) int64.
        margin: distance beyond which two classes cost nothing, in units of distance; 1 for normalised embeddings is our choice.

    Returns:
        () float, with gradient; 0 for a batch of one.

    Raises:
        MethodError: where shapes do not fit.

    """
    check_batch(embeddings, labels)
    batch = len(labels)
    i, j = torch.triu_indices(batch, batch, 1, device=labels.device)
    with full_precision(embeddings):
        distances = torch.pdist(raised(embeddings))
        shortfalls = F.relu(margin - distances)
        terms = torch.where(labels[i] == labels[j], distances, shortfalls).square()
        return terms.sum() / max(1, batch * (batch - 1))
