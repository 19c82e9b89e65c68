"""What is played in the place of Ray and of the training: one event at a time, and a fault at the moment that it is given."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import types
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import torch
from ray.tune.utils.util import flatten_dict

from study.records import curves
from study.trial_row import spec_row
from study.worker import Worker

KINDS = {
    "kill": "the process that writes is killed",
    "kill-worker": "the worker is killed",
    "hang": "a worker stands still, and says nothing more",
    "kill-raylet": "a node's raylet is killed, and with it all its workers",
    "kill-driver": "the driver is killed, and the study begun again",
    "full": "the disk is full",
    "handles": "no file can be opened any more",
    "io": "the disk refuses to write",
    "tear": "half a file is written, then the process is killed",
    "slow": "a minute passes",
    "back": "the clock is turned back by a day",
    "drop": "a report is lost with its worker",
    "double": "a report comes twice",
    "late": "a report comes after those of another trial",
    "memory": "a trial finds its share of a GPU full",
}
START = datetime(2026, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process in which it is raised is gone: no handler of ours runs on."""


class Hung(BaseException):
    """The process in which it is raised does nothing any more until it is killed."""


@dataclass
class Fault:
    """What happens at one moment.

    Its kind is one of KINDS; full, handles and io last for `length` operations, on the disk or beside it.
    """

    kind: str = "none"
    moment: int = -1
    length: int = 1
    struck: bool = False


