"""A stored study as something that can be played again: its trials in planned order, their curves, seconds and overheads."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from results import Store
from results.schema import TABLES
from study.errors import StudyError
from study.records import Row

# A trial that a rule of the schedule stopped would have gone on under another one; whatever else ended it ends it again.
_CUT = ("asha", "racing", "budget", None)
_NEIGHBOURS = 5
_COLUMNS = (
    *("trial_key", "study", "method", "status", "stopped_by", "epochs", "epochs_planned"),
    *("seconds", "setup_seconds", "started_at", "ended_at", "host", "device"),
)


class Played(NamedTuple):
    """A recorded trial.

    Attributes:
        key: of the trial.
        method: what was trained.
        status: done, failed, or the rule that stopped it.
        epochs: that it would train if nothing stopped it.
        values: metric after each recorded epoch; NaN where there is none.
        seconds: of each recorded epoch, with what passed between two epochs.
        setup: seconds before the first batch.
        evaluation: seconds after its last epoch, where it was not cut.
        final: metric of the row of a trial that is done, else None.
        first: whether ASHA looks at it: all but the later folds and seeds that racing gives a proposal.
        proposal: number of the proposal that it is a part of.

    """

    key: str
    method: str
    status: str
    epochs: int
    values: list[float]
    seconds: list[float]
    setup: float
    evaluation: float
    final: float | None
    first: bool = True
    proposal: int = 0

    @property
    def cut(self) -> bool:
        """Whether it was stopped before its end by a schedule that another one may replace."""
        return len(self.values) < self.epochs


@dataclass
class Recording:
    """The trials of a study that ended, in planned order.

    Args:
        study: its name.
        row: of the table studies.
        metric: what the curves are of.
        trials: recorded.
        waiting: members that have not ended.
        first: seconds from the study's registration to its first trial: what a worker takes to start.
        gap: seconds between two trials of one worker.
        slots: trials that ran at a time.
        devices: what they ran on.
        wall: seconds from the registration to the last trial's end; NaN where no trial is the study's own.
        blocks: folds times seeds that a proposal of a search is trained on; 1 in a table.

    """

    study: str
    row: Row
    metric: str
    trials: list[Played]
    waiting: int
    first: float
    gap: float
    slots: int
    devices: list[str]
    wall: float
    blocks: int = 1
    _donors: dict[tuple[str | None, int, int], list[tuple[float, int]]] = field(default_factory=dict)
    _evaluations: dict[str | None, float] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the study."""
        found: dict[str, Any] = json.loads(self.row["config"])
        return found

    def extended(self, trial: Played, rng: np.random.Generator) -> tuple[list[float], list[float]]:
        """Values and seconds of a trial that was cut, as if it had not been.

        From its last value it rises and falls as a like trial did that was completed: one drawn from the five of its method (of
        all methods, where none of its own was completed) whose values at that epoch are nearest to its own. Its epochs take
        what its own took. Those that were completed are the better ones, so that this flatters what was stopped.

        Raises:
            StudyError: where no trial was completed.

        """
        last = len(trial.values)
        donors = self._at(trial.method, last, trial.epochs) or self._at(None, last, trial.epochs)
        if not donors:
            raise StudyError(
                f"No trial of {self.study} was completed, so that nothing says how those that were stopped would have gone on: "
                "simulate a study with completed trials, or a scheduler that stops no later than its own."
            )
        value = trial.values[-1] if last else 0.0
        place = min(max(bisect_left(donors, (value, -1)) - _NEIGHBOURS // 2, 0), max(len(donors) - _NEIGHBOURS, 0))
        near = donors[place : place + _NEIGHBOURS]
        donor = self.trials[near[int(rng.integers(len(near)))][1]]
        start = donor.values[last - 1] if last else 0.0
        later = [min(max(value + (after - start), 0.0), 1.0) for after in donor.values[last : trial.epochs]]
        pace = fmean(trial.seconds) if last else fmean(donor.seconds)
        return trial.values + later, trial.seconds + [pace] * len(later)

    def evaluation(self, method: str) -> float:
        """Seconds of the last evaluation of a trial that was cut: the median of completed ones of its method, else of all."""
        if not self._evaluations:
            found: dict[str | None, list[float]] = defaultdict(list)
            for trial in self.trials:
                if trial.status == "done":
                    found[trial.method].append(trial.evaluation)
                    found[None].append(trial.evaluation)
            self._evaluations |= {name: median(taken) for name, taken in found.items()}
        return self._evaluations.get(method, self._evaluations.get(None, 0.0))

    def _at(self, method: str | None, epoch: int, epochs: int) -> list[tuple[float, int]]:
        """Values at an epoch, ascending, of trials of a method, or of all, that completed as many epochs; each with its number."""
        if (method, epoch, epochs) not in self._donors:
            self._donors[method, epoch, epochs] = sorted(
                (trial.values[epoch - 1] if epoch else 0.0, i)
                for i, trial in enumerate(self.trials)
                if trial.status == "done"
                and method in (None, trial.method)
                and len(trial.values) == epochs
                and not any(map(math.isnan, trial.values))
            )
        return self._donors[method, epoch, epochs]


def recorded(store: Store, study: str) -> Recording:
    """Read a study out of the store.

    Raises:
        StudyError: where there is no such study, or none of its trials has ended.

    """
    studies = {row["study"]: row for row in store.read("studies").to_pylist()}
    if study not in studies:
        from study.config import nearest

        raise StudyError(f"There is no study {study} under {store.root}.{nearest(study, sorted(studies))}")
    row = studies[study]
    metric = row["metric"] if row["metric"] in TABLES["epochs"].schema.names else "val_accuracy"
    search = json.loads(row["config"]).get("search", {}) if row["kind"] == "search" else {}
    blocks = search.get("folds", 1) * search.get("seeds", 1)
    wanted = dict.fromkeys((*_COLUMNS, row["metric"]))
    rows = {found["trial_key"]: found for found in store.read("trials", list(wanted), study=study).to_pylist()}
    members = store.read("members", ["index", "fold", "seed", "trial_key"], study=study).to_pylist()
    # Blocks of a proposal wait for one another: they are taken in the order in which they began, what never began comes last.
    begun = {key: found["started_at"] for key, found in rows.items() if blocks > 1 and found["started_at"] is not None}
    last = max(begun.values(), default=None)
    members.sort(
        key=lambda one: (begun.get(one["trial_key"], last) if begun else 0, one["index"], one["seed"], one["fold"])
    )
    places = {
        one["trial_key"]: (one["index"], blocks == 1 or (one["fold"], one["seed"]) == (0, 0))
        for one in reversed(members)
    }
    # What racing saved was never begun.
    saved = {key for key, found in rows.items() if found["stopped_by"] == "racing" and not found["epochs"]}
    keys = [key for key in dict.fromkeys(one["trial_key"] for one in members) if key not in saved]
    ended = [key for key in keys if key in rows]
    if not ended:
        raise StudyError(f"No trial of {study} has ended, so that there is nothing to replay.")
    curves = _curves(store, study, metric, ended)
    latency = _latency(rows, curves)
    trials = [_played(rows[key], *curves[key], row["metric"], latency, *places[key]) for key in ended]
    own = [rows[key] for key in ended if rows[key]["study"] == study and rows[key]["started_at"] is not None]
    first, wall = math.nan, math.nan
    if own:
        first = (min(found["started_at"] for found in own) - row["created_at"]).total_seconds()
        wall = (max(found["ended_at"] for found in own) - row["created_at"]).total_seconds()
    gap, slots = gaps([(found["host"], found["started_at"], found["ended_at"]) for found in own])
    devices = sorted({found["device"] for found in own if found["device"]})
    return Recording(study, row, metric, trials, len(keys) - len(ended), first, gap, slots, devices, wall, blocks)


def _curves(store: Store, study: str, metric: str, keys: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Values and seconds of every epoch, by trial."""
    table = store.read("epochs", ["trial_key", "epoch", metric, "seconds"], study=study)
    place = {key: i for i, key in enumerate(keys)}
    encoded = table["trial_key"].combine_chunks().dictionary_encode()
    numbers = np.array([place.get(key, -1) for key in encoded.dictionary.to_pylist()], dtype=np.int64)
    trial = numbers[encoded.indices.to_numpy()] if table.num_rows else numbers[:0]
    order = np.lexsort((table["epoch"].to_numpy(), trial))
    values = table[metric].to_numpy().astype(float)[order].tolist()
    seconds = table["seconds"].to_numpy().astype(float)[order].tolist()
    bounds = np.searchsorted(trial[order], np.arange(len(keys) + 1)).tolist()
    return {
        key: (values[start:end], seconds[start:end]) for key, start, end in zip(keys, bounds, bounds[1:], strict=False)
    }


def _latency(rows: dict[str, Row], curves: dict[str, tuple[list[float], list[float]]]) -> float:
    """Seconds from the end of an epoch to the next one's start: what stopped trials took beside their set-up and epochs."""
    found = [
        (row["seconds"] - (row["setup_seconds"] or 0.0) - sum(curves[key][1])) / len(curves[key][1])
        for key, row in rows.items()
        if row["status"] == "stopped" and row["seconds"] and key in curves and curves[key][1]
    ]
    return max(median(found), 0.0) if found else 0.0


def _played(
    row: Row, values: list[float], seconds: list[float], metric: str, latency: float, index: int, first: bool
) -> Played:
    done, setup = row["status"] == "done", row["setup_seconds"] or 0.0
    cut = row["status"] == "stopped" and row["stopped_by"] in _CUT
    paced = [one + latency for one in seconds]
    rest = max((row["seconds"] or 0.0) - setup - sum(paced), 0.0)
    return Played(
        key=row["trial_key"],
        method=row["method"],
        status=row["status"] if row["status"] != "stopped" else row["stopped_by"] or "stopped",
        epochs=row["epochs_planned"] if cut else len(values),
        values=values,
        seconds=paced,
        setup=setup,
        evaluation=0.0 if cut else rest,
        final=row[metric] if done else None,
        first=first,
        proposal=index,
    )


def gaps(spans: Sequence[tuple[str, datetime, datetime]]) -> tuple[float, int]:
    """Mean seconds between two trials of one worker, and how many workers there were.

    A trial is taken to follow, on its host, the one that ended last before it began; where none had ended, it opened a worker.
    Gaps of over ten times the median are pauses of the study and left out.

    Args:
        spans: (host, start, end) of every trial.

    """
    free: dict[str, list[datetime]] = defaultdict(list)
    found = []
    for host, start, end in sorted(spans, key=lambda span: span[1]):
        place = bisect_left(free[host], start)
        if place < len(free[host]) and free[host][place] == start:
            place += 1
        if place:
            found.append((start - free[host].pop(place - 1)).total_seconds())
        free[host].insert(bisect_left(free[host], end), end)
    most = 10 * median(found) if found else 0.0
    usual = [gap for gap in found if gap <= most]
    return (fmean(usual) if usual else 0.0), sum(len(ends) for ends in free.values())
