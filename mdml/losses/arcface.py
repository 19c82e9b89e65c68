"""ArcFace (Deng et al., CVPR 2019): cross-entropy of cosines, with a margin on the angle to the own class.

Sources: the additive form as in the public code of Mul-DML and in the paper; the combined form (multiplicative, additive angular and
additive cosine margin in one) as in that code. Scale 64 and margin 0.5 are recalled from the paper, not verified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mdml.errors import MethodError
from mdml.losses.precision import full_precision, raised
from mdml.losses.triplet import normalize_slices

Form = Literal["additive", "combined"]
# Margins of each form: m; and m1, m2, m3.
MARGINS: dict[Form, tuple[float, ...]] = {"additive": (0.5,), "combined": (1.0, 0.2, 0.3)}


def class_cosines(embeddings: Tensor, weights: Tensor) -> Tensor:
    """Cosine of every embedding with every class's weight: (B, D) float, (C, D) float -> (B, C), in float32 at least."""
    with full_precision(embeddings):
        embeddings = raised(embeddings)
        return normalize_slices(embeddings) @ normalize_slices(weights.to(embeddings)).mT


def arcface_logits(
    cosines: Tensor,
    labels: Tensor,
    form: Form = "additive",
    scale: float = 64.0,
    margins: Sequence[float] | None = None,
) -> Tensor:
    """Logits s cos(theta) of the other classes; that of the own class is made smaller by margins. The loss is their cross-entropy.

    Additive: s cos(theta + m), or s (cos(theta) - m sin(m)) where theta + m would pass pi, so that it falls with theta throughout.
    Combined: s (cos(m1 theta + m3) - m2), or s cos(theta) where m1 theta + m3 passes pi.

    The additive form equals ArcFaceLoss of pytorch-metric-learning, whose margin is in degrees.

    Args:
        cosines: (B, C) float; half precision is raised to float32.
        labels: (B,) int64 in 0 .. C - 1.
        form: "additive" or "combined".
        scale: s.
        margins: in radians, (m,) or (m1, m2, m3); None for (0.5,) or (1, 0.2, 0.3).

    Returns:
        (B, C) float, with gradient, finite also at cosines of 1 and -1.

    Raises:
        MethodError: where shapes, the form or the number of margins do not fit.

    """
    if form not in MARGINS:
        raise MethodError(f'The form of ArcFace is "additive" or "combined", not {form!r}.')
    margins = MARGINS[form] if margins is None else tuple(margins)
    if len(margins) != len(MARGINS[form]):
        raise MethodError(f"ArcFace of form {form} has {len(MARGINS[form])} margins, found {len(margins)}: {margins}.")
    if cosines.ndim != 2 or labels.shape != cosines.shape[:1] or labels.dtype != torch.int64:
        raise MethodError(
            f"Expected cosines (B, C) and labels (B,) int64, found {tuple(cosines.shape)} and {tuple(labels.shape)} {labels.dtype}."
        )
    own = labels[:, None] == torch.arange(cosines.shape[1], device=labels.device)
    with full_precision(cosines):
        cosines = raised(cosines)
        # sin(theta); at 0 the slope of the root is infinite, and the clamp has none.
        sines = ((1 - cosines) * (1 + cosines)).clamp_min(torch.finfo(cosines.dtype).tiny).sqrt()
        judged = _additive(cosines, sines, *margins) if form == "additive" else _combined(cosines, sines, *margins)
        return scale * torch.where(own, judged, cosines)


def _additive(cosines: Tensor, sines: Tensor, m: float) -> Tensor:
    turned = cosines * math.cos(m) - sines * math.sin(m)
    return torch.where(cosines > math.cos(math.pi - m), turned, cosines - m * math.sin(m))


def _combined(cosines: Tensor, sines: Tensor, m1: float, m2: float, m3: float) -> Tensor:
    angles = m1 * torch.atan2(sines, cosines) + m3
    return torch.where(angles <= math.pi, angles.cos() - m2, cosines)