@dataclass
class World:
    """Clock, who is at work, and the fault."""

    fault: Fault = field(default_factory=Fault)
    moments: int = 0
    now: float = 0.0
    days: float = 0.0
    who: str = "driver"
    steps: bool = False  # whether a worker is in a step
    node: str = "a"  # of the worker that was last at work
    lost: set[str] = field(default_factory=set)
    playing: bool = False
    names: list[str] = field(default_factory=list)

    def moment(self, name: str, *, storage: bool = False, path: Path | None = None, data: bytes = b"") -> None:
        """An operation is about to be done."""
        number, self.moments = self.moments, self.moments + 1
        self.names.append(name)
        self.now += 0.01
        fault = self.fault
        kind = fault.kind
        if storage and kind in ("full", "handles", "io") and fault.moment <= number < fault.moment + fault.length:
            fault.struck = True
            code = {"full": errno.ENOSPC, "handles": errno.EMFILE, "io": errno.EIO}[kind]
            raise OSError(code, os.strerror(code), str(path))
        if number < fault.moment or fault.struck:
            return
        if kind == "tear" and path is not None and data:
            fault.struck = True
            with path.open("wb") as file:
                file.write(data[: len(data) // 2])
            raise Killed
        if (
            kind == "kill"
            or (kind == "kill-worker" and self.who == "worker")
            or (kind == "kill-driver" and self.who == "driver")
        ):
            fault.struck = True
            raise Killed
        if kind == "memory" and name == "epoch":
            fault.struck = True
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if kind == "hang" and self.steps:
            fault.struck = True
            raise Hung
        if kind == "kill-raylet":
            fault.struck = True
            self.lost.add(self.node)
            if self.who == "worker":
                raise Killed
        if kind == "slow":
            fault.struck, self.now = True, self.now + 60
        if kind == "back":
            fault.struck, self.days = True, self.days - 1

    def utc(self) -> datetime:
        """The wall clock."""
        return START + timedelta(seconds=self.now, days=self.days)


def number(*parts):
    """Between 0 and 1, out of a hash."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") / 2**32


class CheapTrial:
    """Numbers out of the trial's key in the place of a training."""

    def __init__(self, spec, audit, world):
        self.spec, self.audit, self.world, self.records = spec, audit, world, []
        self.started = world.utc()

        arm = number(spec.method, spec.learning_rate, sorted(spec.options.items()))
        self.skill = 0.9 * arm + 0.1 * self.number("luck")  # so that racing sees who is better

    def number(self, *parts):
        return number(self.spec.key, *parts)

    def state(self):
        return {"training": {"records": self.records}}

    def run(self, state=None):
        for record in state["training"]["records"] if state else ():
            self.records.append(record)
            yield record
        for epoch in range(len(self.records) + 1, self.spec.epochs + 1):
            self.world.moment("epoch")
            accuracy = 1 - (1 - 0.5 * self.skill) / (1 + 0.3 * epoch)
            rows = [{"epoch": epoch, "slice": i, "spread": 0.5, "metric_loss": self.number(epoch, i)} for i in range(2)]
            self.records.append(
                {
                    "epoch": epoch,
                    "val_accuracy": accuracy,
                    "train_loss": self.number(epoch),
                    "slices": rows,
                    "seconds": 1.0,
                }
            )
            yield self.records[-1]

    def row(self, status, error=None):
        last = self.records[-1]["val_accuracy"] if self.records else None
        times = {"started_at": self.started, "ended_at": self.world.utc(), "seconds": 1.0}
        return (
            spec_row(self.spec)
            | {"status": status, "error": error, "epochs": len(self.records)}
            | {"val_accuracy": last, "validation_images": 100}
            | times
        )

    def finish(self):
        key, row = self.spec.key, self.row("done")
        if self.spec.search is None:
            self.audit({"trial_key": key, "opened_at": self.world.utc(), "protocol": "sealed"})
            row["test_accuracy"] = self.number("test")
        predictions = [
            {"trial_key": key, "image": i, "label": i % 3, "predicted": int(3 * self.number(i))} for i in range(4)
        ]
        return {"trials": [row], "predictions": predictions, **curves(key, self.records)}


class PlayedTune:
    """In the place of ray.tune: two slots on two nodes, warm workers, one event at a time, as Tune's controller orders its calls.

    What a trial asks for is not looked at. A worker hangs in a step alone, and lets go of its locks, which one that stands still keeps.
    """

    def __init__(self, world, slots):
        self.world, self.slots, self.nodes = world, slots, itertools.cycle("ab")
        self.hung, self.killed = None, []  # workers
        for name in ("TuneConfig", "RunConfig", "FailureConfig", "CheckpointConfig"):
            setattr(self, name, lambda **settings: types.SimpleNamespace(**settings))

    def with_parameters(self, worker, context):
        return worker, context

    def with_resources(self, trainable, resources):
        return trainable

    def Tuner(self, trainable, tune_config, run_config):  # noqa: N802 - Tune's name
        self.worker, self.context = trainable
        self.search, self.scheduler = tune_config.search_alg, tune_config.scheduler
        self.slots = tune_config.max_concurrent_trials or self.slots
        [self.recorder] = run_config.callbacks
        return self

    def fit(self):
        ids, self.trials, self.world.playing = itertools.count(), [], True
        idle, running, waiting, finished = [], [], [], False
        while True:
            while not finished and len(running) + len(waiting) < self.slots:
                name = f"t{next(ids)}"
                config = self.search.suggest(name)
                if config is None:
                    self.world.now += 1
                    break
                if config == "FINISHED":
                    finished = True
                    break
                waiting.append(self._trial(name, config))
            while waiting:
                trial = waiting.pop(0)
                trial.worker = self._worker(trial, idle)
                trial.live = trial.worker is not None
                if trial.live:
                    trial.temporary_state.ray_actor = trial.worker
                    self.recorder.on_trial_start(0, self.trials, trial)
                    running.append(trial)
                else:
                    self._recover(trial, waiting)
            if finished and not running:
                return
            if running:
                trial = running.pop(0)
                outcome = self._step(trial)
                if outcome == "again":
                    self._recover(trial, waiting)
                elif outcome == "go on":
                    running.append(trial)
                elif outcome == "late":  # after one event of another trial
                    running.insert(min(1, len(running)), trial)
                else:
                    idle.append(trial.worker)
            self.recorder.on_step_end(0, self.trials)

    def _trial(self, name, config):
        trial = types.SimpleNamespace(trial_id=name, config=config, last_result={}, late=None, max_failures=-1)
        trial.temporary_state = types.SimpleNamespace(ray_actor=None)
        trial.run_metadata = types.SimpleNamespace(num_failures=0)
        trial.error_file = None
        trial.is_finished = lambda: not trial.live
        trial.live, trial.status = True, "RUNNING"
        self.trials.append(trial)
        self.scheduler.on_trial_add(None, trial)
        return trial

    def _worker(self, trial, idle):
        if idle and idle[-1].node in self.world.lost:  # Tune learns of it as it hands a trial over
            idle.pop()
            return None
        node = idle[-1].node if idle else next(node for node in self.nodes if node not in self.world.lost)
        with self._as_worker(node):
            try:
                if idle:
                    worker = idle.pop()
                    worker.reset_config(trial.config)
                else:
                    worker = Worker.__new__(self.worker)
                    worker.node = node
                    worker.setup(trial.config, self.context)
                return worker
            except Killed:
                return None

    def _step(self, trial):
        if trial.late is not None:
            result, trial.late = trial.late, None
            return self._deliver(trial, result)
        if trial.worker.node in self.world.lost or trial.worker in self.killed:
            return "again"
        if trial.worker is self.hung:
            self.world.now += 60
            return "go on"
        with self._as_worker(trial.worker.node):
            self.world.steps = True
            try:
                result = trial.worker.step()
                self.world.moment("report")
            except Killed:
                return "again"
            except Hung:
                self.hung = trial.worker
                return "go on"
            finally:
                self.world.steps = False
        fault = self.world.fault
        if not fault.struck and fault.kind in ("drop", "double", "late") and self.world.moments > fault.moment:
            fault.struck = True
            if fault.kind == "drop":
                return "again"
            if fault.kind == "late":
                trial.late = result
                return "late"
            # Tune asks for one result at a time: what is doubled is one that does not end the trial.
            if not result.get("done") and self._deliver(trial, dict(result)) == "ended":
                return "ended"
        return self._deliver(trial, result)

    def _deliver(self, trial, result):
        self.world.moment("delivery")
        result = result | {"trial_id": trial.trial_id, "node_ip": "here"}
        flat = flatten_dict(result)
        stop = bool(result.get("done")) or self.scheduler.on_trial_result(None, trial, flat) == "STOP"
        if not stop:
            self.search.on_trial_result(trial.trial_id, flat)
        self.recorder.on_trial_result(0, self.trials, trial, result)
        trial.last_result = result
        if not stop:
            return "go on"
        self.scheduler.on_trial_complete(None, trial, flat)
        self.search.on_trial_complete(trial.trial_id, flat)
        self.recorder.on_trial_complete(0, self.trials, trial)
        trial.live = False
        return "ended"

    def _recover(self, trial, waiting):
        trial.run_metadata.num_failures += 1
        self.scheduler.on_trial_error(None, trial)
        self.scheduler.on_trial_add(None, trial)
        self.recorder.on_trial_recover(0, self.trials, trial)
        waiting.append(trial)

    @contextlib.contextmanager
    def _as_worker(self, node):
        self.world.who, self.world.node = "worker", node
        try:
            yield
        finally:
            self.world.who = "driver"
