"""The sliced head: N parallel embeddings of one trunk feature, and one classifier on all of them."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Output(NamedTuple):
    """What a network gives for a batch: `slices` (N, B, D), before relu and normalisation, and `logits` (B, C)."""

    slices: Tensor
    logits: Tensor


class SlicedHead(nn.Module):
    """Linear(in, N x D) cut into N slices; logits = Linear(N x D, C)(dropout(relu(slices))).

    Source: Yang et al. 2024, as in its public code: the metric loss sees the slice before relu, L2-normalised; the classifier sees
    the unnormalised relu of all slices. With one slice it is the head of the single-threshold and softmax methods.

    Args:
        in_features: width of the trunk's feature.
        classes: number of classes C.
        slices: N.
        slice_dim: D, the width of one slice.
        dropout: probability of dropping a unit before the classifier.

    """

    def __init__(self, in_features: int, classes: int, slices: int, slice_dim: int, dropout: float) -> None:
        super().__init__()
        self.slices, self.slice_dim = slices, slice_dim
        self.embed = nn.Linear(in_features, slices * slice_dim)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(slices * slice_dim, classes)

    def forward(self, features: Tensor) -> Output:
        """(B, in_features) float -> Output."""
        embedding = self.embed(features)
        slices = embedding.unflatten(1, (self.slices, self.slice_dim)).transpose(0, 1)
        return Output(slices, self.classify(self.dropout(F.relu(embedding))))
