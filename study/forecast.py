"""How long a study will take, and what that costs: from recorded seconds of like trials, or of a few steps that are tried.

Like trials have the method, the trunk, the image size, the batch size and the device; their seconds are scaled by epochs and images.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import heapreplace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results import Store
from study.budget import Limits
from study.units import spoken

# Latest like trials that a forecast draws from, and bootstrap draws of it.
_LATEST, _DRAWS = 200, 200
# Seconds until a worker trains its first trial, and between two trials, where nothing is recorded: as on two cores.
FIRST, GAP = 12.0, 0.1
# Trials of searches of which the share that was stopped early is taken for what a search will stop.
_SEARCHED = 8


class Kind(NamedTuple):
    """What decides the seconds of an image, besides the device."""

    method: str
    backbone: str
    image_size: int
    batch_size: int


class Sample(NamedTuple):
    """Seconds of one trial that was trained or tried.

    Attributes:
        setup: before the first batch.
        pace: for a training image and an epoch.
        final: for a training image after the last epoch, where that is not in pace.
        fraction: of the planned epochs that were trained; None where no scheduler might have stopped it.

    """

    setup: float
    pace: float
    final: float = 0.0
    fraction: float | None = None


class Job(NamedTuple):
    """A trial to come: kinds that it may be of, its training images, its epochs, and whether a scheduler may stop it."""

    kinds: tuple[Kind, ...]
    images: int
    epochs: int
    search: bool


class Room(NamedTuple):
    """What trials run on: how many at a time, GPUs that are held (workers, on machines without), and what to call these."""

    slots: int
    units: float
    unit: str


class Forecast(NamedTuple):
    """(p50, p90) of the seconds until the last trial has ended, and of GPU-hours held."""

    wall: tuple[float, float]
    hours: tuple[float, float]

    def money(self, price: float) -> tuple[float, float]:
        """(p50, p90) of USD."""
        return self.hours[0] * price, self.hours[1] * price


def forecast(
    jobs: Sequence[Job], samples: Mapping[Kind, Sequence[Sample]], room: Room, first: float = FIRST, gap: float = GAP
) -> Forecast:
    """Draw the seconds of every trial and hand trials in their order to the first worker that is free.

    Every draw takes its own bootstrap of each kind's samples, so that few samples make a wide forecast; then a sample for every
    trial. A trial of a search trains the epochs that a like one did, where enough are recorded, else all of them.

    Args:
        jobs: trials, in order; none takes no time.
        samples: of every kind, one at least.
        room: to run in.
        first: seconds until a worker trains its first trial.
        gap: seconds between two trials of one.

    """
    if not jobs:
        return Forecast((0.0, 0.0), (0.0, 0.0))
    draws = max(20, min(_DRAWS, 200_000 // len(jobs)))
    rng, walls = np.random.default_rng(0), np.empty(draws)
    slots = min(room.slots, len(jobs))
    kinds = sorted({kind for job in jobs for kind in job.kinds})
    number = {kind: i for i, kind in enumerate(kinds)}
    choices = [[number[kind] for kind in job.kinds] for job in jobs]
    only = np.array([choice[0] for choice in choices])
    several = [i for i, choice in enumerate(choices) if len(choice) > 1]
    images, epochs = np.array([job.images for job in jobs]), np.array([job.epochs for job in jobs])
    searched = np.array([job.search for job in jobs])
    tables = [
        np.array([(*one[:3], math.nan if one.fraction is None else one.fraction) for one in samples[kind]])
        for kind in kinds
    ]
    fractions = np.concatenate([table[:, 3] for table in tables])
    fractions = fractions[~np.isnan(fractions)] if searched.any() else fractions[:0]
    for draw in range(draws):
        kind = only.copy()
        for i in several:
            kind[i] = choices[i][int(rng.integers(len(choices[i])))]
        chosen = np.empty((len(jobs), 4))
        for k, table in enumerate(tables):
            of_kind = np.flatnonzero(kind == k)
            pool = table[rng.integers(len(table), size=len(table))]
            chosen[of_kind] = pool[rng.integers(len(pool), size=len(of_kind))]
        trained = np.ones(len(jobs))
        if len(fractions) >= _SEARCHED:
            trained[searched] = rng.choice(fractions, size=int(searched.sum()))
        seconds = chosen[:, 0] + images * (chosen[:, 1] * np.maximum(1, np.round(epochs * trained)) + chosen[:, 2])
        walls[draw] = _wall(seconds.tolist(), slots, first, gap)
    middle, late = np.quantile(walls, (0.5, 0.9)).tolist()
    held = room.units * slots / room.slots / 3600
    return Forecast((middle, late), (middle * held, late * held))


def _wall(seconds: Sequence[float], slots: int, first: float, gap: float) -> float:
    """Seconds until the last trial has ended."""
    ends = [first + one for one in sorted(seconds[:slots])]  # sorted, it is a heap
    latest = ends[-1]
    for one in seconds[slots:]:
        end = ends[0] + gap + one
        heapreplace(ends, end)
        latest = max(latest, end)
    return latest


def like_samples(store: Store, kinds: Collection[Kind], device: str, threads: int | None) -> dict[Kind, list[Sample]]:
    """Samples of recorded trials of these kinds, the latest ones; a kind that none was recorded of is absent.

    Args:
        store: all studies in it.
        kinds: that are wanted.
        device: column of `trials`, or how it begins where only its kind is known.
        threads: of a worker on a CPU; None: any.

    """
    columns = ["method", "status", "seconds", "setup_seconds", "epochs", "epochs_planned", "train_images"]
    columns += ["image_size", "batch_size", "device", "threads", "config", "ended_at"]
    table = store.read("trials", columns)
    methods = pa.array(sorted({kind.method for kind in kinds}), pa.string())
    keep = pc.and_(pc.is_in(table["method"], methods), pc.starts_with(table["device"], device))
    keep = pc.and_(
        keep, pc.and_(pc.is_in(table["status"], pa.array(["done", "stopped"])), pc.greater(table["epochs"], 0))
    )
    if threads is not None:
        keep = pc.and_(keep, pc.equal(table["threads"], threads))
    found: dict[Kind, list[Sample]] = defaultdict(list)
    for row in table.filter(keep).sort_by([("ended_at", "descending")]).to_pylist():
        wanted = [kind for kind in kinds if (kind.method, kind.image_size, kind.batch_size) ==
                  (row["method"], row["image_size"], row["batch_size"])]  # fmt: skip
        if not wanted or all(len(found[kind]) >= _LATEST for kind in wanted) or not row["train_images"]:
            continue
        spec = json.loads(row["config"])
        kind = Kind(row["method"], spec["backbone"], row["image_size"], row["batch_size"])
        if kind in kinds and row["seconds"] and len(found[kind]) < _LATEST:
            setup = row["setup_seconds"] or 0.0
            pace = max(row["seconds"] - setup, 0.0) / row["epochs"] / row["train_images"]
            fraction = row["epochs"] / row["epochs_planned"] if spec.get("search") else None
            found[kind].append(Sample(setup, pace, fraction=fraction))
    return {kind: samples for kind, samples in found.items() if samples}


def exceeded(found: Forecast, limits: Limits, now: float, spent: float = 0.0) -> list[str]:
    """The limits that the p50 of a forecast exceeds, as they are set; `spent` GPU-hours are gone already."""
    hours, said = found.hours[0] + spent, []
    if limits.gpu_hours is not None and hours > limits.gpu_hours:
        said.append(f"budget.gpu_hours={limits.gpu_hours:g}")
    if limits.money is not None and limits.price and hours * limits.price > limits.money:
        said.append(f"budget.money={limits.money:g}")
    if limits.deadline is not None and now + found.wall[0] > limits.deadline:
        said.append(f"the {spoken(max(limits.deadline - now, 0.0))} until budget.deadline")
    return said


def most_that_fit(most: int, fits: Callable[[int], bool]) -> int:
    """The largest count up to `most` that fits, where all below one that fits fit; 0 for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def said(found: Forecast, room: Room, price: float | None) -> str:
    """The forecast in words."""
    hours = f"{_few(found.hours[0])} {room.unit}-hours ({_few(found.hours[1])})"
    money = "" if price is None else f", {found.money(price)[0]:.2f} USD ({found.money(price)[1]:.2f})"
    return f"{spoken(found.wall[0])} ({spoken(found.wall[1])}) on {room.slots} at a time, {hours}{money}; p50, in brackets p90"


def _few(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}" if math.isfinite(value) else "-"
