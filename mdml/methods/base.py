"""What every method is: options, a layout of its embedding, a head, a loss, and the version of its numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.models.head import Output, SlicedHead


class Layout(NamedTuple):
    """The embedding of a method: N `slices` of `width` units, their `thresholds` (N or none), the `form` of the metric loss."""

    slices: int
    width: int
    thresholds: tuple[float, ...] = ()
    form: str | None = None


class StepLoss(NamedTuple):
    """Losses of a batch: `total` () to be minimised, `classification` (), `metric` (N,) and `rates` (7, N) or None.

    `metric` is unweighted, one entry a slice; `rates` are the sums of mdml.diagnostics.triplet_rates.
    """

    total: Tensor
    classification: Tensor
    metric: Tensor | None = None
    rates: Tensor | None = None


@dataclass(frozen=True)
class Method(ABC):
    """A method under comparison. Fields are its options; `numerics` is raised whenever its numbers change.

    Args:
        slice_dim: width of one slice of the embedding.
        dropout: probability of dropping a unit before the classifier.

    """

    slice_dim: int = 256
    dropout: float = 0.5

    numerics: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.slice_dim < 1:
            raise MethodError(f"method.slice_dim must be at least 1, found {self.slice_dim}.")
        if not 0 <= self.dropout < 1:
            raise MethodError(f"method.dropout must be in [0, 1), found {self.dropout}.")

    @property
    def layout(self) -> Layout:
        """How the embedding is cut, and by what it is judged."""
        return Layout(1, self.slice_dim)

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The head to put on a trunk with `in_features`."""
        return SlicedHead(in_features, classes, self.layout.slices, self.layout.width, self.dropout)

    @abstractmethod
    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """Losses of a batch; labels (B,) int64."""


def classification_loss(output: Output, labels: Tensor) -> Tensor:
    """Mean cross-entropy, no smoothing, no class weights: ()."""
    return F.cross_entropy(output.logits.float(), labels)
