"""Several trials on a GPU, by the memory that they were measured to take.

A share is 1/k of a GPU, rounded up from what a trial takes. Trials of one method, backbone, image size, batch size and data set, which
every process has on its GPU, share alike. What they take is known from like trials in the store, made on the same model of GPU; else
the first of them runs two steps on a whole GPU before any is trained. Where GPUs differ, the share is one of the smallest that holds
the trial. A process is fenced to its share, so that it can take nothing from its neighbours; a trial that finds its share full runs again
on a larger one, or on the next model of GPU with more memory where there is one, and so do those like it from then on. Trials whose times
are compared are never packed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import torch

from mdml import evaluation
from mdml.augmentation import augmentation
from results import Store
from study import gpus, growth
from study.config import Config
from study.trial import Trial

Group = tuple[str, str, int, int, int, tuple[str, ...]]  # method, backbone, image size, channels, batch size, faces
# Most trials on one GPU: more only take each other's turns on it.
MOST = 8
# What a trial may take beyond what was measured.
SAFETY = 1.2
# Bytes that a process takes of a GPU beside its tensors: context, kernels, the libraries' workspaces.
CONTEXT = 1 << 30
# Steps of a measurement: in the second one the optimiser has its state, beside what both have.
STEPS = 2
# Words of CUDA's libraries for a memory that is full. cuDNN tries algorithms until one has room for its workspace, and names only its last
# one's fate; a library's handle that cannot be made was refused its memory.
FULL = (
    "out of memory",
    "ALLOC_FAILED",
    "NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "unable to find an engine",
    "unable to find a valid cuDNN",
)
# Columns of `trials` that trials on one GPU would change for each other.
TIMES = frozenset({"seconds", "images_per_second", "setup_seconds"})


class Place(NamedTuple):
    """What a trial is given: a share of a GPU, and the model that it must be of, by Ray's name, where not any will do."""

    share: float
    model: str | None = None


class Measured(NamedTuple):
    """What a trial took of a GPU, in bytes: its tensors at their peak, what the process took beside them, and the GPU's whole memory."""

    peak: int
    context: int
    memory: int

    @property
    def taken(self) -> int:
        """Bytes of the GPU, all in all."""
        return self.peak + max(self.context, CONTEXT)

    def share(self, memory: int, most: int) -> float:
        """The smallest share of a GPU with so much memory that holds it, 1/most or larger."""
        needed = self.peak * SAFETY + max(self.context, CONTEXT)
        return part(min(most, int(memory / needed)))

    def place(self, models: Mapping[str, int], most: int) -> Place:
        """The smallest share that holds it of the smallest model that does, of those with so much memory each."""
        smallest = min([self.memory, *models.values()])
        sizes: dict[str | None, int] = {None: smallest}
        sizes.update(_above(models, smallest))
        model = next((model for model, size in sizes.items() if self.taken <= size), [*sizes][-1])
        return Place(self.share(sizes[model], most), model)


def part(k: int) -> float:
    """1/k of a GPU in ten-thousandths, the smallest share that Ray knows, and downwards so that k of them are not more than one."""
    return math.floor(10_000 / max(k, 1)) / 10_000


