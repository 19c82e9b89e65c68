"""Cross-entropy and the circle loss (Sun et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mdml.errors import MethodError
from mdml.losses.circle import GAMMAS, Form, circle
from mdml.methods.base import Layout, MetricMethod, check_number
from mdml.models.head import Output


@dataclass(frozen=True)
class Circle(MetricMethod):
    """L = CE + weight * L_circle(f), by cosines. The weight is that of Mul-DML, so that only the metric loss differs (our choice).

    Args:
        form: "batch", of Mul-DML's public code, or "original", of the paper.
        gamma: scale of the similarities; None for 32 (batch) or 256 (original).
        relaxation: m, in units of cosine: positives are to come above 1 - m, negatives below m.

    """

    form: Form = "batch"
    gamma: float | None = None
    relaxation: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in GAMMAS:
            raise MethodError(f'method.form must be "batch" or "original", found {self.form!r}.')
        if self.gamma is not None:
            check_number("gamma", self.gamma, above=True)
        check_number("relaxation", self.relaxation)

    @property
    def layout(self) -> Layout:
        """One slice, and the form."""
        return Layout(1, self.slice_dim, (), self.form)

    def metric(self, embedding: Tensor, labels: Tensor, output: Output) -> Tensor:
        """The circle loss, which normalises."""
        return circle(embedding, labels, self.form, self.gamma, self.relaxation)


METHOD = Circle
