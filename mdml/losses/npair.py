"""(N+1)-tuplet and multi-class N-pair loss (Sohn, Improved deep metric learning with multi-class N-pair loss, NIPS 2016).

Convention: similarities are inner products of embeddings as they are, not normalised; the regularisation keeps their lengths in bounds.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mdml.errors import MethodError
from mdml.losses.batch import check_batch
from mdml.losses.precision import full_precision, raised


def tuplet(queries: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """log(1 + sum_k exp(f.f_k - f.f+)) of every query f, its positive f+ and its negatives f_k.

    With one negative it is softplus(f.f_1 - f.f+); M negatives that score as the positive does give log(1 + M).

    Args:
        queries: (K, D) float; half precision is raised to float32.
        positives: (K, D) float.
        negatives: (K, M, D) float.

    Returns:
        (K,) float, with gradient; 0 without negatives.

    Raises:
        MethodError: where shapes do not fit.

    """
    if queries.ndim != 2 or positives.shape != queries.shape or negatives.shape[::2] != queries.shape:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (queries, positives, negatives))
        raise MethodError(f"Expected queries (K, D), positives (K, D) and negatives (K, M, D), found {shapes}.")
    with full_precision(queries):
        queries, positives, negatives = raised(queries), raised(positives), raised(negatives)
        excess = torch.linalg.vecdot(negatives - positives[:, None], queries[:, None])
        return F.pad(excess, (1, 0)).logsumexp(1)


def npair(embeddings: Tensor, labels: Tensor, regularization: float = 0.002) -> Tensor:
    """Mean over pairs (a, q) of one class of log(1 + sum_n exp(a.n - a.q)), and regularization * mean |f|^2 over the batch.

    The even occurrences of a class in the batch (the first, the third ...) are its anchors a, the odd ones its positives q. Every anchor is
    paired with every positive of its class; its negatives n are the positives of all other classes. With two samples a class that
    is the paper's N-pair loss: the cross-entropy of the rows of A Q^T with the diagonal as target. A class with one sample gives no
    term and no negative. With two samples a class it is NPairsLoss of pytorch-metric-learning with LpRegularizer(power=2) on
    embeddings that are not normalised; with more, that loss takes one pair a class, chosen on the host.

    Args:
        embeddings: (B, D) float, not normalised; half precision is raised to float32.
        labels: (B,) int64.
        regularization: weight of the mean squared length; 0.002 is recalled from the paper, not verified.

    Returns:
        () float, with gradient; the regularisation alone where no class has a pair, or only one class is there.

    Raises:
        MethodError: where shapes do not fit.

    """
    check_batch(embeddings, labels)
    order, pairs, rivals = _roles(labels)
    with full_precision(embeddings):
        embeddings = raised(embeddings)
        mean: Tensor = _MeanOverPairs.apply(embeddings, order, pairs, rivals)
        return mean + regularization * embeddings.square().sum(1).mean() if regularization else mean


class _MeanOverPairs(torch.autograd.Function):
    """Mean over pairs of log(1 + sum_n exp(s_an - s_aq)), of embeddings (B, D) and what `_roles` says of them: ().

    The gradient is found on the way: with x = log sum_n exp(s_an) - s_aq it is -sigmoid(x) for the pair's score, and sigmoid(x) times
    a softmax over the rivals for theirs. That takes a CPU a quarter less time than autograd, which calls twice as many operations.
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, order: Tensor, pairs: Tensor, rivals: Tensor) -> Tensor:
        ordered = embeddings.index_select(0, order)
        queries, positives = _parts(ordered, pairs)
        scores = queries @ positives.mT
        weights = pairs.to(scores)
        weights.div_(weights.sum().clamp_min_(1))
        rest = scores.masked_fill(~rivals, torch.finfo(scores.dtype).min / 2)
        # The greatest is its share, exp(s) / sum_n exp(s_an), of the sum; a row without rivals has half the lowest number for all.
        shares = rest.softmax(1)
        excess = rest.amax(1, keepdim=True).sub_(shares.amax(1, keepdim=True).log_()) - scores
        pull = excess.sigmoid().mul_(weights)
        slopes = shares.mul_(pull.sum(1, keepdim=True)).sub_(pull)
        ctx.save_for_backward(ordered, order, slopes)
        return _softplus(excess).mul_(weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        ordered, order, slopes = ctx.saved_tensors
        queries, positives = _parts(ordered, slopes)
        slopes = slopes * gradient
        found = torch.zeros_like(ordered)
        of_queries, of_positives = _parts(found, slopes)
        # In place also because autocast leaves such products alone.
        of_queries.addmm_(slopes, positives)
        of_positives.addmm_(slopes.mT, queries)
        return found.index_select(0, order.argsort()), None, None, None


def _parts(ordered: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The first Q and the last P rows of (B, D), where scores are (Q, P)."""
    return ordered[: scores.shape[0]], ordered[len(ordered) - scores.shape[1] :]


def _softplus(exponents: Tensor) -> Tensor:
    """log(1 + exp(x)) to all digits, without graph: log1p takes ten times a log.

    With y = exp(-|x|) it is max(0, x) + log(1 + y), and log(1 + y) the log of the rounded 1 + y and what the rounding lost.
    """
    small = exponents.abs().neg_().exp_()
    rounded = small + 1
    lost = small.sub_(rounded - 1).div_(rounded)
    return rounded.log_().add_(lost).add_(exponents.clamp_min(0))


def _roles(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Who is an anchor, and of whom.

    Returns:
        order (B,) int64: indices into the batch, of which the first Q contain all anchors of a pair, the last P all positives.
        pairs, rivals (Q, P) bool: whether they are an anchor with a positive of its class, or with one of another.

    """
    batch = len(labels)
    same = labels[:, None] == labels
    # 0: an anchor, 1: the only one of its class, 2: a positive.
    roles, order = (same.tril(-1).sum(1) % 2 * 2 + (same.sum(1) == 1)).sort(stable=True)
    # A class has at most as many positives as anchors, and at least one for two anchors: these sizes always suffice, and by not
    # depending on the labels they spare the host a look at them.
    last, first = max(1, 2 * batch // 3), batch - max(1, batch // 2)
    labels = labels.index_select(0, order)
    apt = (roles[:last] == 0)[:, None] & (roles[first:] == 2)
    pairs = apt & (labels[:last, None] == labels[first:])
    return order, pairs, apt ^ pairs
