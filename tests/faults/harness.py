"""A study whose every step can fail: the real plan, dispatcher, search, workers, recorder, spool and store, on a Tune that is played.

Only Ray and the training are played, so that a run takes a fraction of a second and a fault can strike at every
storage operation, report and step, one run each. It strikes once, at the moment (the number of the operation) that it is given.
"""

from __future__ import annotations

import contextlib
import shutil
import types
from collections import Counter
from pathlib import Path

import pytest

from results import Store, StoreError, files
from results.schema import TABLES
from study import conduct, engine, recorder
from study.config import load
from study.worker import Worker
from tests.faults.played import CheapTrial, Fault, Killed, PlayedTune, World

TIMES = {"seconds", "setup_seconds", "images_per_second", "started_at", "ended_at", "opened_at", "created_at"}


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
    played = PlayedTune(world, slots)
    monkeypatch.setattr(engine, "tune", played)
    monkeypatch.setattr(recorder, "ray", types.SimpleNamespace(kill=played.killed.append))
    monkeypatch.setattr(engine, "cluster", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(recorder, "COMPACT_EVERY", 3)
    monkeypatch.setattr(recorder, "Thread", Immediate)
    monkeypatch.setattr(recorder, "_compact", compact)
    monkeypatch.setattr(recorder, "_node_of", lambda actor: getattr(actor, "node", None))
    monkeypatch.setattr(recorder, "_lost_nodes", lambda: world.lost)
    monkeypatch.setattr("study.growth.resources", lambda share: {"CPU": float(slots), "GPU": slots / 2})
    monkeypatch.setattr("study.gpus.nodes", lambda *given: [])  # all alike
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


def content(tables, kind="none"):
    """All rows but what says when, and where shares of a GPU were full what they were: of each table, sorted."""
    leave = TIMES | ({"gpu_share"} if kind == "memory" else set())
    store = Store(tables)
    found = {}
    for table, spec in TABLES.items():
        rows = store.read(table).to_pylist()
        kept = [name for name in spec.schema.names if name not in leave]
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
        name: "table" (4 trials on two workers), "search" (5 proposals on one, which ASHA stops early) or "race" (3 proposals on one,
            each on two folds twice, of which racing drops two).
        folder: for its files.

    """

    def __init__(self, name, folder):
        tiny = ["dataset.subjects=4", "dataset.per_class=1", "image_size=16", "folds=2", "cluster.gpus_per_trial=0.5"]
        own = {
            "table": ["method=softmax", "seeds=2", "epochs=2", "checkpoint.every=1"],
            "search": ["search.trials=5", "search.seed=5", "epochs=4", "search.grace=1", "cluster.workers=1"],
            "race": [
                "search.trials=3",
                "search.folds=2",
                "search.seeds=2",
                "search.alpha=0.2",
                "search.seed=2",
                "epochs=1",
                "search.grace=1",
                "cluster.workers=1",
            ],
        }
        self.name, self.tables, self.home = name, folder / "tables", folder / "home"
        config = load([*tiny, *own[name], f"dataset.cache={folder / 'cache'}", f"storage.root={self.tables}"])
        self.config = config | {"kind": "method" if name == "table" else "search", "overrides": []}
        self.expected, world = self.run(Fault())
        self.without_shares = content(self.tables, "memory")
        self.moments, self.names = world.moments, world.names

    def run(self, fault):
        """Carry it out with one fault: the content of its tables, and the world as it was in the end."""
        shutil.rmtree(self.tables, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(self.home))
            world = World(fault)
            play(patch, world)
            carry_out(self.config, self.tables, world)
        return content(self.tables, fault.kind), world

    def strike(self, kind, moment, length=1):
        """(whether the fault struck, rows lost, rows doubled or wrong, files left behind)."""
        fault = Fault(kind, moment, length)
        found, _ = self.run(fault)
        expected = self.without_shares if kind == "memory" else self.expected
        lost = sum((Counter(rows) - Counter(found[table])).total() for table, rows in expected.items())
        more = sum((Counter(found[table]) - Counter(rows)).total() for table, rows in expected.items())
        return fault.struck, lost, more, len(litter(self.tables))
