"""Write the network of a stored trial as a model that mdml.predict reads.

The store keeps no weights: 45 MB for each trial of a ResNet-18 would make 45 GB of a study of a thousand, of which one network is
wanted. What a trial trained is trained again, and is written only where its metrics show that it is the same network.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import torch
from rich.console import Console

from mdml import evaluation
from mdml.augmentation import augmentation
from mdml.description import Description
from mdml.exported import DESCRIPTION, TENSORS, Memory, check_free, save
from results import Store
from study import provenance
from study.config import Config
from study.records import Row
from study.rerun import Repeated, repeat, show, stored_trial
from study.spec import TrialSpec

_SAME = ("trial_key", "arm", "status", "protocol", "dataset", "data_fingerprint", "fold", "folds", "seed")


def export(key: str, output: str | None, tolerance: float, config: Config, console: Console) -> int:
    """Train a stored trial again, compare, and write its network; 0 where it was written, 1 where metrics differ.

    Args:
        key: of the trial, or how it begins.
        output: folder to write, missing or empty; None for exports/KEY below the store.
        tolerance: how far a metric may be from the stored one.
        config: where the store and the cache of the data sets are.
        console: to print to.

    Raises:
        StudyError: where there is no such trial.
        MethodError: where the model cannot be described, or the folder cannot be written.

    """
    store = Store(config["storage"]["root"])
    old = stored_trial(key, store)
    folder = store.root / "exports" / old["trial_key"][:12] if output is None else Path(output).expanduser().absolute()
    check_free(folder)
    repeated = repeat(old, store, config)
    show(repeated, console)
    differing = [name for name, difference in repeated.differences.items() if not difference <= tolerance]
    if differing:
        console.print(
            f"Nothing was written: expected the metrics of the row{f' within {tolerance}' if tolerance else ''}, found others in "
            f"{', '.join(differing)}. What was trained on a GPU, or by other versions, may not repeat to the last bit: "
            "--tolerance says how far a metric may be from the row's."
        )
        return 1
    trial = repeated.trial
    save(folder, describe(repeated), trial.network, memory(repeated))
    console.print(f"Wrote {folder / TENSORS} and {folder / DESCRIPTION}.")
    return 0


def describe(repeated: Repeated) -> Description:
    """What the model is and where it comes from: no path of this machine."""
    spec, classes = repeated.trial.spec, repeated.trial.faces.set.classes
    return Description(
        method=spec.method,
        options=spec.options | {name: Path(spec.options[name]).name for name in spec.option_files},
        backbone=spec.backbone,
        image_size=spec.image_size,
        channels=spec.channels,
        aligned=bool(spec.dataset.get("align", False)),
        augmentation=spec.augmentation,
        classes=list(classes),
        numerics=spec.numerics,
        tensors_sha256="0" * 64,
        origin=_origin(spec, repeated),
    )


def memory(repeated: Repeated) -> Memory | None:
    """The embedding of the training images, where the method predicts by it."""
    trial = repeated.trial
    if trial.method.prediction != "knn":
        return None
    faces, index = trial.faces, torch.from_numpy(trial.split.train)
    view = augmentation(trial.spec.augmentation)
    embedded = evaluation.embed(trial.network, trial.method, faces.images, faces.labels, index, view)
    return Memory(embedded.embedding, embedded.labels)


def _origin(spec: TrialSpec, repeated: Repeated) -> Row:
    old, new = repeated.old, repeated.new
    best = old.get("best_epoch")
    return {name: old[name] for name in _SAME} | {
        "epoch": old["epochs"] if best is None else best,
        "metrics": repeated.metrics,
        "largest_difference": max(repeated.differences.values(), default=0.0),
        "start_weights_sha256": spec.weights_digest,
        "option_files_sha256": spec.option_files,
        "device": new["device"],
        "git_commit": new["git_commit"],
        "git_dirty": new["git_dirty"],
        "versions": json.loads(provenance.versions())
        | {name: metadata.version(name) for name in ("pillow", "safetensors")},
    }
