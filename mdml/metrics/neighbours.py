"""Nearest neighbours, by the Euclidean distance: votes of the training images, and retrieval among the images themselves.

Sources: Marrero-Fernandez et al. 2020 for K = 11 and uniform weights; the K of retrieval are our choice, since the axis of its figure
is lost. Votes tie to the smallest label, as scikit-learn's do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.metrics.euclidean import about_mean

NEIGHBOURS = 11
RECALL_AT = (1, 2, 4, 8, 16, 32)
SWEEP = tuple(sorted({*RECALL_AT, NEIGHBOURS}))
_ROWS = 1024  # distances of so many queries at a time


class Retrieval(NamedTuple):
    """Of the K nearest others of a sample: `recall`, whether one has its class; `accuracy`, the share that has it. Means over samples."""

    recall: float
    accuracy: float


@torch.no_grad()
def nearest_labels(memory: Tensor, memory_labels: Tensor, queries: Tensor, most: int) -> Tensor:
    """Labels of the `most` nearest samples of the memory, the nearest first.

    Args:
        memory: (M, D) float.
        memory_labels: (M,) int64.
        queries: (Q, D) float.
        most: of fewer samples in memory all are given.

    Returns:
        (Q, K) int64.

    """
    count = min(most, len(memory))
    memory, queries = about_mean(memory, queries)
    rows = [torch.cdist(chunk, memory).topk(count, largest=False).indices for chunk in queries.split(_ROWS)]
    return memory_labels[torch.cat(rows)]


def knn_predictions(nearest: Tensor, classes: int, ks: tuple[int, ...] = SWEEP) -> dict[int, Tensor]:
    """Predictions of a vote of the K nearest, for every K: (Q,) int64 each.

    Args:
        nearest: (Q, K) int64, labels of the nearest samples, as `nearest_labels` gives them; where K is greater, all vote.
        classes: number of classes.
        ks: the numbers of neighbours.

    """
    votes = F.one_hot(nearest, classes).cumsum(1)
    return {k: votes[:, min(k, nearest.shape[1]) - 1].argmax(1) for k in ks}


def knn_scores(
    memory: Tensor, memory_labels: Tensor, queries: Tensor, classes: int, neighbours: int = NEIGHBOURS
) -> Tensor:
    """Shares of the votes of the nearest neighbours: memory (M, D), queries (Q, D) float; (Q, C) float32.

    Fewer than `neighbours` samples in memory all vote. The first of equal shares is the prediction, as in scikit-learn.
    """
    nearest = nearest_labels(memory, memory_labels, queries, neighbours)
    return F.one_hot(nearest, classes).sum(1).float() / nearest.shape[1]


def knn_accuracy(
    memory: Tensor, memory_labels: Tensor, queries: Tensor, labels: Tensor, neighbours: int = NEIGHBOURS
) -> float:
    """Accuracy of a vote of the nearest neighbours: memory (M, D), queries (Q, D) float; labels int64."""
    classes = int(torch.maximum(memory_labels.max(), labels.max())) + 1
    predicted = knn_scores(memory, memory_labels, queries, classes, neighbours).argmax(1)
    return (predicted == labels).sum().item() / len(labels)


@torch.no_grad()
def retrieval(embedding: Tensor, labels: Tensor, ks: tuple[int, ...] = SWEEP) -> dict[int, Retrieval]:
    """Recall@K and Acc@K of every sample as a query among the others: embedding (M, D), labels (M,).

    A K that the set is too small for (K > M - 1) is left out.
    """
    ks = tuple(k for k in ks if k < len(labels))
    if not ks:
        return {}
    found, same = torch.zeros(2, len(ks), dtype=torch.int64)
    embedding, _ = about_mean(embedding, embedding)
    last = [k - 1 for k in ks]
    for start in range(0, len(labels), _ROWS):
        rows = torch.arange(start, min(start + _ROWS, len(labels)), device=labels.device)
        distances = torch.cdist(embedding[rows], embedding)
        distances[torch.arange(len(rows)), rows] = torch.inf
        nearest = distances.topk(max(ks), largest=False).indices
        alike = (labels[nearest] == labels[rows, None]).cumsum(1)[:, last]
        found += (alike > 0).sum(0).cpu()
        same += alike.sum(0).cpu()
    samples = len(labels)
    rates = zip(ks, found.tolist(), same.tolist(), strict=True)
    return {k: Retrieval(hits / samples, total / (samples * k)) for k, hits, total in rates}


@torch.no_grad()
def nearest_mean_accuracy(memory: Tensor, memory_labels: Tensor, queries: Tensor, labels: Tensor) -> float:
    """Accuracy of the nearest class mean of the memory: memory (M, D), queries (Q, D) float; labels int64.

    Source: the batch accuracy of the public code of Marrero-Fernandez et al. 2020, here with the means of the training images. Classes
    that the memory lacks have no mean and are never predicted.
    """
    memory, queries = about_mean(memory, queries)
    classes, members = memory_labels.unique(return_inverse=True)
    sums = memory.new_zeros(len(classes), memory.shape[1]).index_add_(0, members, memory)
    means = sums / torch.bincount(members)[:, None]
    predicted = classes[torch.cdist(queries, means).argmin(1)]
    return (predicted == labels).sum().item() / len(labels)
