"""Voting slices: Mul-DML whose slices classify each on their own and vote, instead of being concatenated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdml.diagnostics import triplet_rates
from mdml.errors import MethodError
from mdml.losses.triplet import batch_hard_distances, mean_over_valid, triplet_terms
from mdml.methods.base import StepLoss
from mdml.methods.mul_dml import MulDML
from mdml.methods.triplet import on_device
from mdml.models.head import Output
from mdml.models.voting import VotingHead


@dataclass(frozen=True)
class Vote(MulDML):
    """L = sum_i CE_i + (weight / N) sum_i L_triplet(l2(f_i), t_i); the class with most votes is predicted.

    The public code of Yang et al. 2024 computes the triplet losses and leaves them out of what it minimises, the sum of the
    cross-entropies: that is with_triplet=False. With them, the method differs from Mul-DML in the vote alone (our choice of a default).
    Its classifiers have no dropout.

    Args:
        with_triplet: whether the triplet losses are part of L; they are recorded either way.

    """

    dropout: float = 0.0
    with_triplet: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.with_triplet and self.weight != Vote.weight:
            raise MethodError(
                f"method.weight acts with method.with_triplet=true alone, found {self.weight}: leave one of them out."
            )

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The voting head."""
        slices, width = self.layout.slices, self.layout.width
        return VotingHead(in_features, classes, slices, width, self.dropout, self.linear_classifier)

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """The sum of the slices' cross-entropies, and with_triplet the weighted mean of their triplet losses."""
        logits: Tensor = output.extra.float()
        cross_entropy = len(logits) * F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))
        thresholds = on_device(self.layout.thresholds, labels.device)
        mined = batch_hard_distances(output.slices, labels)
        metric = mean_over_valid(triplet_terms(mined, thresholds, self.form), mined.valid)
        total = cross_entropy + self.weight * metric.mean() if self.with_triplet else cross_entropy
        rates = triplet_rates(mined, thresholds)
        return StepLoss(total, cross_entropy.detach(), metric.detach(), rates, self.scores(output))

    def scores(self, output: Output) -> Tensor:
        """The share of the slices that vote for each class, so that the lowest of the classes with most votes is predicted."""
        logits: Tensor = output.extra
        votes = logits.argmax(2)[:, :, None] == torch.arange(logits.shape[2], device=logits.device)
        return votes.float().mean(0)


METHOD = Vote
