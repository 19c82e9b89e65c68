"""All that is measured of a trained network, as rows by table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from datasets import FaceSet
from mdml import evaluation
from mdml.diagnostics import population_incomplete_rate
from mdml.evaluation import Embedded
from mdml.metrics.classification import sequence_accuracy
from mdml.metrics.projection import tsne
from study import records
from study.records import Row

Index = npt.NDArray[np.int64]


class Verdict:
    """Gathers rows.

    Args:
        key: of the trial.
        faces: its data set.
        thresholds: of its slices, or none.
        memory: the training images.

    Attributes:
        tables: rows by table.

    """

    def __init__(self, key: str, faces: FaceSet, thresholds: Sequence[float], memory: Embedded) -> None:
        self.key, self.faces, self.thresholds, self.memory = key, faces, thresholds, memory
        self.tables: dict[str, list[Row]] = defaultdict(list)

    def judge(self, split: str, embedded: Embedded) -> dict[str, float]:
        """Scores of a set of images, with its rows of `confusion`, `classes` and `neighbours`."""
        classes, counts = self.faces.classes, embedded.counts
        found = evaluation.neighbourhood(embedded, self.memory)
        self.tables["confusion"] += records.confusion_rows(self.key, split, counts, classes)
        self.tables["classes"] += records.class_rows(self.key, split, counts, classes)
        self.tables["neighbours"] += records.neighbour_rows(self.key, split, embedded.labels, found)
        scores = evaluation.scores(embedded, self.memory, found)
        return scores | (evaluation.cluster_scores(embedded, found, len(classes)) if split == "test" else {})

    def predictions(self, index: Index, embedded: Embedded) -> float:
        """The accuracy of sequences, with the rows of `predictions`: index (M,) of the test images."""
        if embedded.scores is None:
            raise ValueError("Predictions need scores.")
        self.tables["predictions"] = records.prediction_rows(self.key, self.faces, index, embedded)
        return sequence_accuracy(embedded.scores, embedded.labels, self.faces.sequences[index])

    def projection(self, index: Index, embedded: Embedded) -> None:
        """Rows of `embedding`: index (M,) of the test images."""
        places, classes = tsne(embedded.embedding), self.faces.classes
        self.tables["embedding"] = records.embedding_rows(self.key, index, embedded.labels, classes, places)

    def slices(self, embedded: Embedded, rows: list[Row]) -> None:
        """What every slice says on its own: columns of the last epoch's `rows` of `slices`."""
        for row, value in zip(rows, evaluation.slice_knn(embedded, self.memory), strict=True):
            row["knn_accuracy"] = value
        if self.thresholds:
            thresholds = torch.tensor(self.thresholds)
            rates = population_incomplete_rate(embedded.slices, embedded.labels, thresholds).tolist()
            for row, rate in zip(rows, rates, strict=True):
                row["population_incomplete_rate"] = records.number(rate)

    def distances(self, split: str, embedded: Embedded) -> None:
        """Rows of `distances` of the training images and of a set of others."""
        for name, judged in (("train", self.memory), (split, embedded)):
            found = records.distance_rows(self.key, name, judged, self.thresholds, self.faces.classes)
            self.tables["distances"] += found
