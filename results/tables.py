"""The table of a study: of an ablation, its arms with intervals and paired tests; of a search, its best trials."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from results.errors import StoreError
from results.render import Table, number, render
from results.stats import holm, mean_interval, paired_test
from results.store import Store

__all__ = ["Table", "comparison_table", "find_study", "ranking_table", "render", "study_table"]

BEST = 20
Row = dict[str, Any]
Place = tuple[Any, Any]  # fold, seed


@dataclass
class Arm:
    """The trials of one arm: those planned, those failed, and the metric of those done, by fold and seed."""

    name: str
    planned: int
    failed: int
    values: dict[Place, float]


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

    def done(self) -> list[Row]:
        """The trials that are done and have the metric."""
        return [row for row in self.trials.values() if row["status"] == "done" and row[self.metric] is not None]

    def arms(self) -> list[Arm]:
        """The arms in the order of the plan."""
        arms: dict[str, Arm] = {}
        for member in self.members:
            arm = arms.setdefault(member["arm"], Arm(member["arm"], 0, 0, {}))
            arm.planned += 1
            trial = self.trials.get(member["trial_key"])
            if trial is not None:
                arm.failed += trial["status"] == "failed"
                if trial["status"] == "done" and trial[self.metric] is not None:
                    arm.values[member["fold"], member["seed"]] = trial[self.metric]
        return list(arms.values())

    def ratio(self) -> float | None:
        """Images that the metric was measured on per training image; None when no trial says."""
        measured = "validation_images" if self.metric.startswith("val_") else "test_images"
        ratios = [row[measured] / row["train_images"] for row in self.done() if row[measured] and row["train_images"]]
        return fmean(ratios) if ratios else None


def study_rows(store: Store, study: str) -> StudyRows:
    """Read a study.

    Raises:
        StoreError: there is no such study, or its metric is no column of trials.

    """
    found = store.read("studies", study=study).to_pylist()
    if not found:
        raise StoreError(f"There is no study {study} in {store.root}{_instead(study, _names(store))}.")
    members = sorted(store.read("members", study=study).to_pylist(), key=lambda row: row["index"])
    trials = {row["trial_key"]: row for row in store.read("trials", study=study).to_pylist()}
    rows = StudyRows(found[0], members, trials)
    if trials and rows.metric not in next(iter(trials.values())):
        raise StoreError(f"The study {study} is about {rows.metric}, which is no column of trials.")
    return rows


def find_study(store: Store, name: str, study: str = "") -> str:
    """The study meant by `name`: `study` if given, else the latest of the ablation `name`, else the study `name`.

    Raises:
        StoreError: there is none.

    """
    known = store.read("studies", ["study", "ablation", "created_at"]).to_pylist()
    if study:
        if not any(row["study"] == study and name in (row["study"], row["ablation"]) for row in known):
            of_name = [row["study"] for row in known if row["ablation"] == name]
            raise StoreError(f"There is no study {study} of {name}{_instead(study, of_name or _names(store))}.")
        return study
    made = [row for row in known if row["ablation"] == name] or [row for row in known if row["study"] == name]
    if not made:
        raise StoreError(f"There is no ablation or study {name} in {store.root}{_instead(name, _names(store))}.")
    latest: str = max(made, key=lambda row: (str(row["created_at"]), row["study"]))["study"]
    return latest


def study_table(store: Store, study: str) -> Table:
    """The comparison table of an ablation, or the ranking of a search."""
    rows = study_rows(store, study)
    return ranking_table(store, study) if rows.study["kind"] == "search" else comparison_table(store, study)


def comparison_table(store: Store, study: str) -> Table:
    """One row per arm: n, mean, interval, and the paired difference to the baseline with its p value."""
    rows = study_rows(store, study)
    arms, ratio = rows.arms(), rows.ratio()
    baseline = next((arm for arm in arms if arm.name == rows.study["baseline"]), arms[0] if arms else None)
    found: list[Row] = []
    for arm in arms:
        row: Row = {"arm": arm.name, "metric": rows.metric, "n": len(arm.values), "planned": arm.planned}
        row["failed"] = arm.failed
        row["mean"], row["low"], row["high"] = _interval(list(arm.values.values()), ratio)
        pairs = [place for place in arm.values if baseline and arm is not baseline and place in baseline.values]
        ours = [arm.values[place] for place in pairs]
        theirs = [baseline.values[place] for place in pairs] if baseline else []
        difference = _interval([a - b for a, b in zip(ours, theirs, strict=True)], ratio)
        row["pairs"] = len(pairs)
        row["difference"], row["difference_low"], row["difference_high"] = difference
        row["p"] = paired_test(ours, theirs, ratio)[1] if pairs and ratio is not None else None
        row["p_holm"] = None
        row["protocol"] = " and ".join(_seen(rows, arm, "protocol"))
        found.append(row)
    tested = [row for row in found if row["p"] is not None]
    for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = corrected
    caption = _caption(rows, ratio, baseline.name if baseline else "", found)
    columns = ("arm", "metric", "n", "planned", "failed", "mean", "low", "high", "difference", "difference_low",
               "difference_high", "pairs", "p", "p_holm", "protocol")  # fmt: skip
    return Table(columns, [tuple(row[c] for c in columns) for row in found], caption, _shown(rows.metric, found))


def ranking_table(store: Store, study: str) -> Table:
    """The best trials of a search, with what was proposed for them."""
    rows = study_rows(store, study)
    metric, ranked = rows.metric, []
    for member in rows.members:
        trial = rows.trials.get(member["trial_key"])
        if trial is not None and trial["status"] != "failed" and trial[metric] is not None:
            ranked.append((trial, json.loads(member["parameters"] or "{}")))
    ranked.sort(key=lambda pair: pair[0][metric], reverse=not metric.endswith("loss"))
    best = ranked[:BEST]
    columns = ("rank", "trial_key", metric, "status", "epochs", "seconds", "parameters")
    values = [
        (rank, trial["trial_key"], trial[metric], trial["status"], trial["epochs"], trial["seconds"], parameters)
        for rank, (trial, parameters) in enumerate(best, 1)
    ]
    names = list(dict.fromkeys(name for _, parameters in best for name in parameters))
    header = ("rank", "trial", metric.replace("_", " "), "status", "epochs", "seconds", *names)
    shown = [
        (str(rank), key[:12], _digits(value), status, str(epochs), f"{seconds:.1f}" if seconds is not None else "",
         *(_parameter(parameters.get(name)) for name in names))
        for rank, key, value, status, epochs, seconds, parameters in values
    ]  # fmt: skip
    states = [trial["status"] for trial in rows.trials.values()]
    caption = (
        f"Search {study} on {_listed(_seen(rows, None, 'dataset'))}: the best {len(best)} of {len(rows.members)} "
        f"trials by {metric} ({states.count('done')} done, {states.count('stopped')} stopped early, "
        f"{states.count('failed')} failed)."
    )
    return Table(columns, values, caption, (header, shown))


def _interval(values: Sequence[float], ratio: float | None) -> tuple[float | None, float | None, float | None]:
    if not values:
        return None, None, None
    return mean_interval(values, ratio) if ratio is not None else (fmean(values), None, None)


def _seen(rows: StudyRows, arm: Arm | None, column: str) -> list[str]:
    """The values of a column over the trials of one arm, or of all."""
    keys = [member["trial_key"] for member in rows.members if arm is None or member["arm"] == arm.name]
    values = {rows.trials[key][column] for key in keys if key in rows.trials}
    return [str(value) for value in sorted(values - {None})]


def _caption(rows: StudyRows, ratio: float | None, baseline: str, found: list[Row]) -> str:
    folds, seeds = ({member[axis] for member in rows.members} for axis in ("fold", "seed"))
    words = rows.metric.replace("_", " ")
    parts = [
        f"Study {rows.study['study']} on {_listed(_seen(rows, None, 'dataset'))}: {_count(folds, 'fold')} × "
        f"{_count(seeds, 'seed')}, protocol {_listed(_seen(rows, None, 'protocol'))}, "
        f"{_listed(_seen(rows, None, 'epochs_planned'))} epochs."
    ]
    if ratio is not None:
        parts.append(
            f"Mean {words} over the n trials done; intervals are 95 % corrected resampled t intervals (Nadeau and "
            f"Bengio 2003, test/train = {ratio:.3f}). Differences to {baseline} are paired by fold and seed, p is "
            "that of the corrected paired t test, and p (Holm) allows for the number of arms tested."
        )
        if len(folds) == 1:
            parts.append("With a single fold the spread seen is that of seeds, not of people.")
    if missing := sum(row["planned"] - row["n"] for row in found):
        failed = sum(row["failed"] for row in found)
        parts.append(f"{missing} of {len(rows.members)} planned trials are not done ({failed} failed).")
    if any("paper" in row["protocol"] for row in found):
        parts.append("† Protocol paper: the epoch was picked on the test fold, so that the numbers are too high.")
    return " ".join(parts)


def _shown(metric: str, found: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header = ("arm", "n", metric.replace("_", " "), "95 % CI", "difference", "95 % CI of it", "p", "p (Holm)")
    lines: list[tuple[str, ...]] = []
    for row in found:
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        pairs = f" ({row['pairs']} pairs)" if 0 < row["pairs"] < row["planned"] else ""
        lines.append((
            row["arm"] + (" †" if "paper" in row["protocol"] else ""), f"{row['n']}/{row['planned']}{failed}",
            _digits(row["mean"]), _bounds(row["low"], row["high"]),
            _digits(row["difference"], "+") + pairs, _bounds(row["difference_low"], row["difference_high"], "+"),
            _p(row["p"]), _p(row["p_holm"]),
        ))  # fmt: skip
    return header, lines


def _digits(value: float | None, sign: str = "") -> str:
    return "" if value is None else format(value, f"{sign}.3f")


def _bounds(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f"[{_digits(low, sign)}, {_digits(high, sign)}]"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _parameter(value: Any) -> str:
    return "" if value is None else number(value) if isinstance(value, float) else str(value)


def _count(values: set[Any], noun: str) -> str:
    return f"{len(values)} {noun}{'' if len(values) == 1 else 's'}"


def _listed(values: Sequence[str]) -> str:
    return " and ".join(values) or "nothing yet"


def _names(store: Store) -> list[str]:
    rows = store.read("studies", ["study", "ablation"]).to_pylist()
    return sorted({name for row in rows for name in row.values() if name})


def _instead(name: str, names: Iterable[str]) -> str:
    known = list(names)
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.4) or known[:5]
    return f"; there is {' and '.join(near)}" if near else "; there are no studies yet"
