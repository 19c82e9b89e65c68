"""Stores that nobody trained, for benchmarks/query.py: many alike studies, or one of each kind that a table is made of.

100 trials a study, 10 epochs a trial, compacted as a study leaves them at its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from results.compacted import ORIGIN, REPLACES
from results.compaction import _write, _write_bytes
from results.files import RANK, conform
from results.index import index_bytes
from results.layout import INDEX, Generation, Layout
from results.schema import TABLES
from results.store import Store

ARMS, FOLDS, SEEDS, EPOCHS = 10, 5, 2, 10
STUDY = ARMS * FOLDS * SEEDS
IMAGES, PEOPLE, CLASSES = 100, 12, 7  # of a test fold
LEVELS = (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21)  # numbers of neighbours
# The kinds of studies in a mixed store, in turn; "paper" repeats the "list" before it, "fresh" trains the best of the "search" anew.
KINDS = ("list", "paper", "grid", "k", "dataset", "search", "fresh", "ranked", "ranked", "list")
METRICS = {"k": "test_knn_accuracy", "search": "val_accuracy", "fresh": "val_accuracy"}
Rows = dict[str, pa.Table]
Make = Callable[[int, int], Rows]


def trials(first: int, count: int) -> Rows:
    """Alike trials, sorted by study and key, and their curves."""
    rng = np.random.default_rng(first)
    number = np.arange(first, first + count)
    place = number % STUDY
    accuracy = rng.normal(0.8, 0.03, count)
    values: dict[str, Any] = {
        "trial_key": keys(number, rng),
        "study": [f"study-{n // STUDY:06}" for n in number],
        "arm": [f"arm {p // (FOLDS * SEEDS)}" for p in place],
        "method": ["mul_dml"] * count,
        "dataset": ["synthetic"] * count,
        "fold": place % FOLDS,
        "seed": place // FOLDS % SEEDS,
        "protocol": ["sealed"] * count,
        "status": ["done"] * count,
        "epochs": np.full(count, EPOCHS),
        "epochs_planned": np.full(count, EPOCHS),
        "train_images": np.full(count, 160),
        "validation_images": np.full(count, 40),
        "test_images": np.full(count, 50),
        "val_accuracy": accuracy + 0.01,
        "test_accuracy": accuracy,
        "test_macro_f1": accuracy - 0.01,
        "seconds": rng.uniform(50, 60, count),
        "config": [json.dumps({"arm": int(p) // 10, "fold": int(p) % FOLDS, "options": "x" * 300}) for p in place],
        "started_at": 1_700_000_000_000_000 + number * 1_000_000,
        "ended_at": 1_700_000_060_000_000 + number * 1_000_000,
    }
    rows = conform(pa.table(values), TABLES["trials"].schema)
    return {"trials": rows, "epochs": epochs(rows, rng)}


def mixed(first: int, count: int) -> Rows:
    """Trials of studies of KINDS in turn, with the rows that their tables are made of."""
    rows = trials(first, count)
    rng = np.random.default_rng(first + 1)
    found = rows["trials"].to_pylist()
    for number, row in enumerate(found, first):
        study, place = divmod(number, STUDY)
        kind, arm = KINDS[study % len(KINDS)], place // (FOLDS * SEEDS)
        config: dict[str, Any] = {"method": "mul_dml", "options": {"weight": arm / 10, "text": "x" * 300}}
        config["decade"] = study // len(KINDS)  # a paper study repeats the list of its own decade
        if kind == "paper":
            row["protocol"] = "paper"
        elif kind in ("search", "fresh"):
            row["fold"], row["seed"] = 0, 0 if kind == "search" else 1 + place % (FOLDS * SEEDS)
            config |= {"options": {"rate": place if kind == "search" else arm}, "search": None}
            if kind == "search":  # the first is the best, and half of them are stopped
                config["search"] = {"trial": place}
                row |= {"val_accuracy": 0.9 - place / 1000, "status": "done" if place < STUDY // 2 else "stopped"}
        else:
            config["study"] = study if kind != "list" or study % len(KINDS) else None
        if kind == "ranked":
            row["dataset"], row["data_fingerprint"] = f"set-{study:03}", f"{study:064}"
        row["test_knn_accuracy"] = row["test_accuracy"]
        row["config"] = json.dumps(config | {name: row[name] for name in ("arm", "fold", "seed", "protocol", "study")})
    made = conform(pa.Table.from_pylist(found, TABLES["trials"].schema), TABLES["trials"].schema)
    tested = [row["trial_key"] for row in found if row["study"] and _kind(row["study"]) not in ("search", "fresh")]
    return rows | {
        "trials": made,
        "predictions": predictions(tested, rng),
        "neighbours": neighbours([key for key in tested if _kind_of_key(key) == "k"], rng),
        "transfers": transfers([key for key in tested if _kind_of_key(key) == "dataset"], rng),
    }


def _kind(study: str) -> str:
    return KINDS[int(study.rpartition("-")[2]) % len(KINDS)]


def _kind_of_key(key: str) -> str:
    return KINDS[int(key[:8], 16) % len(KINDS)]


def keys(number: Any, rng: np.random.Generator) -> list[str]:
    """Trial keys in their order within each study."""
    order = np.sort(rng.integers(0, 2**62, len(number)))
    return [f"{n // STUDY:08x}{k:024x}" for n, k in zip(number, order, strict=True)]


def epochs(rows: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The curves of these trials."""
    count = rows.num_rows * EPOCHS
    values = {
        "trial_key": rows["trial_key"].take(pa.array(np.repeat(np.arange(rows.num_rows), EPOCHS))),
        "epoch": np.tile(np.arange(1, EPOCHS + 1), rows.num_rows),
        "train_loss": rng.normal(1, 0.1, count),
        "val_accuracy": rng.normal(0.7, 0.1, count),
        "val_loss": rng.normal(1, 0.1, count),
        "train_accuracy": rng.normal(0.7, 0.1, count),
        "seconds": rng.uniform(1, 2, count),
    }
    return conform(pa.table(values), TABLES["epochs"].schema)


