"""A study whose every step can fail: the real plan, dispatcher, search, workers, recorder, spool and store, on a Tune that is played.

Only Ray and the training are played, so that a run takes a fraction of a second and a fault can strike at every
storage operation, report and step, one run each. It strikes once, at the moment (the number of the operation) that it is given.
It is one long module on purpose: the played parts stand in for each other's neighbours, and are read together.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import types
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ray.tune.utils.util import flatten_dict

from results import Store, StoreError, files
from results.schema import TABLES
from study import conduct, engine, recorder
from study.config import load
from study.records import curves
from study.trial_row import spec_row
from study.worker import Worker

KINDS = {
    "kill": "the process that writes is killed",
    "kill-worker": "the worker is killed",
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
}
TIMES = {"seconds", "setup_seconds", "images_per_second", "started_at", "ended_at", "opened_at", "created_at"}
START = datetime(2026, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process in which it is raised is gone: no handler of ours runs on."""


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


class CheapTrial:
    """Numbers out of the trial's key in the place of a training."""

    def __init__(self, spec, audit, world):
        self.spec, self.audit, self.world, self.records = spec, audit, world, []
        self.started = world.utc()

    def number(self, *parts):
        digest = hashlib.sha256(repr((self.spec.key, *parts)).encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**32

    def state(self):
        return {"training": {"records": self.records}}

    def run(self, state=None):
        for record in state["training"]["records"] if state else ():
            self.records.append(record)
            yield record
        for epoch in range(len(self.records) + 1, self.spec.epochs + 1):
            self.world.moment("epoch")
            accuracy = 1 - (1 - 0.5 * self.number("skill")) / (1 + 0.3 * epoch)
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
            | {"status": status, "error": error, "epochs": len(self.records), "val_accuracy": last}
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
    """In the place of ray.tune: two slots on two nodes, warm workers, one event at a time, as Tune's controller orders its calls."""

    def __init__(self, world, slots):
        self.world, self.slots, self.nodes = world, slots, itertools.cycle("ab")
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
        trial.live = True
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
        if trial.worker.node in self.world.lost:
            return "again"
        with self._as_worker(trial.worker.node):
            try:
                result = trial.worker.step()
                self.world.moment("report")
            except Killed:
                return "again"
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


class Immediate:
    """A thread that runs at once."""

    def __init__(self, target, args, daemon):
        self.run = lambda: target(*args)

    def start(self):
        self.run()

    def join(self):
        """It has ended."""


class Silent:
    """A live page, or a display, of nothing."""

    def __init__(self, *given):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *given):
        return None

    def __getattr__(self, name):
        return lambda *given, **named: None


def compact(root):
    """As the engine does in another process, to which no fault of this one would come."""
    with contextlib.suppress(StoreError):
        Store(root).compact()


