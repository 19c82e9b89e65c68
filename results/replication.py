"""The trials of a study, arm by arm: what is planned, what is there, and how it replicates."""

import difflib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from results.errors import StoreError
from results.schema import TABLES
from results.stats import Place
from results.store import Store

Row = dict[str, Any]

# Metrics of which less is better, besides losses.
_LESS = ("seconds", "setup_seconds", "peak_memory_bytes", "epochs_to_90", "epochs_to_99")
# What of a metric of `trials` stands in `transfers`, where it is measured on another data set.
_TRANSFERRED = ("accuracy", "balanced_accuracy", "macro_f1", "knn_accuracy", "nmi", "pairwise_f1")
_OWN_K = 11


def less_is_better(metric: str) -> bool:
    """Whether a metric is a cost."""
    return metric in _LESS or metric.endswith("loss")


@dataclass
class Arm:
    """The trials of one arm: those planned, those failed, and the metric and the key of those done, by fold and seed.

    In a layout by something that every trial measures, such as the number of neighbours, it is one level of that of one arm.

    Attributes:
        name: unlike that of any other.
        planned: number of its trials.
        failed: those that failed.
        values: metric of those that are done.
        keys: their trial keys.
        of: the arm of the study that it belongs to.
        group: those of one group are compared with each other.
        reference: name of the arm that it is compared with.
        place: its row and column of the layout, None without one.
        dataset: that it is judged on.

    """

    name: str
    planned: int = 0
    failed: int = 0
    values: dict[Place, float] = field(default_factory=dict)
    keys: dict[Place, str] = field(default_factory=dict)
    of: str = ""
    group: str = ""
    reference: str = ""
    place: tuple[str, str] | None = None
    dataset: str = ""


@dataclass
class StudyRows:
    """What the store says of one study: its row, its members in order, and their trials by key."""

    study: Row
    members: list[Row]
    trials: dict[str, Row]

    @property
    def metric(self) -> str:
        """The column of trials that the study is about."""
        found: str | None = self.study["metric"]
        return found or ("val_accuracy" if self.study["kind"] == "search" else "test_accuracy")

    @property
    def less_is_better(self) -> bool:
        """Whether the metric is a cost."""
        return less_is_better(self.metric)

    @property
    def cost(self) -> str | None:
        """The column that a search wants less of, beside its metric."""
        found: str | None = json.loads(self.study["config"] or "{}").get("search", {}).get("cost")
        return found

    @property
    def layout(self) -> Row | None:
        """Rows, columns, and the place of each arm; None for a list of arms."""
        text = self.study.get("layout")
        return json.loads(text) if text else None

    @property
    def dataset(self) -> tuple[str, str]:
        """Name of the data set, and its option `classes`, "" where it has none."""
        options = json.loads(self.study["config"] or "{}").get("dataset", {})
        names = {row["dataset"] for row in self.trials.values()}
        return options.get("name") or next(iter(names), ""), str(options.get("classes", ""))

    def done(self) -> list[Row]:
        """The trials that are done and have the metric."""
        return [row for row in self.trials.values() if row["status"] == "done" and row[self.metric] is not None]

    def arms(self) -> list[Arm]:
        """The arms in the order of the plan."""
        arms: dict[str, Arm] = {}
        baseline = self.study["baseline"] or (self.members[0]["arm"] if self.members else "")
        dataset = self.dataset[0]
        for member in self.members:
            name, place = member["arm"], (member["fold"], member["seed"])
            arm = arms.setdefault(name, Arm(name, of=name, reference=baseline, dataset=dataset))
            arm.planned += 1
            trial = self.trials.get(member["trial_key"])
            if trial is not None:
                arm.failed += trial["status"] == "failed"
                if trial["status"] == "done" and trial[self.metric] is not None:
                    arm.values[place], arm.keys[place] = trial[self.metric], member["trial_key"]
        layout = self.layout
        for arm in arms.values() if layout else ():
            row, column = layout["arms"].get(arm.name, (None, None)) if layout else (None, None)
            arm.place = (row, column) if row is not None and column is not None else None
        return list(arms.values())

    def ratio(self) -> float | None:
        """Images that the metric was measured on per training image, mean over the folds; None when no trial says."""
        measured = "validation_images" if self.metric.startswith("val_") else "test_images"
        folds: dict[int, list[float]] = defaultdict(list)
        for row in self.done():
            if row[measured] and row["train_images"]:
                folds[row["fold"]].append(row[measured] / row["train_images"])
        return fmean(fmean(ratios) for ratios in folds.values()) if folds else None


