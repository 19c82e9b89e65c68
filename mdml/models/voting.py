"""The voting head: N parallel embeddings of one trunk feature, each with a classifier of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdml.models.head import Output


class VotingHead(nn.Module):
    """Linear(in, N x D) cut into N slices; logits_i = Linear(D, C)(dropout(relu(slice_i))).

    Source: the per-slice softmax in the public code of Yang et al. 2024. The N classifiers are one batched product; each starts as a
    linear layer of its own would.

    Args:
        in_features: width of the trunk's feature.
        classes: number of classes C.
        slices: N.
        slice_dim: D, the width of one slice.
        dropout: probability of dropping a unit before the classifiers.
        linear: whether the classifiers see the slices themselves, without relu and dropout.

    """

    def __init__(
        self, in_features: int, classes: int, slices: int, slice_dim: int, dropout: float, linear: bool = False
    ) -> None:
        super().__init__()
        self.slices, self.slice_dim, self.linear = slices, slice_dim, linear
        self.embed = nn.Linear(in_features, slices * slice_dim)
        self.dropout = nn.Dropout(dropout)
        bound = slice_dim**-0.5
        self.weight = nn.Parameter(torch.empty(slices, slice_dim, classes).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(slices, 1, classes).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Output:
        """(B, in_features) float -> Output with the mean of the classifiers' logits, and (N, B, C) logits as `extra`."""
        slices = self.embed(features).unflatten(1, (self.slices, self.slice_dim)).transpose(0, 1)
        seen = slices if self.linear else self.dropout(F.relu(slices))
        logits = torch.baddbmm(self.bias, seen, self.weight)
        return Output(slices, logits.mean(0), logits)