def larger(share: float) -> float:
    """The next share where one was too small: twice as much or more, so that three steps lead from 1/8 to a whole GPU."""
    return part(int(1 / share) // 2)


def fence(share: float, memory: int) -> float:
    """The fraction of a GPU's memory (bytes) that the tensors of a process with this share may take."""
    return max(share - CONTEXT / memory, share / 2)


def is_full(error: BaseException) -> bool:
    """Whether it says that the memory of a GPU was full, or may have been: on the largest GPU it then is what it is."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "CPU" not in said and any(word in said for word in FULL)
    )


def group_of(trial: dict[str, Any]) -> Group:
    """Trials that take alike."""
    spec = json.loads(trial["spec"])
    faces = spec["fingerprint"], *(one["fingerprint"] for one in spec["evaluation"].get("transfer", []))
    return spec["method"], spec["backbone"], spec["image_size"], spec["channels"], spec["batch_size"], faces


def _above(models: Mapping[str, int], memory: int) -> dict[str, int]:
    """The models with more memory than that, the smallest first."""
    return {model: models[model] for model in sorted(models, key=models.__getitem__) if models[model] > memory}


class Shares:
    """The share of a GPU that each trial gets.

    Args:
        known: place of a group, or None where it must be measured.
        fit: place of a trial that was measured.
        models: of GPU that can hold a trial, by Ray's name, with the memory of one in bytes.

    """

    def __init__(
        self,
        known: Callable[[Group], Place | None],
        fit: Callable[[Measured], Place],
        models: Mapping[str, int] | None = None,
    ) -> None:
        self._known, self._fit, self._models = known, fit, models or {}
        self._largest = max(self._models.values(), default=0)
        self._places: dict[Group, Place | None] = {}  # None: is being measured
        self._asked: set[Group] = set()

    def of(self, trial: dict[str, Any]) -> Place | None:
        """The place of a trial; None where it is not known yet."""
        group = group_of(trial)
        if group not in self._places:
            self._places[group] = self._known(group)
        return self._places[group]

    def given(self, place: Place) -> dict[str, Any]:
        """What a trial is told of its place: "share", "model" where it must be of one, and "largest" where that is not the largest.

        That is the memory in bytes of the largest model: who finds a smaller GPU full can run again.
        """
        told: dict[str, Any] = {"share": place.share}
        if place.model is not None:
            told["model"] = place.model
        if self._models.get(place.model or "", 0) < self._largest:
            told["largest"] = self._largest
        return told

    def probe(self, trial: dict[str, Any]) -> bool:
        """Whether this trial is to be measured: the first of a group of which nothing is known. Asked again, the answer is no."""
        if self.of(trial) is not None or (group := group_of(trial)) in self._asked:
            return False
        self._asked.add(group)
        return True

    def firsts(self, trials: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The first trial of each group, which may have to be measured."""
        found: dict[Group, dict[str, Any]] = {}
        for trial in trials:
            found.setdefault(group_of(trial), trial)
        return list(found.values())

    def learn(self, trial: dict[str, Any], measured: Measured | None) -> None:
        """A trial was measured; None where it could not be, whose group then gets whole GPUs."""
        self._places[group_of(trial)] = Place(1.0) if measured is None else self._fit(measured)

    def grow(self, trial: dict[str, Any], memory: int) -> bool:
        """Give the group of a trial more than this one had; False where that was a whole GPU of the largest model.

        Of several that ran beside each other and were all too small, only the first makes the share grow.

        Args:
            trial: whose memory was full.
            memory: bytes of the GPU that it had its share of.

        """
        had, model, place = trial["share"], trial.get("model"), self.of(trial) or Place(0.0)
        group = group_of(trial)
        if had < 1:
            if place.share <= had and place.model == model:
                self._places[group] = Place(larger(had), model)
            return True
        better = _above(self._models, max(memory, self._models.get(model or "", 0)))
        if better and place.model not in better:
            self._places[group] = Place(had, next(iter(better)))
        return bool(better)


class NoShares(Shares):
    """Of trials that need no GPU."""

    def __init__(self) -> None:
        super().__init__(lambda group: Place(0.0), lambda measured: Place(0.0))

    def of(self, trial: dict[str, Any]) -> Place:
        """None of it."""
        return Place(0.0)

    def firsts(self, trials: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """None need be measured."""
        return []


def shares(config: Config, metric: str, store: Store) -> Shares:
    """The shares of a study, on the Ray that is running: what `cluster.gpus_per_trial` says, and else what they need.

    Args:
        config: the study's.
        metric: what it is about.
        store: with recorded trials.

    """
    given = config["cluster"]["gpus_per_trial"]
    if given == 0 or (given is None and not growth.resources(given)["GPU"]):
        return NoShares()
    if given is None and TIMES & {metric, config["search"]["cost"] if config["kind"] == "search" else None}:
        given = 1.0
    cpus = config["cluster"]["cpus_per_trial"]
    able = gpus.nodes(cpus, given or 1.0)
    devices = gpus.survey(able) if given is None or len(gpus.models(able)) > 1 else {}
    models = gpus.memories((devices or {}).values())
    if given is not None:
        return Shares(lambda group: Place(float(given)), lambda measured: Place(float(given)), models)
    if devices is None:  # GPUs that are only promised have no memory to share
        return Shares(lambda group: Place(1.0), lambda measured: Place(1.0))
    most, peaks = _most(cpus), _recorded(store, set(devices))
    smallest = min((one.memory for one in devices.values()), default=0)

    def fit(measured: Measured) -> Place:
        nearest = measured._replace(memory=min(smallest or measured.memory, measured.memory))
        return nearest.place(models, most)

    def known(group: Group) -> Place | None:
        return fit(Measured(peaks[group], CONTEXT, smallest)) if group in peaks else None

    return Shares(known, fit, models)


def measure(trial: Trial, device: torch.device) -> Measured:
    """What a trial takes: two steps of its training and one batch of its evaluation, on a GPU of its own."""

    class Enough(Exception):  # noqa: N818 - no error
        """So many steps were taken."""

    steps = count(1)

    def stop() -> None:
        if next(steps) >= STEPS:
            raise Enough

    with suppress(Enough):
        next(trial.run(after_step=stop))
    faces, view = trial.faces, augmentation(trial.spec.augmentation)
    evaluation.embed(
        trial.network, trial.method, faces.images, faces.labels, torch.from_numpy(trial.split.train[:256]), view
    )
    free, memory = torch.cuda.mem_get_info(device)
    peak = torch.cuda.max_memory_reserved(device)
    return Measured(peak, memory - free - torch.cuda.memory_reserved(device), memory)


def _most(cpus_per_trial: int) -> int:
    """Trials on a GPU that the CPUs of a node with GPUs suffice for, at most MOST."""
    nodes = [node["Resources"] for node in gpus.nodes()]
    by_cpus = [int(node.get("CPU", 0) / node["GPU"] / cpus_per_trial) for node in nodes]
    return max(1, min(MOST, max(by_cpus, default=MOST)))


def _recorded(store: Store, devices: set[str]) -> dict[Group, int]:
    """The largest peak of the recorded trials of each group on these devices, in bytes."""
    table = store.read("trials", ["status", "device", "config", "peak_memory_bytes"])
    there = pc.and_(pc.is_in(table["device"], pa.array(sorted(devices), pa.string())), pc.is_valid(table["config"]))
    peaks: dict[Group, int] = {}
    for row in table.filter(there).to_pylist():
        if row["status"] != "failed" and row["peak_memory_bytes"]:
            group = group_of({"spec": row["config"]})
            peaks[group] = max(row["peak_memory_bytes"], peaks.get(group, 0))
    return peaks
