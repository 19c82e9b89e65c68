"""Mul-DML: N slices, each with a triplet loss and a threshold of its own (Yang et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from mdml.errors import MethodError
from mdml.losses.triplet import Form
from mdml.methods.base import Layout
from mdml.methods.triplet import Triplet

LOWEST, HIGHEST = 0.15, 0.75


def even_thresholds(slices: int) -> tuple[float, ...]:
    """N >= 2 thresholds evenly spaced over [0.15, 0.75], both ends included."""
    return tuple(round(LOWEST + i * (HIGHEST - LOWEST) / (slices - 1), 12) for i in range(slices))


@dataclass(frozen=True)
class MulDML(Triplet):
    """L = CE + (weight / N) sum_i L_triplet(l2(f_i), t_i).

    Args:
        slices: N, the number of slices.
        thresholds: one for each slice; None for N evenly spaced over [0.15, 0.75]. All equal: the same-threshold ablation.
        form: "conventional" or "dual"; the paper's is dual.
        total_dim: width of the whole embedding, shared by the slices, for a comparison at equal width; None for slice_dim each.

    """

    thresholds: tuple[float, ...] | None = None
    form: Form = "dual"
    slices: int = 7
    total_dim: int | None = None

    def __post_init__(self) -> None:
        if self.slices < 1:
            raise MethodError(f"method.slices must be at least 1, found {self.slices}.")
        if self.thresholds is None and self.slices == 1:
            raise MethodError("One slice needs a threshold of its own: list it, as in method.thresholds=[0.45].")
        if self.total_dim is not None and (self.total_dim < self.slices or self.total_dim % self.slices):
            nearest = max(1, round(self.total_dim / self.slices)) * self.slices
            raise MethodError(
                f"method.total_dim must be a multiple of the {self.slices} slices, found {self.total_dim}; {nearest} is one."
            )
        super().__post_init__()

    @property
    def layout(self) -> Layout:
        """N slices; evenly spaced thresholds unless they are listed."""
        thresholds = even_thresholds(self.slices) if self.thresholds is None else self.thresholds
        width = self.slice_dim if self.total_dim is None else self.total_dim // self.slices
        return Layout(self.slices, width, thresholds, self.form)


METHOD = MulDML
