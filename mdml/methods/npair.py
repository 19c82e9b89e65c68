"""Cross-entropy and the multi-class N-pair loss (Sohn 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mdml.losses.npair import npair
from mdml.methods.base import MetricMethod, check_number
from mdml.models.head import Output


@dataclass(frozen=True)
class NPair(MetricMethod):
    """L = CE + weight * L_npair(f), on embeddings as they are, from batches with as many images of every class.

    The weight is that of Mul-DML, so that only the metric loss differs (our choice).

    Args:
        regularization: weight of the mean squared length of embeddings; 0.002 is recalled from the paper, not verified.

    """

    regularization: float = 0.002

    sampler: ClassVar[str | None] = "balanced"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("regularization", self.regularization)

    @property
    def per_class(self) -> int:
        """Two."""
        return 2

    @property
    def normalized(self) -> bool:
        """The loss sees embeddings as they are."""
        return False

    def metric(self, embedding: Tensor, labels: Tensor, output: Output) -> Tensor:
        """The N-pair loss with its regularisation."""
        return npair(embedding, labels, self.regularization)


METHOD = NPair
