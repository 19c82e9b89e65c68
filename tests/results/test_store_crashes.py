"""Crashes, compactions and other processes: nothing is lost, doubled or half seen."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from results import Store
from results.files import parquet_bytes, write_file
from results.layout import Layout
from results.schema import TABLES, table_of
from tests.results.crashing import Fuse
from tests.results.fakes import content, fake_ablation, fake_search, fake_trial

ROOT = Path(__file__).resolve().parents[2]


def test_generations_stay_few(store):
    for index in range(40):
        store.commit(f"k{index}", fake_trial(f"k{index}", epochs=1))
        store.compact()
    generations = json.loads((store.root / "MANIFEST.json").read_text())["generations"]
    assert len(generations) <= 6
    assert sum(generation["parts"] for generation in generations) == 40
    named = {file for generation in generations for file in generation["files"].values()}
    assert {path.name for path in (store.root / "compact").iterdir()} == named
    assert store.committed_keys() == {f"k{index}" for index in range(40)}


def test_a_compaction_survives_a_crash_at_every_step(tmp_path, monkeypatch):
    fuse = Fuse(monkeypatch)
    origin = Store(tmp_path / "origin")
    fake_ablation(origin, folds=1, seeds=1)
    origin.compact()
    origin.commit("failed", fake_trial("failed", status="failed", epochs=1))
    origin.compact()
    origin.commit("failed", fake_trial("failed"))
    fake_search(origin, trials=2)
    expected = content(origin)
    for step in range(1000):
        store = Store(tmp_path / f"crash{step}")
        shutil.copytree(origin.root, store.root)
        ended = fuse.run(step, store.compact)
        assert content(store) == expected, step
        assert content(Store(store.root)) == expected, step
        Store(store.root).compact()
        assert content(store) == expected, step
        assert not [path for path in store.root.rglob("*") if path.name.endswith(".tmp") or path.parent.name in TABLES]
        shutil.rmtree(store.root)
        if ended:
            break
    assert step > 40


@pytest.mark.parametrize("compacted", [False, True])
def test_a_commit_survives_a_crash_at_every_step(tmp_path, monkeypatch, compacted):
    fuse = Fuse(monkeypatch)
    origin = Store(tmp_path / "origin")
    origin.commit("other", fake_trial("other"))
    origin.commit("k", fake_trial("k", status="failed", epochs=2))
    if compacted:
        origin.compact()
    before = content(origin)
    alone = Store(tmp_path / "alone")
    alone.commit("other", fake_trial("other"))
    without = content(alone)
    alone.commit("k", fake_trial("k"))
    after = content(alone)
    for step in range(1000):
        store = Store(tmp_path / f"crash{step}")
        shutil.copytree(origin.root, store.root)
        ended = fuse.run(step, lambda store=store: store.commit("k", fake_trial("k")))
        # A failed row that is not compacted is given up before its successor is there, so that rows never mix.
        allowed = [after] if ended else [before, after] if compacted else [before, without, after]
        assert content(Store(store.root)) in allowed, step
        if step % 2:
            Store(store.root).compact()
            assert content(Store(store.root)) in allowed, step
        Store(store.root).commit("k", fake_trial("k"))
        assert content(Store(store.root)) == after, step
        shutil.rmtree(store.root)
        if ended:
            break
    assert step > 10


def test_a_trial_that_is_retrained_is_never_without_its_row(tmp_path, monkeypatch):
    fuse = Fuse(monkeypatch)
    origin, alone = Store(tmp_path / "origin"), Store(tmp_path / "alone")
    origin.commit("k", fake_trial("k", epochs=2))
    before = content(origin)
    alone.commit("k", fake_trial("k", accuracy=0.7, retrained=1))
    after = content(alone)
    for step in range(1000):
        store = Store(tmp_path / f"crash{step}")
        shutil.copytree(origin.root, store.root)
        again = fake_trial("k", accuracy=0.7, retrained=1)
        ended = fuse.run(step, lambda store=store, again=again: store.commit("k", again))
        assert content(Store(store.root)) in ([after] if ended else [before, after]), step
        if ended:
            break
    assert step > 20


WORKER = """
import sys
from results import Store
from tests.results.fakes import fake_trial
store = Store(sys.argv[1])
for index in range(12):
    key = f"k{index:02}"
    store.commit(key, fake_trial(key, accuracy=float(sys.argv[2]), epochs=2))
    store.write("audits", f"{key}-{sys.argv[2]}", [{"trial_key": key}])
