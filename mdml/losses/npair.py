"""(N+1)-tuplet and multi-class N-pair loss (Sohn, Improved deep metric learning with multi-class N-pair loss, NIPS 2016).

Convention: similarities are inner products of embeddings as they are, not normalised; the regularisation keeps their lengths in bounds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.errors import MethodError
from mdml.losses.batch import check_batch, masked_logsumexp, softplus
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
    queries, positives, pairs, rivals = _roles(labels)
    with full_precision(embeddings):
        embeddings = raised(embeddings)
        scores = embeddings.index_select(0, queries) @ embeddings.index_select(0, positives).mT
        terms = softplus(masked_logsumexp(scores, rivals, 1)[:, None] - scores)
        mean = (terms * pairs).sum() / pairs.sum().clamp_min(1)
        return mean + regularization * embeddings.square().sum(1).mean() if regularization else mean


def _roles(labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows and columns of the scores, and what each entry is.

    Returns:
        queries (Q,) and positives (P,) int64: indices into the batch that contain all anchors of a pair and all positives, and others.
        pairs, rivals (Q, P) bool: whether an entry is an anchor with a positive of its class, or with one of another.

    """
    batch = len(labels)
    same = labels[:, None] == labels
    # 0: an anchor, 1: the only one of its class, 2: a positive.
    roles = 2 * (same.tril(-1).sum(1) % 2) + (same.sum(1) == 1)
    order = roles.argsort(stable=True)
    # A class has at most as many positives as anchors, and at least one for two anchors: these sizes always suffice, and by not
    # depending on the labels they spare the host a look at them.
    queries, positives = order[: max(1, 2 * batch // 3)], order[batch - batch // 2 :]
    apt = (roles[queries] == 0)[:, None] & (roles[positives] == 2)
    same = labels[queries][:, None] == labels[positives]
    return queries, positives, apt & same, apt & ~same
