"""Cross-entropy and the coupled clusters loss (Liu et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mdml.losses.coupled_clusters import coupled_clusters
from mdml.losses.precision import raised
from mdml.losses.triplet import normalize_slices
from mdml.methods.base import MetricMethod, check_number
from mdml.models.head import Output


@dataclass(frozen=True)
class CoupledClusters(MetricMethod):
    """L = CE + weight * L_clusters(l2(f)). The weight is that of Mul-DML, so that only the metric loss differs (our choice).

    Args:
        alpha: margin in units of squared distance of normalised embeddings; 0.3 is our choice.

    """

    alpha: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha)

    def metric(self, embedding: Tensor, labels: Tensor, output: Output) -> Tensor:
        """The coupled clusters loss of the normalised embedding."""
        return coupled_clusters(normalize_slices(raised(embedding)), labels, self.alpha)


METHOD = CoupledClusters
