"""What every method is: options, a layout of its embedding, a head, a loss, a way to predict, and the version of its numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.models.head import EmbeddingHead, Output, SlicedHead
from mdml.session import Session, TrainingSet


class Layout(NamedTuple):
    """The embedding of a method: N `slices` of `width` units, their `thresholds` (N or none), the `form` of the metric loss."""

    slices: int
    width: int
    thresholds: tuple[float, ...] = ()
    form: str | None = None


class StepLoss(NamedTuple):
    """Losses of a batch.

    Attributes:
        total: () with graph, to be minimised.
        classification: () cross-entropy without graph; None where the method has no classifier.
        metric: (N,) unweighted, one entry a slice, without graph; None without a metric loss.
        rates: (7, N) sums of mdml.diagnostics.triplet_rates; None without mined triplets.
        scores: (K, C) of the K queries, without graph, whose largest says which class the method takes a training image for; None
            where a batch does not tell.

    """

    total: Tensor
    classification: Tensor | None
    metric: Tensor | None = None
    rates: Tensor | None = None
    scores: Tensor | None = None


@dataclass(frozen=True)
class Method(ABC):
    """A method under comparison. Fields are its options; `numerics` is raised whenever its numbers change.

    This one has an embedding and no classifier.

    Args:
        slice_dim: width of one slice of the embedding.

    """

    slice_dim: int = 256

    numerics: ClassVar[int] = 1
    # The sampler that the method cannot do without; None takes the recipe's.
    sampler: ClassVar[str | None] = None
    # Whether it learns from neutral faces, and so cannot do without.
    needs_neutral: ClassVar[bool] = False
    # By what it predicts: its classifier, or the vote of the nearest training embeddings.
    prediction: ClassVar[Literal["classifier", "knn"]] = "knn"

    def __post_init__(self) -> None:
        if self.slice_dim < 1:
            raise MethodError(f"method.slice_dim must be at least 1, found {self.slice_dim}.")

    def check_epochs(self, epochs: int) -> None:  # noqa: B027 - most methods need no number of them
        """Raise MethodError where so many epochs are too few for the options."""

    @property
    def layout(self) -> Layout:
        """How the embedding is cut, and by what it is judged."""
        return Layout(1, self.slice_dim)

    @property
    def per_class(self) -> int:
        """Images of each class that a batch must hold for the loss to compare any within a class; 0 where that is left to chance."""
        return 0

    @property
    def normalized(self) -> bool:
        """Whether embeddings are L2-normalised before neighbours are sought: as the metric loss compares them."""
        return True

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The head to put on a trunk with `in_features`."""
        return EmbeddingHead(in_features, self.slice_dim)

    def session(self, training: TrainingSet) -> Session:
        """What the method keeps while it trains one network."""
        return Session(training)

    @abstractmethod
    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """Losses of a batch: labels (B,) int64, of the K queries and, query after query, of their companions."""

    def scores(self, output: Output) -> Tensor:
        """Score of every class, rows summing to 1: (B, C) float32. The largest is the prediction, the first one of equals.

        Raises:
            MethodError: where the method has no classifier, and so predicts by its nearest neighbours.

        """
        return logits_of(output).float().softmax(1)


@dataclass(frozen=True)
class ClassifierMethod(Method):
    """A method with the sliced head: an embedding, and a classifier on it.

    Args:
        dropout: probability of dropping a unit before the classifier.
        linear_classifier: whether the classifier sees the embedding without relu and dropout, as the public code of the
            single-threshold method has it.

    """

    dropout: float = 0.5
    linear_classifier: bool = False

    prediction: ClassVar[Literal["classifier", "knn"]] = "classifier"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dropout(self.dropout)

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The sliced head."""
        slices, width = self.layout.slices, self.layout.width
        return SlicedHead(in_features, classes, slices, width, self.dropout, self.linear_classifier)


@dataclass(frozen=True)
class MetricMethod(ClassifierMethod):
    """L = CE + weight * L_metric, on one embedding.

    Args:
        weight: of the metric loss beside the cross-entropy.

    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("weight", self.weight)

    @abstractmethod
    def metric(self, embedding: Tensor, labels: Tensor, output: Output) -> Tensor:
        """The metric loss: embedding (B, D), not normalised; labels (B,) int64; () with graph."""

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """Cross-entropy and the weighted metric loss."""
        cross_entropy = classification_loss(output, labels)
        metric = self.metric(output.slices[0], labels, output)
        total = cross_entropy + self.weight * metric
        return StepLoss(total, cross_entropy.detach(), metric.detach()[None], scores=logits_of(output).detach())


def classification_loss(output: Output, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, C), no smoothing, no class weights: ()."""
    return F.cross_entropy(logits_of(output).float(), labels)


def logits_of(output: Output) -> Tensor:
    """The logits (B, C) of a head with a classifier.

    Raises:
        MethodError: where the head has none.

    """
    if output.logits is None:
        raise MethodError("This head has no classifier.")
    return output.logits


def check_dropout(dropout: float) -> None:
    """Raise MethodError unless it is a probability below 1."""
    if not 0 <= dropout < 1:
        raise MethodError(f"method.dropout must be in [0, 1), found {dropout}.")


def check_number(name: str, value: float, above: bool = False) -> None:
    """Raise MethodError unless an option is finite and not negative, or with `above` greater than 0."""
    if not (value > 0 if above else value >= 0) or value == math.inf:
        raise MethodError(f"method.{name} must be finite and {'above 0' if above else 'not negative'}, found {value}.")
