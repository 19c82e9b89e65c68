"""Heads: what a method puts on the feature of a trunk to get an embedding and a classifier."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Output(NamedTuple):
    """What a network gives for a batch: `slices` (N, B, D), before relu and normalisation, and `logits` (B, C).

    `logits` is None where the method has no classifier. `extra` is what a head gives to its own method's loss besides: a module with
    learned parameters or running means, or a tensor.
    """

    slices: Tensor
    logits: Tensor | None
    extra: Any = None


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
        linear: whether the classifier sees the slices themselves, without relu and dropout, as in the public code of the
            single-threshold method.

    """

    def __init__(
        self, in_features: int, classes: int, slices: int, slice_dim: int, dropout: float, linear: bool = False
    ) -> None:
        super().__init__()
        self.slices, self.slice_dim, self.linear = slices, slice_dim, linear
        self.embed = nn.Linear(in_features, slices * slice_dim)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(slices * slice_dim, classes)

    def forward(self, features: Tensor) -> Output:
        """(B, in_features) float -> Output."""
        embedding = self.embed(features)
        slices = embedding.unflatten(1, (self.slices, self.slice_dim)).transpose(0, 1)
        return Output(slices, self.classify(embedding if self.linear else self.dropout(F.relu(embedding))))


class EmbeddingHead(nn.Module):
    """Linear(in, D) and no classifier: the head of methods that predict by nearest neighbours."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(in_features, width)

    def forward(self, features: Tensor) -> Output:
        """(B, in_features) float -> Output with slices (1, B, D) and no logits."""
        return Output(self.embed(features)[None], None)
