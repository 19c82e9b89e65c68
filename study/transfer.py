"""The evaluation of a trained network on another data set, whose classes are matched by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from datasets import FaceSet
from mdml import evaluation
from mdml.evaluation import Embedded
from study.extras import shared_classes
from study.records import Row


def transfer_row(faces: FaceSet, other: FaceSet, memory: Embedded, embed: Callable[[Tensor, Tensor], Embedded]) -> Row:
    """A row of the table `transfers`, but for its key.

    Args:
        faces: what the network was trained on.
        other: what it is judged on.
        memory: the training images.
        embed: takes labels (N,) int64 of all images of `other`, and the index (M,) of those to embed.

    """
    shared = shared_classes(faces, other)
    ours = [label for label, _ in shared]
    renamed = torch.full((len(other.classes),), -1)
    renamed[[there for _, there in shared]] = torch.tensor(ours)
    labels = renamed[torch.from_numpy(other.labels.copy())]
    index = (labels >= 0).nonzero().squeeze(1)
    known = evaluation.restricted(memory, ours)
    tested = evaluation.restricted(embed(labels, index), ours)
    if tested.scores is None:
        tested = evaluation.with_neighbours(tested, known, len(ours))
    found = evaluation.neighbourhood(tested, known)
    scores = evaluation.scores(tested, known, found) | evaluation.cluster_scores(tested, found, len(ours))
    there = {label for _, label in shared}
    kept = ("accuracy", "balanced_accuracy", "macro_f1", "knn_accuracy", "nmi", "pairwise_f1")
    return {
        "dataset": other.name,
        "data_fingerprint": other.fingerprint,
        "images": len(index),
        "images_left_out": len(other) - len(index),
        "classes": [faces.classes[label] for label in ours],
        "classes_trained_only": [name for label, name in enumerate(faces.classes) if label not in ours],
        "classes_transfer_only": [name for label, name in enumerate(other.classes) if label not in there],
        **{name: scores[name] for name in kept},
    }
