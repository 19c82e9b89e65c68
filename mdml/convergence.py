"""How fast a training converges, from its curves.

The measures are those by which the dual triplet loss is compared with the conventional one: Yang et al. 2024 log the mean distances of
the mined triplets, smoothed by 0.9; the rest is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMOOTHING = 0.9
PATIENCE = 50


def smoothed(values: Tensor, smoothing: float = SMOOTHING) -> Tensor:
    """Exponential moving average over the steps, which begins at the first value: (T, ...) -> (T, ...)."""
    out, last = torch.empty_like(values), values[:1].squeeze(0)
    for step, value in enumerate(values):
        last = smoothing * last + (1 - smoothing) * value
        out[step] = last
    return out


def crossing_step(ap: Tensor, an: Tensor, pn: Tensor, patience: int = PATIENCE) -> int | None:
    """The first step, from 1, at which d(a,p) < d(a,n) and d(a,p) < d(p,n) for `patience` steps on end; None if never.

    Args:
        ap: (T,) mean distance of the mined triplets at each step, smoothed; `an` and `pn` likewise.
        an: (T,).
        pn: (T,).
        patience: steps for which it must last.

    """
    run = 0
    for step, crossed in enumerate(((ap < an) & (ap < pn)).tolist(), 1):
        run = run + 1 if crossed else 0
        if run == patience:
            return step - patience + 1
    return None


def epochs_to(accuracies: Sequence[float | None], level: float) -> int | None:
    """The first epoch, from 1, whose training accuracy is at least `level`; None if there is none."""
    return next((epoch for epoch, value in enumerate(accuracies, 1) if value is not None and value >= level), None)


def relative_area(losses: Tensor, threshold: float) -> float | None:
    """Mean over the steps of loss / threshold: the area below the loss, which is exactly 1 for a collapsed embedding.

    A collapsed embedding has a triplet loss equal to its threshold. None for the threshold 0.
    """
    return losses.double().mean().item() / threshold if threshold else None
