"""Cross-entropy and the contrastive loss over all pairs of a batch (Hadsell et al. 2006)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mdml.losses.contrastive import contrastive
from mdml.losses.precision import raised
from mdml.losses.triplet import normalize_slices
from mdml.methods.base import MetricMethod, check_number
from mdml.models.head import Output


@dataclass(frozen=True)
class Contrastive(MetricMethod):
    """L = CE + weight * L_contrastive(l2(f)). The weight is that of Mul-DML, so that only the metric loss differs (our choice).

    Args:
        margin: distance of normalised embeddings beyond which two classes cost nothing; 1 is our choice.

    """

    margin: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("margin", self.margin)

    def metric(self, embedding: Tensor, labels: Tensor, output: Output) -> Tensor:
        """The contrastive loss of the normalised embedding."""
        return contrastive(normalize_slices(raised(embedding)), labels, self.margin)


METHOD = Contrastive
