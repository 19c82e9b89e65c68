"""RML: two branches, and a reference face of the same subject that is pushed away from the class of every query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from mdml.companions import MinedReferences
from mdml.losses.radial import RunningCenters, radial_loss
from mdml.losses.triplet import normalize_slices
from mdml.methods.base import StepLoss
from mdml.methods.tuplet_clusters import TwoBranchMethod
from mdml.models.head import Output
from mdml.models.two_branch import Learned
from mdml.session import Session, TrainingSet


@dataclass(frozen=True)
class RML(TwoBranchMethod):
    """The metric loss is mdml.losses.radial, with mined references (Liu et al. 2019, eq. 8-17 and Algorithm 2).

    The paper generates its references; here, "RML (mined)", they are other expressions of the same subject.

    Args:
        center: the centre of a class is the mean of its queries in the batch, with gradient ("batch"), or runs over the batches without
            gradient, at rate 0.5 ("ema").
        normalize: whether embeddings are L2-normalised for the metric loss; the paper's are not.

    """

    center: Literal["batch", "ema"] = "batch"
    normalize: bool = False

    sampler: ClassVar[str | None] = "balanced"

    @property
    def per_class(self) -> int:
        """Two."""
        return 2

    @property
    def normalized(self) -> bool:
        """As the option says."""
        return self.normalize

    def centers(self, classes: int) -> RunningCenters | None:
        """Running centres with center="ema"."""
        return RunningCenters(classes, self.slice_dim) if self.center == "ema" else None

    def session(self, training: TrainingSet) -> Session:
        """The references."""
        session = Session(training)
        session.companions = companions = MinedReferences(training)
        session.notes["references"] = companions.note
        return session

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """Cross-entropy of the queries and the radial loss of queries and references."""
        labels = labels[: len(labels) // 2]
        learned: Learned = output.extra
        embedding = normalize_slices(output.slices[0].float()) if self.normalize else output.slices[0]
        queries, references = embedding[: len(labels)], embedding[len(labels) :]
        centers = None if learned.centers is None else learned.centers(queries, labels)
        metric = radial_loss(queries, references, labels, self.measure(learned), centers)
        return self.joint(output, labels, metric)


METHOD = RML
