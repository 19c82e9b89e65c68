"""Cross-entropy and the center loss (Wen et al. 2016) or island loss (Cai et al. 2018), with running centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.losses.center import Centers, center_loss, island_term
from mdml.methods.base import Layout, MetricMethod, check_number
from mdml.models.head import Output, SlicedHead

Form = Literal["center", "island"]
# Of each form; both recalled from the papers, not verified.
WEIGHTS: dict[Form, float] = {"center": 0.003, "island": 0.01}
ISLAND_WEIGHT = 10.0


@dataclass(frozen=True)
class Center(MetricMethod):
    """L = CE + weight * (mean |f - c|^2 / 2 + island_weight * sum_jk (cos(c_j, c_k) + 1)), the latter in the island form alone.

    The centres move after each training batch, outside autograd; in the island form they are also turned apart, by which alone that
    term acts on the network.

    Args:
        form: "center" or "island".
        weight: of the metric loss beside the cross-entropy; None for 0.003 (center) or 0.01 (island).
        center_rate: how far a centre moves, 0 to 1; 0.5 is recalled from the paper of the center loss, not verified.
        island_weight: of the term between the centres; 10 is recalled from the paper, not verified. It belongs to the island form.

    """

    weight: float | None = None  # type: ignore[assignment]  # a number once it is made
    form: Form = "center"
    center_rate: float = 0.5
    island_weight: float = ISLAND_WEIGHT

    def __post_init__(self) -> None:
        if self.form not in WEIGHTS:
            raise MethodError(f'method.form must be "center" or "island", found {self.form!r}.')
        if self.weight is None:
            object.__setattr__(self, "weight", WEIGHTS[self.form])
        super().__post_init__()
        if not 0 <= self.center_rate <= 1:
            raise MethodError(
                f"method.center_rate must be in [0, 1], above which centres overshoot their classes, found {self.center_rate}."
            )
        check_number("island_weight", self.island_weight)
        if self.form == "center" and self.island_weight != ISLAND_WEIGHT:
            raise MethodError(
                f"method.island_weight acts in the island form alone, found {self.island_weight} with method.form=center."
            )

    @property
    def layout(self) -> Layout:
        """One slice, and the form."""
        return Layout(1, self.slice_dim, (), self.form)

    @property
    def normalized(self) -> bool:
        """The loss sees embeddings as they are."""
        return False

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The sliced head with the centres of its classes."""
        return CenterHead(in_features, classes, 1, self.slice_dim, self.dropout, self.linear_classifier)

    def metric(self, embedding: Tensor, labels: Tensor, output: Output) -> Tensor:
        """The loss at the centres as they are; in training they then move."""
        centers: Centers = output.extra
        loss = center_loss(embedding, labels, centers.centers)
        island_weight = self.island_weight if self.form == "island" else 0.0
        if island_weight:
            loss = loss + island_weight * island_term(centers.centers)
        if centers.training:
            centers.step(embedding, labels, self.center_rate, island_weight)
        return loss


class CenterHead(SlicedHead):
    """The sliced head of one slice, with one centre a class, which it gives as `extra`."""

    def __init__(
        self, in_features: int, classes: int, slices: int, slice_dim: int, dropout: float, linear: bool = False
    ) -> None:
        super().__init__(in_features, classes, slices, slice_dim, dropout, linear)
        self.centers = Centers(classes, slice_dim)

    def forward(self, features: Tensor) -> Output:
        """(B, in_features) float -> Output with the module of the centres."""
        return super().forward(features)._replace(extra=self.centers)


METHOD = Center