"""
COMPACTOR = """
import sys
from results import Store
for _ in range(25):
    Store(sys.argv[1]).compact()
"""


def test_processes_that_commit_the_same_keys_while_others_compact_and_read(tmp_path):
    store = Store(tmp_path / "tables")
    store.commit("k00", fake_trial("k00", status="failed", epochs=1))
    programs = [(WORKER, "0.5"), (WORKER, "0.75"), (COMPACTOR, ""), (COMPACTOR, "")]
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(store.root), extra], cwd=ROOT) for code, extra in programs
    ]
    seen = set()
    while any(process.poll() is None for process in running):
        now = store.committed_keys()
        assert seen - now <= {"k00"}, "a committed row vanished"
        seen = now
        keys = store.read("trials")["trial_key"].to_pylist()
        assert len(set(keys)) == len(keys)
        found = store.read("epochs", ["trial_key", "epoch"]).to_pylist()
        assert len({tuple(row.values()) for row in found}) == len(found)
        counts = {key: sum(row["trial_key"] == key for row in found) for key in {row["trial_key"] for row in found}}
        assert set(counts.values()) <= {2} or counts["k00"] == 1
    assert [process.returncode for process in running] == [0, 0, 0, 0]
    for _ in range(2):
        assert store.statuses() == {f"k{index:02}": "done" for index in range(12)}
        for table, rows in fake_trial("k", epochs=2).items():
            assert store.read(table).num_rows == 12 * len(rows), table
        assert store.read("audits").num_rows == 24
        store.compact()


def test_a_commit_during_a_compaction_is_kept(store, monkeypatch):
    """Commit and replace while the compaction has read the parts and not yet switched to its files."""
    store.commit("failed", fake_trial("failed", status="failed", epochs=1))
    store.commit("old", fake_trial("old"))
    store.write("members", "s", [{"study": "s", "index": 0}])
    from results import compaction

    write, calls = compaction._write, []

    def busy(*args):
        written = write(*args)
        if not calls:
            store.commit("new", fake_trial("new"))
            store.commit("failed", fake_trial("failed", epochs=4))
            store.write("members", "s", [{"study": "s", "index": 0}, {"study": "s", "index": 1}])
        calls.append(args)
        return written

    monkeypatch.setattr(compaction, "_write", busy)
    store.compact()
    for _ in range(2):
        assert store.statuses() == {"failed": "done", "old": "done", "new": "done"}
        assert store.read("epochs").num_rows == 4 + 3 + 3
        assert store.read("members").num_rows == 2
        store.compact()


def test_a_part_replaced_by_name_during_a_compaction_is_kept(store, monkeypatch):
    store.write("members", "s", [{"study": "s", "index": 0}])
    from results import compaction

    write, calls = compaction._write, []

    def busy(*args):
        written = write(*args)
        calls.append(args)
        store.write("members", "s", [{"study": "s", "index": len(calls)}])
        return written

    monkeypatch.setattr(compaction, "_write", busy)
    store.compact()
    monkeypatch.undo()
    for _ in range(2):
        assert store.read("members")["index"].to_pylist() == [len(calls)]
        store.compact()


@pytest.mark.parametrize("step", range(30))
def test_a_commit_that_crashes_during_a_compaction_does_not_mix_its_rows_with_the_old(store, monkeypatch, step):
    store.commit("k", fake_trial("k", status="failed", epochs=1))
    fuse = Fuse(monkeypatch)
    from results import compaction

    write, calls = compaction._write, []

    def busy(*args):
        written = write(*args)
        if not calls:
            fuse.run(step, lambda: Store(store.root).commit("k", fake_trial("k", epochs=3)))
        calls.append(args)
        return written

    monkeypatch.setattr(compaction, "_write", busy)
    store.compact()
    epochs = {"failed": 1, "done": 3}
    assert store.read("epochs").num_rows == sum(epochs[status] for status in store.statuses().values())


class Interruption:
    """Does something else just before the `count`-th time that a reader turns to the folder."""

    def __init__(self, monkeypatch, count, action):
        self.left, self.action = count, action
        steps = [(Layout, name) for name in ("parts", "names", "generations", "hold")]
        for owner, name in (*steps, (pq, "ParquetFile")):
            monkeypatch.setattr(owner, name, self._wrap(getattr(owner, name)))

    def _wrap(self, original):
        def wrapped(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                self.action()
            return original(*args, **kwargs)

        return wrapped


@pytest.mark.parametrize("table", ["trials", "epochs", "members"])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_reader_sees_all_or_nothing_whatever_happens_between_its_steps(tmp_path, monkeypatch, table, compacted):
    def change(store):
        store.commit("a", fake_trial("a", epochs=4))
        store.commit("b", fake_trial("b", status="failed", epochs=5))
        store.write("members", "s", [{"study": "s", "index": 2}, {"study": "s", "index": 3}])

    def half(store):
        """As far as a commit had come when its process was killed."""
        (store.root / "parts" / "trials" / "a.parquet").unlink(missing_ok=True)
        write_file(store.root / "parts" / "epochs" / "a.parquet", parquet_bytes(later))

    later = table_of("epochs", fake_trial("a", epochs=4)["epochs"])
    actions = {
        "half": half,
        "compact": lambda store: store.compact(),
        "change": change,
        "change and compact": lambda store: (change(store), store.compact()),
        "compact and change": lambda store: (store.compact(), change(store)),
    }
    origin = Store(tmp_path / "origin")
    origin.commit("a", fake_trial("a", status="failed", epochs=1))
    origin.commit("b", fake_trial("b", epochs=2))
    origin.write("members", "s", [{"study": "s", "index": 1}])
    if compacted:
        origin.compact()
    before = sorted(map(repr, origin.read(table).to_pylist()))
    for name, action in actions.items():
        for count in range(1, 40):
            store = Store(tmp_path / f"{name}{count}")
            shutil.copytree(origin.root, store.root)
            with monkeypatch.context() as patch:
                interruption = Interruption(patch, count, lambda s=store, a=action: a(Store(s.root)))
                seen = sorted(map(repr, Store(store.root).read(table).to_pylist()))
            assert seen in (before, sorted(map(repr, store.read(table).to_pylist()))), (name, count)
            shutil.rmtree(store.root)
            if interruption.left > 0:
                break
        assert count > 3


def test_each_file_is_safe_before_it_is_named_and_the_mark_comes_last(store, monkeypatch):
    history = []

    def fsync(handle):
        history.append(("sync", Path(f"/proc/self/fd/{handle}").readlink()))

    replace = Path.replace
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda old, new: (history.append(("name", old, new)), replace(old, new)))
    store.commit("k", fake_trial("k"))
    names = [entry for entry in history if entry[0] == "name"]
    assert [new.parent.name for _, _, new in names] == ["predictions", "confusion", "slices", "epochs", "trials"]
    for entry in names:
        place = history.index(entry)
        assert history[place - 1] == ("sync", entry[1])
        assert history[place + 1] == ("sync", entry[2].parent)


def test_write_file_replaces_whole(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert [found.name for found in path.parent.iterdir()] == ["file"]
