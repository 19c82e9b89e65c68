"""Rows of the results tables from what mdml measured."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from datasets import FaceSet
from mdml.evaluation import Embedded, Neighbourhood
from mdml.metrics.classification import per_class, row_normalized
from mdml.metrics.distances import distance_distributions
from results.schema import TABLES

Row = dict[str, Any]


def curves(key: str, records: list[Row]) -> dict[str, list[Row]]:
    """Rows of the tables `epochs` and `slices` from epoch records."""
    epochs = [
        {"trial_key": key} | {name: value for name, value in record.items() if name in TABLES["epochs"].schema.names}
        for record in records
    ]
    slices = [{"trial_key": key} | row for record in records for row in record["slices"]]
    return {"epochs": epochs, "slices": slices}


def confusion_rows(key: str, split: str, counts: Tensor, classes: Sequence[str]) -> list[Row]:
    """The table `confusion` from a confusion matrix (C, C)."""
    rates = row_normalized(counts).tolist()
    return [
        {
            "trial_key": key,
            "split": split,
            "truth": truth,
            "predicted": predicted,
            "truth_class": classes[truth],
            "predicted_class": classes[predicted],
            "count": count,
            "rate": rates[truth][predicted],
        }
        for truth, row in enumerate(counts.tolist())
        for predicted, count in enumerate(row)
    ]


def class_rows(key: str, split: str, counts: Tensor, classes: Sequence[str]) -> list[Row]:
    """The table `classes` from a confusion matrix (C, C)."""
    columns = zip(*(values.tolist() for values in per_class(counts)), strict=True)
    return [
        {
            "trial_key": key,
            "split": split,
            "label": label,
            "class_name": classes[label],
            "precision": number(precision),
            "recall": number(recall),
            "f1": number(f1),
            "support": int(support),
        }
        for label, (precision, recall, f1, support) in enumerate(columns)
    ]


def neighbour_rows(key: str, split: str, labels: Tensor, found: Neighbourhood) -> list[Row]:
    """The table `neighbours`; labels (M,) of the images whose neighbourhood it is."""
    rows = []
    for k, predicted in found.votes.items():
        rates = found.retrieved.get(k)
        row = {
            "trial_key": key,
            "split": split,
            "k": k,
            "knn_accuracy": (predicted == labels).sum().item() / len(labels),
        }
        rows.append(row | ({} if rates is None else {"recall_at": rates.recall, "acc_at": rates.accuracy}))
    return rows


def prediction_rows(key: str, faces: FaceSet, index: npt.NDArray[np.int64], embedded: Embedded) -> list[Row]:
    """The table `predictions`: index (M,) says which images of the data set were embedded."""
    scores = embedded.scores
    if scores is None:
        raise ValueError("Predictions need scores.")
    columns = zip(index.tolist(), embedded.labels.tolist(), scores.argmax(1).tolist(), scores.tolist(), strict=True)
    return [
        {
            "trial_key": key,
            "image": image,
            "label": label,
            "predicted": predicted,
            "scores": score,
            "subject": str(faces.subjects[image]),
            "sequence": str(faces.sequences[image]),
        }
        for image, label, predicted, score in columns
    ]


def distance_rows(
    key: str, split: str, embedded: Embedded, thresholds: Sequence[float], classes: Sequence[str]
) -> list[Row]:
    """The table `distances`; `thresholds` has one for each slice, or none."""
    rows = []
    for index, found in enumerate(distance_distributions(embedded.slices, embedded.labels)):
        for pairs, distribution in found.items():
            of_all = pairs.first is None
            rows.append(
                {
                    "trial_key": key,
                    "split": split,
                    "slice": index,
                    "threshold": thresholds[index] if thresholds else None,
                    "kind": pairs.kind,
                    "first_class": None if pairs.first is None else classes[pairs.first],
                    "second_class": None if pairs.second is None else classes[pairs.second],
                    "pairs": sum(distribution.counts),
                    "counts": distribution.counts if of_all else None,
                    **{name: getattr(distribution, name) for name in ("mean", "std", "p5", "p95")},
                }
            )
    return rows


def embedding_rows(
    key: str, index: npt.NDArray[np.int64], labels: Tensor, classes: Sequence[str], places: Tensor
) -> list[Row]:
    """The table `embedding`: places (M, 2) of the images index (M,) with labels (M,)."""
    columns = zip(index.tolist(), labels.tolist(), places.tolist(), strict=True)
    return [
        {"trial_key": key, "image": image, "label": label, "class_name": classes[label], "x": x, "y": y}
        for image, label, (x, y) in columns
    ]


def picture_rows(key: str, pictures: Mapping[str, npt.NDArray[np.uint8]]) -> list[Row]:
    """The table `pictures`: (H, W, 3) uint8 by name."""
    rows = []
    for name, pixels in sorted(pictures.items()):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        rows.append({"trial_key": key, "name": name, "png": file.getvalue()})
    return rows


def number(value: float) -> float | None:
    """The value, or None for what is not a number."""
    return None if math.isnan(value) else value
