"""Softmax baseline: cross-entropy alone, on the same network as the single-threshold methods."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mdml.methods.base import ClassifierMethod, StepLoss, classification_loss, logits_of
from mdml.models.head import Output


@dataclass(frozen=True)
class Softmax(ClassifierMethod):
    """Trunk -> Linear -> relu -> dropout -> Linear; L = CE (Yang et al. 2024, the like-for-like baseline of its public code)."""

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """Cross-entropy of the logits."""
        cross_entropy = classification_loss(output, labels)
        return StepLoss(cross_entropy, cross_entropy.detach(), scores=logits_of(output).detach())


METHOD = Softmax