def play(monkeypatch, world, slots=2):
    """Put the played parts in the place of the real ones."""
    monkeypatch.setattr(engine, "tune", PlayedTune(world, slots))
    monkeypatch.setattr(engine, "cluster", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(recorder, "COMPACT_EVERY", 3)
    monkeypatch.setattr(recorder, "Thread", Immediate)
    monkeypatch.setattr(recorder, "_compact", compact)
    monkeypatch.setattr(recorder, "_node_of", lambda actor: getattr(actor, "node", None))
    monkeypatch.setattr(recorder, "_lost_nodes", lambda: world.lost)
    monkeypatch.setattr("study.growth.resources", lambda share: {"CPU": float(slots), "GPU": 0.0})
    monkeypatch.setattr("study.plan.check_network", lambda config: None)  # a fifth of the time
    monkeypatch.setattr("study.live.LivePage", Silent)
    monkeypatch.setattr("study.progress.Display", Silent)
    monkeypatch.setattr("study.worker.use_device", lambda *given: types.SimpleNamespace(type="cpu"))
    monkeypatch.setattr("study.worker.gc", types.SimpleNamespace(collect=lambda: None, freeze=lambda: None))

    def prepare(worker):
        key = worker.spec.key
        return CheapTrial(worker.spec, lambda row: worker.store.write("audits", f"{key}-audit", [row]), world)

    monkeypatch.setattr(Worker, "_prepare", prepare)

    def killed(status):
        raise Killed

    monkeypatch.setattr("study.worker.os._exit", killed)
    monkeypatch.setattr("study.checkpoint.CUT_OFF", 0.0)  # no one writes while the study is over

    def sleep(seconds):
        world.now += seconds

    for module in ("study.worker", "study.engine", "study.recorder", "study.spool"):
        clock = types.SimpleNamespace(sleep=sleep, monotonic=lambda: world.now, time=lambda: world.utc().timestamp())
        monkeypatch.setattr(f"{module}.time", clock)
    monkeypatch.setattr("study.spool.Spool.__init__.__defaults__", (lambda: world.now,))

    write, publish, remove = Path.write_bytes, files.publish, files.remove

    def write_bytes(path, data):
        world.moment("write", storage=True, path=path, data=data)
        return write(path, data)

    def published(aside, path):
        world.moment("rename", storage=True, path=path)
        publish(aside, path)
        world.moment("renamed", path=path)

    def removed(path):
        world.moment("remove", storage=True, path=path)
        remove(path)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    monkeypatch.setattr(files, "publish", published)
    for module in ("results.files", "results.store", "results.compaction", "results.layout", "study.checkpoint"):
        monkeypatch.setattr(f"{module}.remove", removed, raising=False)


def carry_out(config, tables, world):
    """The whole study, begun again as often as its driver is killed; the number of times that it was begun."""
    for begun in range(1, 6):
        world.who, world.playing = "driver", False
        try:
            study = conduct.prepare(dict(config), Store(tables))
            conduct.carry_out(study)
            return begun
        except Killed:
            continue
        except StoreError:
            if world.playing:  # once trials run, storage that fails for a while must not end the study
                raise
    raise AssertionError("The driver dies again and again.")


def content(tables):
    """All rows but what says when: of each table, sorted."""
    store = Store(tables)
    found = {}
    for table, spec in TABLES.items():
        rows = store.read(table).to_pylist()
        kept = [name for name in spec.schema.names if name not in TIMES]
        found[table] = sorted(repr([row[name] for name in kept]) for row in rows)
    found["audits"] = sorted(set(found["audits"]))
    return found


def litter(tables):
    """Temporary files that nobody will remove: after one more compaction there must be none."""
    Store(tables).compact()
    return [path.name for path in Path(tables).rglob("*.tmp")]


class Played:
    """A small study that is carried out anew for every fault.

    Args:
        name: "table" (4 trials on two workers) or "search" (5 proposals on one, which ASHA stops early).
        folder: for its files.

    """

    def __init__(self, name, folder):
        tiny = ["dataset.subjects=4", "dataset.per_class=1", "image_size=16", "folds=2"]
        own = {
            "table": ["method=softmax", "seeds=2", "epochs=2", "checkpoint.every=1"],
            "search": ["search.trials=5", "epochs=4", "search.grace=1", "cluster.workers=1"],
        }
        self.tables, self.home = folder / "tables", folder / "home"
        config = load([*tiny, *own[name], f"dataset.cache={folder / 'cache'}", f"storage.root={self.tables}"])
        self.config = config | {"kind": "search" if name == "search" else "method", "overrides": []}
        self.expected, world = self.run(Fault())
        self.moments, self.names = world.moments, world.names

    def run(self, fault):
        """Carry it out with one fault: the content of its tables, and the world as it was in the end."""
        shutil.rmtree(self.tables, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(self.home))
            world = World(fault)
            play(patch, world)
            carry_out(self.config, self.tables, world)
        return content(self.tables), world

    def strike(self, kind, moment, length=1):
        """(whether the fault struck, rows lost, rows doubled or wrong, files left behind)."""
        fault = Fault(kind, moment, length)
        found, _ = self.run(fault)
        lost = sum((Counter(rows) - Counter(found[table])).total() for table, rows in self.expected.items())
        more = sum((Counter(found[table]) - Counter(rows)).total() for table, rows in self.expected.items())
        return fault.struck, lost, more, len(litter(self.tables))
