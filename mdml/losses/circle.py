"""Circle loss (Sun et al., CVPR 2020) and the form of it in the public code of Mul-DML.

Convention: s is the cosine similarity; embeddings are L2-normalised here. With relaxation m, positives are pulled with strength
a_p = max(0, 1 + m - s) above the boundary 1 - m, negatives pushed with a_n = max(0, s + m) below m.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from mdml.errors import MethodError
from mdml.losses.batch import check_batch, masked_logsumexp, softplus
from mdml.losses.precision import full_precision, raised
from mdml.losses.triplet import normalize_slices

Form = Literal["batch", "original"]
# Scale G of each form: as in the public code, and as in the paper for face recognition.
GAMMAS: dict[Form, float] = {"batch": 32.0, "original": 256.0}


def circle(
    embeddings: Tensor, labels: Tensor, form: Form = "batch", gamma: float | None = None, relaxation: float = 0.25
) -> Tensor:
    """log(1 + P N), with P over the pairs of one class of exp(-G a_p (s - 1 + m)) and N over those of two of exp(G a_n (s - m)).

    Form "batch", of the public code: P and N are means over all ordered pairs, each sample with itself among those of one class, and
    the gradient flows through a_p and a_n. Form "original", of the paper: P and N are sums over pairs i < j, a_p and a_n are
    constants to the gradient. Either is computed by logsumexp, without overflow.

    CircleLoss of pytorch-metric-learning is the original form for each anchor on its own, averaged over those whose loss is not 0: the
    two are equal on one row of similarities that holds all pairs, and differ on a batch.

    Args:
        embeddings: (B, D) float; half precision is raised to float32.
        labels: (B,) int64.
        form: "batch" or "original".
        gamma: G; None for 32 (batch) or 256 (original).
        relaxation: m, in units of cosine.

    Returns:
        () float, with gradient; 0 where no two samples are of different classes, in the original form also where no two are of one.

    Raises:
        MethodError: where shapes or the form do not fit.

    """
    if form not in GAMMAS:
        raise MethodError(f'The form of a circle loss is "batch" or "original", not {form!r}.')
    check_batch(embeddings, labels)
    scale = GAMMAS[form] if gamma is None else gamma
    same = labels[:, None] == labels
    different = ~same
    if form == "original":
        same, different = same.triu(1), different.triu(1)
    with full_precision(embeddings):
        units = normalize_slices(raised(embeddings))
        similarity = units @ units.mT
        strength = similarity.detach() if form == "original" else similarity
        pull = -scale * F.relu(1 + relaxation - strength) * (similarity - (1 - relaxation))
        push = scale * F.relu(strength + relaxation) * (similarity - relaxation)
        exponent = masked_logsumexp(pull, same, (0, 1)) + masked_logsumexp(push, different, (0, 1))
        if form == "batch":
            exponent = exponent - same.sum().to(exponent).log() - different.sum().clamp_min(1).to(exponent).log()
        return softplus(exponent)
