"""The evaluation of a trained network on another data set, whose classes are matched by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from datasets import FaceSet
from datasets.expressions import canonical
from datasets.splits import judged
from mdml import evaluation
from mdml.evaluation import Embedded
from study.records import Row


def transfer_row(
    faces: FaceSet,
    other: FaceSet,
    memory: Embedded,
    embed: Callable[[Tensor, Tensor], Embedded],
    part: str | None = None,
) -> Row:
    """A row of the table `transfers`, but for its key.

    Args:
        faces: what the network was trained on.
        other: what it is judged on.
        memory: the training images.
        embed: takes labels (N,) int64 of all images of `other`, and the index (M,) of those to embed.
        part: the official part of `other` that is judged; None for all of it.

    """
    shared = shared_classes(faces, other, part)
    ours = [label for label, _ in shared]
    renamed = torch.full((len(other.classes),), -1)
    renamed[[there for _, there in shared]] = torch.tensor(ours)
    labels = renamed[torch.from_numpy(other.labels.copy())]
    asked = torch.from_numpy(judged(other, part))
    index = asked[labels[asked] >= 0]
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
        "part": part,
        "data_fingerprint": other.fingerprint,
        "images": len(index),
        "images_left_out": len(asked) - len(index),
        "classes": [faces.classes[label] for label in ours],
        "classes_trained_only": [name for label, name in enumerate(faces.classes) if label not in ours],
        "classes_transfer_only": [name for label, name in enumerate(other.classes) if label not in there],
        **{name: scores[name] for name in kept},
    }


def shared_classes(faces: FaceSet, other: FaceSet, part: str | None = None) -> list[tuple[int, int]]:
    """Labels (in faces, in other) of the classes that both name, and that `part` of the other has images of.

    Names are compared whatever their case; where only one word differs, as happy and happiness, by the canonical one. A class has one
    counterpart at most.
    """
    labels = other.labels[judged(other, part)]
    present = [(label, name) for label, name in enumerate(other.classes) if (labels == label).any()]
    pairs: dict[int, int] = {}
    for word in (str.casefold, canonical):
        theirs = {word(name): label for label, name in present if label not in pairs.values()}
        for label, name in enumerate(faces.classes):
            if label not in pairs and word(name) in theirs:
                pairs[label] = theirs.pop(word(name))
    return sorted(pairs.items())
