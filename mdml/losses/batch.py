"""What losses over the pairs of a batch share: the check of their arguments, and sums of exponentials over chosen terms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.errors import MethodError


def check_batch(embeddings: Tensor, labels: Tensor) -> None:
    """Raise MethodError unless embeddings are (B, D) float and labels (B,) int64."""
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise MethodError(f"Expected embeddings (B, D) float, found {tuple(embeddings.shape)} {embeddings.dtype}.")
    if labels.shape != embeddings.shape[:1] or labels.dtype != torch.int64:
        raise MethodError(
            f"Expected labels ({len(embeddings)},) int64 for embeddings {tuple(embeddings.shape)}, "
            f"found {tuple(labels.shape)} {labels.dtype}."
        )


def masked_logsumexp(terms: Tensor, mask: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """log(sum(exp(terms))) over those that `mask` (bool, the shape of terms) chooses, along `dim`.

    Where it chooses none, the result is half the lowest finite number and not -inf, whose gradient would be NaN: softplus makes 0 of
    it, with gradient 0.
    """
    return terms.masked_fill(~mask, torch.finfo(terms.dtype).min / 2).logsumexp(dim)


def softplus(exponents: Tensor) -> Tensor:
    """log(1 + exp(x)) to all digits: torch takes x itself from 20 on by default, where float64 still tells the two apart."""
    return F.softplus(exponents, threshold=40)
