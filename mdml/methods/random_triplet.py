"""Random triplets: the conventional triplet loss without mining, on an embedding alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from mdml.companions import RandomTriplets
from mdml.losses.precision import raised
from mdml.methods.base import Method, StepLoss, check_number
from mdml.models.head import Output
from mdml.session import Session, TrainingSet


@dataclass(frozen=True)
class RandomTriplet(Method):
    """L = mean max(0, |a - p| - |a - n| + margin) over random triplets of unnormalised embeddings.

    The triplet loss that Marrero-Fernandez et al. 2020 compare with, as in their public code. Every training image is the anchor once an
    epoch; theirs lists 160000 triplets with as many anchors of each class, for which sampler=balanced stands.

    Args:
        margin: in units of distance between embeddings.

    """

    slice_dim: int = 64
    margin: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("margin", self.margin, above=True)

    @property
    def normalized(self) -> bool:
        """The loss sees embeddings as they are."""
        return False

    def session(self, training: TrainingSet) -> Session:
        """A positive and a negative for every anchor."""
        session = Session(training)
        session.companions = RandomTriplets(training)
        return session

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """The loss of the triplets, whose positives and negatives are the companions of the anchors."""
        embeddings = raised(output.slices[0])
        anchors, others = embeddings[: len(labels) // 3], embeddings[len(labels) // 3 :]
        total = F.triplet_margin_loss(anchors, others[::2], others[1::2], self.margin)
        return StepLoss(total, None, total.detach()[None])


METHOD = RandomTriplet
