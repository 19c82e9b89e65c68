"""Scores of predictions: all but those of sequences come from a confusion matrix (C, C) int64, whose rows are the truth.

Two conventions of F1 are in use. `macro_f1` is the mean of the classes' F1; `f1_of_macro` is 2PR / (P + R) of the macro precision and
the macro recall, which is what Table 2 of Marrero-Fernandez et al. 2020 prints (verified on all of its 15 rows).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class ClassScores(NamedTuple):
    """Scores of every class, (C,) float64 on the host.

    Attributes:
        precision: NaN where the class is never predicted.
        recall: NaN where the class never occurs.
        f1: 2 TP / (2 TP + FP + FN); NaN where the class neither occurs nor is predicted.
        support: images of the class.

    """

    precision: Tensor
    recall: Tensor
    f1: Tensor
    support: Tensor


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts of (truth, prediction): (C, C) int64 on the host."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes).cpu()


def row_normalized(counts: Tensor) -> Tensor:
    """Each row divided by its sum: (C, C) float64; the row of a class that never occurs is 0."""
    return counts.double() / counts.sum(1, keepdim=True).clamp_min(1)


def per_class(counts: Tensor) -> ClassScores:
    """Precision, recall, F1 and support of every class."""
    right, predicted, support = counts.diagonal().double(), counts.sum(0).double(), counts.sum(1).double()
    return ClassScores(right / predicted, right / support, 2 * right / (predicted + support), support)


def accuracy(counts: Tensor) -> float:
    """Share of the diagonal."""
    return counts.diagonal().sum().item() / counts.sum().item()


def balanced_accuracy(counts: Tensor) -> float:
    """Mean recall over the classes that occur; also called macro recall and mean class accuracy."""
    return per_class(counts).recall.nanmean().item()


def macro_precision(counts: Tensor) -> float:
    """Mean precision over the classes that occur or are predicted, 0 for one that is never predicted."""
    scores = per_class(counts)
    return scores.precision.nan_to_num(0)[~scores.f1.isnan()].mean().item()


def macro_f1(counts: Tensor) -> float:
    """Mean F1 over the classes that occur or are predicted."""
    return per_class(counts).f1.nanmean().item()


def f1_of_macro(counts: Tensor) -> float:
    """2PR / (P + R) of the macro precision and the macro recall; 0 where both are 0."""
    precision, recall = macro_precision(counts), balanced_accuracy(counts)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def sequence_accuracy(scores: Tensor, labels: Tensor, sequences: npt.NDArray[np.str_]) -> float:
    """Accuracy of one decision a sequence: the largest of the mean of its frames' scores, the first of equals.

    Frames of one recording that show different classes, such as its neutral beginning and its apex, are decided on apart.

    Args:
        scores: (M, C) float, rows sum to 1.
        labels: (M,) int64.
        sequences: (M,) names of the recordings; a still is a sequence of its own.

    """
    recording = np.unique(sequences, return_inverse=True)[1].astype(np.int64) * scores.shape[1] + labels.cpu().numpy()
    _, first, inverse = np.unique(recording, return_index=True, return_inverse=True)
    sums = scores.new_zeros(len(first), scores.shape[1], dtype=torch.float64, device="cpu")
    sums.index_add_(0, torch.from_numpy(inverse), scores.cpu().double())
    return (sums.argmax(1) == labels.cpu()[torch.from_numpy(first)]).double().mean().item()
