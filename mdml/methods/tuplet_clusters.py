"""2B(N+M): two branches, and a tuplet of images of the same class and of the same subject around every query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mdml.companions import IdentityTuplets
from mdml.errors import MethodError
from mdml.losses.radial import START, FixedRadius, Metric, RadialMetric, RunningCenters
from mdml.losses.tuplet_clusters import Reduction, tuplet_clusters
from mdml.methods.base import Layout, Method, StepLoss, check_dropout, check_number, logits_of
from mdml.models.head import Output
from mdml.models.two_branch import Learned, TwoBranchHead
from mdml.session import Session, TrainingSet

Form = Literal["adaptive", "fixed"]


@dataclass(frozen=True)
class TwoBranchMethod(Method):
    """L = CE + weight * L_metric, the cross-entropy of the queries alone, on the two-branch head (Liu et al. 2017, 2019).

    Args:
        dropout: probability of dropping a unit of the trunk's feature.
        form: whether the distance of reference is learned ("adaptive") or given ("fixed").
        threshold: T of the fixed form, a squared distance; None for 2, at which the adaptive form starts (our choice).
        margin: of the fixed form, around T; None for 2, the same.
        weight: of the metric loss beside the cross-entropy; 0.95 to 1 is best in the paper.

    """

    slice_dim: int = 64
    dropout: float = 0.5
    form: Form = "adaptive"
    threshold: float | None = None
    margin: float | None = None
    weight: float = 1.0

    prediction: ClassVar[Literal["classifier", "knn"]] = "classifier"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dropout(self.dropout)
        check_number("weight", self.weight)
        for name in ("threshold", "margin"):
            value = getattr(self, name)
            if value is not None and self.form == "adaptive":
                raise MethodError(f"method.{name} belongs to method.form=fixed: leave it null, or choose that form.")
            if value is not None:
                check_number(name, value)

    @property
    def layout(self) -> Layout:
        """One embedding."""
        return Layout(1, self.slice_dim, form=self.form)

    @property
    def normalized(self) -> bool:
        """The loss sees embeddings as they are."""
        return False

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The two-branch head, and in it what the metric loss learns."""
        return TwoBranchHead(in_features, classes, self.slice_dim, self.dropout, self.learned(classes))

    def learned(self, classes: int) -> Learned:
        """What the metric loss keeps in the network."""
        return Learned(RadialMetric(self.slice_dim) if self.form == "adaptive" else None, self.centers(classes))

    def centers(self, classes: int) -> RunningCenters | None:
        """Centres that run over the batches, where the method has them."""
        return None

    def measure(self, learned: Learned) -> Metric:
        """The distance to a centre less that of reference."""
        if learned.metric is not None:
            return learned.metric
        threshold, margin = (START if value is None else value for value in (self.threshold, self.margin))
        return FixedRadius(threshold, margin)

    def joint(self, output: Output, labels: Tensor, metric: Tensor) -> StepLoss:
        """Cross-entropy of the queries and the weighted metric loss: labels (K,) of the queries."""
        logits = logits_of(output)[: len(labels)]
        cross_entropy = F.cross_entropy(logits.float(), labels)
        total = cross_entropy + self.weight * metric
        return StepLoss(total, cross_entropy.detach(), metric.detach()[None], scores=logits.detach())


@dataclass(frozen=True)
class TupletClusters(TwoBranchMethod):
    """The metric loss is mdml.losses.tuplet_clusters, of tuplets chosen by mdml.companions.IdentityTuplets.

    Args:
        positives: N, images of the query's class; 6 is recalled from the paper, not verified.
        negatives: M, images of its subject with other expressions; None for one of each, C - 1.
        reduction: mean over the terms above 0 ("violators") or over "all".

    """

    positives: int = 6
    negatives: int | None = None
    reduction: Reduction = "violators"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("positives", "negatives"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise MethodError(f"method.{name} must be at least 1, found {value}.")

    def session(self, training: TrainingSet) -> Session:
        """The tuplets."""
        session = Session(training)
        session.companions = companions = IdentityTuplets(training, self.positives, self.negatives)
        session.notes["negatives"] = companions.note
        return session

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """Cross-entropy of the queries and the tuplet clusters loss."""
        classes = logits_of(output).shape[1]
        company = self.positives + (classes - 1 if self.negatives is None else self.negatives)
        queries = len(labels) // (1 + company)
        embedding = output.slices[0]
        others = embedding[queries:].unflatten(0, (queries, company))
        positives, negatives = others[:, : self.positives], others[:, self.positives :]
        metric = tuplet_clusters(embedding[:queries], positives, negatives, self.measure(output.extra), self.reduction)
        return self.joint(output, labels[:queries], metric)


METHOD = TupletClusters
