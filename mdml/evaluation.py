"""Evaluation of a trained network: its embedding and predictions of a set of images, and their scores.

Convention: confusion rows are the truth, columns the prediction. kNN and Recall@K use Euclidean distance between the concatenated
slices, L2-normalised where the method's loss sees them so; votes tie to the smallest label (as scikit-learn's do).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mdml.augmentation import Augmentation
from mdml.losses.triplet import normalize_slices
from mdml.methods import Method
from mdml.metrics.classification import (
    accuracy,
    balanced_accuracy,
    confusion,
    f1_of_macro,
    macro_f1,
    macro_precision,
)
from mdml.metrics.clustering import contingency, kmeans, nmi, pairwise_f1
from mdml.metrics.neighbours import (
    NEIGHBOURS,
    RECALL_AT,
    SWEEP,
    Retrieval,
    knn_accuracy,
    knn_predictions,
    knn_scores,
    nearest_labels,
    nearest_mean_accuracy,
    retrieval,
)
from mdml.models import Network


@dataclass(frozen=True)
class Embedded:
    """A set of images through a network.

    Attributes:
        slices: (N, M, D) float32, as the head gives them.
        labels: (M,) int64.
        logits: (M, C) float32, or None where the method has no classifier.
        scores: (M, C) float32, rows sum to 1, whose largest is the prediction; None before a method that predicts by nearest
            neighbours has met its memory.
        normalized: whether slices are L2-normalised before neighbours are sought.

    """

    slices: Tensor
    labels: Tensor
    logits: Tensor | None
    scores: Tensor | None
    normalized: bool

    @property
    def points(self) -> Tensor:
        """The slices as they are compared: (N, M, D)."""
        return normalize_slices(self.slices) if self.normalized else self.slices

    @property
    def embedding(self) -> Tensor:
        """All slices side by side, as they are compared: (M, N x D)."""
        return self.points.transpose(0, 1).flatten(1)

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
        method.normalized,
    )


def with_neighbours(queries: Embedded, memory: Embedded, classes: int) -> Embedded:
    """The same set with the votes of the nearest training embeddings as its scores."""
    scores = knn_scores(memory.embedding, memory.labels, queries.embedding, classes)
    return dataclasses.replace(queries, scores=scores)


def restricted(embedded: Embedded, classes: Sequence[int]) -> Embedded:
    """The images of some classes alone, and their scores among these: classes[i] is then class i."""
    chosen = torch.tensor(classes, device=embedded.labels.device)
    matches = embedded.labels[:, None] == chosen
    kept = matches.any(1)
    logits, scores = embedded.logits, embedded.scores
    if scores is not None:
        scores = scores[kept][:, chosen]
        scores = scores / scores.sum(1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
    return dataclasses.replace(
        embedded,
        slices=embedded.slices[:, kept],
        labels=matches[kept].int().argmax(1),
        logits=None if logits is None else logits[kept][:, chosen],
        scores=scores,
    )


class Neighbourhood(NamedTuple):
    """`votes`: predictions (Q,) of the K nearest training images; `retrieved`: Recall@K and Acc@K among the images; both by K."""

    votes: dict[int, Tensor]
    retrieved: dict[int, Retrieval]


def neighbourhood(queries: Embedded, memory: Embedded) -> Neighbourhood:
    """The neighbours of a set of images, for every K in one pass over the distances."""
    embedding = queries.embedding
    nearest = nearest_labels(memory.embedding, memory.labels, embedding, max(SWEEP))
    classes = int(torch.maximum(memory.labels.max(), queries.labels.max())) + 1
    return Neighbourhood(knn_predictions(nearest, classes), retrieval(embedding, queries.labels))


def scores(queries: Embedded, memory: Embedded, found: Neighbourhood | None = None) -> dict[str, float]:
    """Every score of a set of images but those of clusters, with the training images as the memory of the kNN.

    Args:
        queries: the set, with scores.
        memory: the training images.
        found: their neighbourhood, where it is known already.

    Returns:
        accuracy, balanced_accuracy, precision (macro), macro_f1, f1_of_macro, knn_accuracy, nearest_mean_accuracy, and recall_at_K and
        acc_at_K for the K that the set is large enough for.

    """
    counts = queries.counts
    votes, retrieved = found or neighbourhood(queries, memory)
    return {
        "accuracy": accuracy(counts),
        "balanced_accuracy": balanced_accuracy(counts),
        "precision": macro_precision(counts),
        "macro_f1": macro_f1(counts),
        "f1_of_macro": f1_of_macro(counts),
        "knn_accuracy": (votes[NEIGHBOURS] == queries.labels).sum().item() / len(queries.labels),
        "nearest_mean_accuracy": nearest_mean_accuracy(
            memory.embedding, memory.labels, queries.embedding, queries.labels
        ),
        **{f"recall_at_{k}": rates.recall for k, rates in retrieved.items() if k in RECALL_AT},
        **{f"acc_at_{k}": rates.accuracy for k, rates in retrieved.items() if k in RECALL_AT},
    }


def cluster_scores(queries: Embedded, found: Neighbourhood, classes: int) -> dict[str, float]:
    """Agreement of groups of images with their classes: NMI and pairwise F1 of k-means with as many clusters as classes, and of kNN.

    The latter takes the classes that 11 neighbours vote for as clusters, as the public code of Marrero-Fernandez et al. 2020 logs it.
    """
    clustered = contingency(kmeans(queries.embedding, classes), queries.labels)
    voted = contingency(found.votes[NEIGHBOURS], queries.labels)
    return {
        "nmi": nmi(clustered),
        "pairwise_f1": pairwise_f1(clustered),
        "nmi_knn": nmi(voted),
        "pairwise_f1_knn": pairwise_f1(voted),
    }


def slice_knn(queries: Embedded, memory: Embedded) -> list[float]:
    """KNN accuracy of every slice on its own."""
    pairs = zip(queries.points, memory.points, strict=True)
    return [knn_accuracy(there, memory.labels, here, queries.labels) for here, there in pairs]
