"""Evaluation of a trained network: predictions, confusion, nearest neighbours.

Convention: confusion rows are the truth, columns the prediction. kNN and Recall@K use Euclidean distance between the concatenated
L2-normalised slices; votes tie to the smallest label (as scikit-learn's do).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.augmentation import Augmentation
from mdml.losses.triplet import normalize_slices
from mdml.methods import Method
from mdml.models import Network

NEIGHBOURS = 11
RECALL_AT = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Embedded:
    """A set of images through a network.

    Attributes:
        slices: (N, M, D) float32, as the head gives them.
        labels: (M,) int64.
        logits: (M, C) float32, or None where the method has no classifier.
        scores: (M, C) float32, rows sum to 1, whose largest is the prediction; None before a method that predicts by nearest
            neighbours has met its memory.

    """

    slices: Tensor
    labels: Tensor
    logits: Tensor | None
    scores: Tensor | None

    @property
    def embedding(self) -> Tensor:
        """Concatenated L2-normalised slices: (M, N x D)."""
        return normalize_slices(self.slices).transpose(0, 1).flatten(1)

    @property
    def counts(self) -> Tensor:
        """Confusion matrix of the predictions: (C, C) int64 on the host."""
        if self.scores is None:
            raise ValueError("A method that predicts by nearest neighbours has no scores without its memory.")
        return confusion(self.scores.argmax(1), self.labels, self.scores.shape[1])


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where a GPU has it, else float32: the precision of training and of evaluation alike."""
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


@torch.no_grad()
def embed(
    network: Network,
    method: Method,
    images: Tensor,
    labels: Tensor,
    index: Tensor,
    augmentation: Augmentation,
    batch: int = 256,
) -> Embedded:
    """Run a network in evaluation mode over images[index].

    Args:
        network: in any mode; left in evaluation mode.
        method: says how a head's output is a prediction.
        images: (N, C, S, S) uint8 on the device.
        labels: (N,) int64 on the device.
        index: (M,) int64.
        augmentation: its test view is used.
        batch: images at a time.

    """
    network.eval()
    chunks = index.to(images.device).split(batch)
    with mixed_precision(images.device):
        outputs = [network(augmentation.test(images[chunk])) for chunk in chunks]
    logits = [output.logits.float() for output in outputs if output.logits is not None]
    return Embedded(
        torch.cat([output.slices.float() for output in outputs], 1),
        labels[index.to(labels.device)],
        torch.cat(logits) if logits else None,
        torch.cat([method.scores(output) for output in outputs]) if method.prediction == "classifier" else None,
    )


def with_neighbours(queries: Embedded, memory: Embedded, classes: int) -> Embedded:
    """The same set with the votes of the nearest training embeddings as its scores."""
    scores = knn_scores(memory.embedding, memory.labels, queries.embedding, classes)
    return dataclasses.replace(queries, scores=scores)


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts of (truth, prediction): (C, C) int64 on the host."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes).cpu()


def accuracy(counts: Tensor) -> float:
    """Share of the diagonal of a confusion matrix."""
    return counts.diagonal().sum().item() / counts.sum().item()


def balanced_accuracy(counts: Tensor) -> float:
    """Mean recall over the classes that occur."""
    present = counts.sum(1) > 0
    return (counts.diagonal()[present].double() / counts.sum(1)[present]).mean().item()


def macro_f1(counts: Tensor) -> float:
    """Mean of the classes' F1 = 2 TP / (2 TP + FP + FN), over the classes that occur or are predicted."""
    denominator = counts.sum(0) + counts.sum(1)
    present = denominator > 0
    return (2 * counts.diagonal()[present].double() / denominator[present]).mean().item()


@torch.no_grad()
def knn_scores(
    memory: Tensor, memory_labels: Tensor, queries: Tensor, classes: int, neighbours: int = NEIGHBOURS
) -> Tensor:
    """Shares of the votes of the nearest neighbours: memory (M, D), queries (Q, D) float; (Q, C) float32.

    Fewer than `neighbours` samples in memory all vote. The first of equal shares is the prediction, as in scikit-learn.
    """
    count = min(neighbours, len(memory))
    votes = []
    for chunk in queries.split(1024):
        nearest = torch.cdist(chunk, memory).topk(count, largest=False).indices
        votes.append(F.one_hot(memory_labels[nearest], classes).sum(1))
    return torch.cat(votes).float() / count


def knn_accuracy(
    memory: Tensor, memory_labels: Tensor, queries: Tensor, labels: Tensor, neighbours: int = NEIGHBOURS
) -> float:
    """Accuracy of a vote of the nearest neighbours: memory (M, D), queries (Q, D) float; labels int64."""
    classes = int(torch.maximum(memory_labels.max(), labels.max())) + 1
    predicted = knn_scores(memory, memory_labels, queries, classes, neighbours).argmax(1)
    return (predicted == labels).sum().item() / len(labels)


@torch.no_grad()
def recall_at(embedding: Tensor, labels: Tensor, ks: tuple[int, ...] = RECALL_AT) -> dict[int, float]:
    """Share of samples with one of their class among their K nearest others: embedding (M, D), labels (M,).

    A K that the set is too small for (K > M - 1) is left out.
    """
    ks = tuple(k for k in ks if k < len(labels))
    if not ks:
        return {}
    hits = torch.zeros(len(ks), dtype=torch.int64)
    for start in range(0, len(labels), 1024):
        rows = torch.arange(start, min(start + 1024, len(labels)), device=labels.device)
        distances = torch.cdist(embedding[rows], embedding)
        distances[torch.arange(len(rows)), rows] = torch.inf
        nearest = distances.topk(max(ks), largest=False).indices
        first = (labels[nearest] == labels[rows, None]).cummax(1).values
        hits += first[:, [k - 1 for k in ks]].sum(0).cpu()
    return {k: hit / len(labels) for k, hit in zip(ks, hits.tolist(), strict=True)}


def scores(queries: Embedded, memory: Embedded) -> dict[str, float]:
    """Every score of a set of images, with the training images as the memory of the kNN.

    Returns:
        accuracy, balanced_accuracy, macro_f1, knn_accuracy, and recall_at_K for the K that the set is large enough for.

    """
    counts = queries.counts
    embedding = queries.embedding
    return {
        "accuracy": accuracy(counts),
        "balanced_accuracy": balanced_accuracy(counts),
        "macro_f1": macro_f1(counts),
        "knn_accuracy": knn_accuracy(memory.embedding, memory.labels, embedding, queries.labels),
        **{f"recall_at_{k}": value for k, value in recall_at(embedding, queries.labels).items()},
    }


def slice_knn(queries: Embedded, memory: Embedded) -> list[float]:
    """KNN accuracy of every slice on its own."""
    ours, theirs = normalize_slices(queries.slices), normalize_slices(memory.slices)
    return [knn_accuracy(there, memory.labels, here, queries.labels) for here, there in zip(ours, theirs, strict=True)]