def study_rows(store: Store, study: str) -> StudyRows:
    """Read a study.

    Raises:
        StoreError: there is no such study, or its metric is no column of trials.

    """
    return several(store, [study])[study]


def several(store: Store, studies: Sequence[str], columns: Iterable[str] | None = None) -> dict[str, StudyRows]:
    """Read studies in one go; of their trials `columns`, the key, their metrics and costs, or all columns.

    Raises:
        StoreError: as for `study_rows`.

    """
    rows = {row["study"]: StudyRows(row, [], {}) for row in store.read("studies", study=studies).to_pylist()}
    for study in studies:
        if study not in rows:
            raise StoreError(f"There is no study {study} in {store.root}{instead(study, known_names(store))}.")
        if rows[study].metric not in TABLES["trials"].schema.names:
            raise StoreError(f"The study {study} is about {rows[study].metric}, which is no column of trials.")
    for member in sorted(store.read("members", study=studies).to_pylist(), key=lambda row: row["index"]):
        rows[member["study"]].members.append(member)
    members = {member["trial_key"] for one in rows.values() for member in one.members}
    names = None
    if columns is not None:
        about = {name for one in rows.values() for name in (one.metric, one.cost)}
        names = [name for name in TABLES["trials"].schema.names if name in {"trial_key", *columns, *about}]
    trials = {row["trial_key"]: row for row in store.read("trials", names, studies, members).to_pylist()}
    for one in rows.values():
        keys = [member["trial_key"] for member in one.members]
        one.trials.update((key, trials[key]) for key in dict.fromkeys(keys) if key in trials)
    return rows


def cells(store: Store, rows: StudyRows) -> list[Arm]:
    """The arms of a study, or of a layout by neighbours or data sets their levels.

    Along the numbers of neighbours an arm is compared with itself at K = 11; along data sets with the baseline on the same one.
    """
    layout, arms = rows.layout, rows.arms()
    if layout is None or layout["columns"] not in ("k", "dataset"):
        return arms
    if layout["columns"] == "k":
        read = store.read(
            "neighbours", ["trial_key", "split", "k", "knn_accuracy"], rows.study["study"], rows.trials
        ).to_pylist()
        measured = [(row["trial_key"], row["k"], row["knn_accuracy"]) for row in read if row["split"] == "test"]
        levels: list[Any] = sorted({level for _, level, _ in measured} | {_OWN_K})
    else:
        own = rows.dataset[0]
        measured = [(key, own, row[rows.metric]) for key, row in rows.trials.items() if row["status"] == "done"]
        name = rows.metric.removeprefix("test_")
        if name in _TRANSFERRED:
            read = store.read("transfers", ["trial_key", "dataset", name], rows.study["study"], rows.trials).to_pylist()
            measured += [(row["trial_key"], row["dataset"], row[name]) for row in read]
        levels = list(dict.fromkeys([own, *(level for _, level, _ in measured)]))
    values = {(key, level): value for key, level, value in measured if value is not None}
    found = []
    for arm in arms:
        for level in levels:
            cell = Arm(f"{arm.of}, {_level(layout, level)}", arm.planned, arm.failed, of=arm.of, dataset=arm.dataset)
            kept = {place: key for place, key in arm.keys.items() if (key, level) in values}
            cell.keys, cell.values = kept, {place: values[key, level] for place, key in kept.items()}
            if layout["columns"] == "k":
                cell.group, cell.reference = arm.of, f"{arm.of}, {_level(layout, _OWN_K)}"
            else:
                cell.group, cell.dataset = str(level), str(level)
                cell.reference = f"{arm.reference}, {_level(layout, level)}"
            cell.place = (arm.of, str(level))
            found.append(cell)
    return found


def _level(layout: Row, level: Any) -> str:
    return f"K = {level}" if layout["columns"] == "k" else str(level)


def known_names(store: Store) -> list[str]:
    """The names of all studies and ablations."""
    rows = store.read("studies", ["study", "ablation"]).to_pylist()
    return sorted({name for row in rows for name in row.values() if name})


def instead(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that says what there is instead."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.4) or known[:5]
    return f"; there is {' and '.join(near)}" if near else "; there are no studies yet"