def predictions(tested: list[str], rng: np.random.Generator) -> pa.Table:
    """Decisions on the images of a test fold, four of five right."""
    count = len(tested) * IMAGES
    label = np.tile(np.arange(IMAGES) % CLASSES, len(tested))
    wrong = (label + rng.integers(1, CLASSES, count)) % CLASSES
    values = {
        "trial_key": np.repeat(np.array(tested, object), IMAGES),
        "image": np.tile(np.arange(IMAGES), len(tested)),
        "label": label,
        "predicted": np.where(rng.random(count) < 0.8, label, wrong),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(rng.random(count * CLASSES, np.float32)), CLASSES),
        "subject": np.tile([f"S{image % PEOPLE:03}" for image in range(IMAGES)], len(tested)),
        "sequence": np.full(count, ""),
    }
    return conform(pa.table(values), TABLES["predictions"].schema)


def neighbours(tested: list[str], rng: np.random.Generator) -> pa.Table:
    """What every number of neighbours says."""
    values = {
        "trial_key": np.repeat(np.array(tested, object), len(LEVELS)),
        "split": ["test"] * len(tested) * len(LEVELS),
        "k": np.tile(LEVELS, len(tested)),
        "knn_accuracy": rng.normal(0.8, 0.03, len(tested) * len(LEVELS)),
    }
    return conform(pa.table(values), TABLES["neighbours"].schema)


def transfers(tested: list[str], rng: np.random.Generator) -> pa.Table:
    """Every network on two other data sets."""
    values = {
        "trial_key": np.repeat(np.array(tested, object), 2),
        "dataset": np.tile(["set-a", "set-b"], len(tested)),
        "accuracy": rng.normal(0.5, 0.03, len(tested) * 2),
    }
    return conform(pa.table(values), TABLES["transfers"].schema)


def alike(number: int) -> dict[str, Any]:
    """The row of one of many alike studies."""
    row = {"kind": "ablation", "baseline": "arm 0", "config": "{}", "metric": "test_accuracy"}
    return row | {"study": f"study-{number:06}"}


def of_a_kind(number: int) -> dict[str, Any]:
    """The row of a study of KINDS."""
    kind, arms = KINDS[number % len(KINDS)], [f"arm {arm}" for arm in range(ARMS)]
    row = alike(number) | {"metric": METRICS.get(kind, "test_accuracy")}
    if kind == "search":
        return row | {"kind": "search", "baseline": None}
    if kind in ("list", "paper", "ranked"):
        row["ablation"] = "ranked" if kind == "ranked" else f"list-{number // len(KINDS)}"
    layouts = {
        "grid": {"rows": "form", "columns": "slices"},
        "k": {"rows": "arm", "columns": "k"},
        "dataset": {"rows": "arm", "columns": "dataset"},
    }
    if kind in layouts:
        places = {arm: [f"row {place // 5}", f"column {place % 5}"] for place, arm in enumerate(arms)}
        row["layout"] = json.dumps(layouts[kind] | {"arms": places if kind == "grid" else {}})
    return row


def generate(root: Path, total: int, make: Make = trials, study: Callable[[int], dict[str, Any]] = alike) -> Store:
    """A compacted store of `total` trials, written as a compaction writes it."""
    layout = Layout(root)
    step = 100 * STUDY
    chunks = [(first, min(step, total - first)) for first in range(0, total, step)]
    held = {chunk: make(*chunk) for chunk in chunks} if len(chunks) == 1 else {}

    def made(chunk: tuple[int, int]) -> Rows:
        return held.get(chunk) or make(*chunk)

    def rows(table: str) -> Iterator[pa.Table]:
        for chunk in chunks:
            found = made(chunk)
            place = {key: chunk[0] + place for place, key in enumerate(found["trials"]["trial_key"].to_pylist())}
            yield found[table].append_column(
                RANK, pa.array([place[key] for key in found[table]["trial_key"].to_pylist()])
            )

    def members() -> Iterator[pa.Table]:
        for first, count in chunks:
            found = made((first, count))["trials"].select(["study", "arm", "fold", "seed", "trial_key"])
            found = found.append_column("index", pa.array(np.arange(first, first + count) % STUDY))
            yield conform(found.append_column(ORIGIN, found["study"]), named("members"))

    def studies() -> pa.Table:
        found = [study(number) for number in range(total // STUDY)]
        return pa.Table.from_pylist([row | {ORIGIN: row["study"]} for row in found], named("studies"))

    def named(table: str) -> pa.Schema:
        return TABLES[table].schema.append(pa.field(ORIGIN, pa.string()))

    files = {table: _write(layout, table, TABLES[table].schema, rows(table)) for table in made(chunks[0])}
    files["members"] = _write(layout, "members", named("members"), members(), {REPLACES: "[]"})
    files["studies"] = _write(layout, "studies", named("studies"), iter([studies()]), {REPLACES: "[]"})
    trial_keys = np.concatenate([made(chunk)["trials"]["trial_key"].to_numpy() for chunk in chunks]).astype("S32")
    values = {"trial_key": trial_keys, "status": np.full(total, 2, np.int8), "retrained": np.zeros(total, np.int32)}
    values |= {"ended": np.zeros(total, np.int64), "row": np.arange(total)}
    files[INDEX] = _write_bytes(layout, INDEX, index_bytes(values, ()))
    layout.write_manifest([Generation(total, {name: file for name, file in files.items() if file})])
    return Store(root)
