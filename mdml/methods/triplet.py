"""Single-threshold deep metric learning: cross-entropy and one triplet loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mdml.diagnostics import triplet_rates
from mdml.errors import MethodError
from mdml.losses.triplet import FORMS, Form, batch_hard_distances, mean_over_valid, triplet_terms
from mdml.methods.base import ClassifierMethod, Layout, StepLoss, check_number, classification_loss, logits_of
from mdml.models.head import Output


@dataclass(frozen=True)
class Triplet(ClassifierMethod):
    """L = CE + weight * mean over slices of L_triplet(l2(f_i), t_i), here with one slice (Yang et al. 2024, public code).

    Args:
        thresholds: one for each slice, in units of distance between normalised embeddings, [0, 2].
        form: "conventional" or "dual".
        weight: weight of the metric loss beside the cross-entropy; 0.5 in the paper's code.

    """

    thresholds: tuple[float, ...] | None = (0.45,)
    form: Form = "conventional"
    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise MethodError(f'method.form must be "conventional" or "dual", found {self.form!r}.')
        check_number("weight", self.weight)
        slices, thresholds = self.layout.slices, list(self.layout.thresholds)
        if len(thresholds) != slices:
            raise MethodError(
                f"method.thresholds must list one threshold for each slice, that is {slices}, found {len(thresholds)}: {thresholds}."
            )
        if not all(0 <= threshold <= 2 for threshold in thresholds):
            raise MethodError(
                f"method.thresholds must lie in [0, 2], the range of distances of normalised slices, found {thresholds}."
            )

    @property
    def layout(self) -> Layout:
        """One slice, one threshold."""
        return Layout(1, self.slice_dim, self.thresholds or (), self.form)

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """Cross-entropy and the mean over slices of their triplet losses."""
        thresholds = on_device(self.layout.thresholds, labels.device)
        cross_entropy = classification_loss(output, labels)
        mined = batch_hard_distances(output.slices, labels)
        metric = mean_over_valid(triplet_terms(mined, thresholds, self.form), mined.valid)
        total = cross_entropy + self.weight * metric.mean()
        rates = triplet_rates(mined, thresholds)
        return StepLoss(total, cross_entropy.detach(), metric.detach(), rates, logits_of(output).detach())


@lru_cache(maxsize=16)
def on_device(thresholds: tuple[float, ...], device: torch.device) -> Tensor:
    """The thresholds as a tensor (N,) float32, copied to the device once and not in every step."""
    return torch.tensor(thresholds, device=device)


METHOD = Triplet
