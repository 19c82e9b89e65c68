"""A store in S3 keeps the rules of one in a folder, without a lock."""

import json
import subprocess
import sys
import threading

import pytest

from results import Store, far
from results.remote import Remote
from results.schema import TABLES
from tests.results.crashing import Crash
from tests.results.fakes import content, fake_ablation, fake_trial
from tests.results.test_store import (  # noqa: F401 - the same tests, with the store of this file
    test_a_part_written_by_name_is_replaced_by_its_name,
    test_a_study_reads_the_trials_of_its_members_whoever_made_them,
    test_columns_come_in_the_order_asked_for,
    test_names_that_are_no_file_names_are_refused,
    test_what_is_committed_is_read,
    test_which_of_two_attempts_stands_with_all_its_rows,
)
from tests.results.test_store_crashes import (  # noqa: F401
    COMPACTOR,
    ROOT,
    WORKER,
    test_a_commit_during_a_compaction_is_kept,
    test_a_part_replaced_by_name_during_a_compaction_is_kept,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def store(s3, request):
    """A store of its own in S3, reached without the proxy."""
    return Store(f"s3://bucket/{abs(hash(request.node.name))}")


@pytest.fixture(autouse=True)
def no_proxy(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")


def objects(store):
    """The names of all objects, with their content."""
    return {entry.name: store._layout.remote.get(entry.name) for entry in store._layout.remote.entries("")}


def restore(store, kept):
    """Bring all objects back."""
    there = store._layout.remote
    there.delete(entry.name for entry in there.entries(""))
    list(there.map(lambda item: there.put(*item), kept.items()))


class Wire:
    """Lets `left` requests that write go out; then the process dies, or something else happens once."""

    def __init__(self, monkeypatch, action=None, verbs=("write", "remove")):
        self.left, self.action, original = None, action, Remote._try

        def sent(remote, verb, name, request, patience=None):
            if self.left is not None and verb in verbs:
                if self.left == 0 and action is None:
                    raise Crash
                self.left -= 1
                if self.left == -1:
                    self.left, _ = None, self.action()
            return original(remote, verb, name, request, patience)

        monkeypatch.setattr(Remote, "_try", sent)

    def run(self, left, work):
        """Whether `work` ended before."""
        self.left = left
        try:
            work()
        except Crash:
            return False
        finally:
            ended, self.left = self.left is not None, None
        return ended


def test_writing_twice_gives_the_same_objects(store):
    assert store.commit("k", fake_trial("k", whole=True))
    before = objects(store)
    assert not store.commit("k", fake_trial("k", whole=True))
    assert objects(store) == before


def test_two_workers_that_commit_one_trial_at_a_time_never_mix_their_rows(store, monkeypatch):
    """One commits, in the middle of which the other does, at every step."""
    for step in range(20):
        key = f"k{step}"
        with monkeypatch.context() as patch:
            second = Store(store.root)
            wire = Wire(patch, lambda key=key, second=second: second.commit(key, fake_trial(key, epochs=5)))
            ended = wire.run(step, lambda key=key: store.commit(key, fake_trial(key, epochs=2)))
        for compacted in (False, True):
            [row] = [row for row in store.read("trials").to_pylist() if row["trial_key"] == key]
            rows = [row for row in store.read("epochs").to_pylist() if row["trial_key"] == key]
            assert len(rows) == row["epochs"], (step, compacted)
            store.compact()
        if ended:
            break
    assert step == 5  # one part after the other, and the mark


def test_of_equal_attempts_the_first_stands(store):
    """Also where both looked before either wrote."""
    store.commit("k", fake_trial("k", epochs=1))
    [mark] = store._layout.remote.entries("parts/trials/")
    assert store._layout.signature("trials", "k")[0] in mark.name
    first = store.read("trials")
    while (
        store._layout.remote.put("clock", b"") and next(store._layout.remote.entries("clock")).modified <= mark.modified
    ):
        pass  # the server's times are whole seconds
    for attempt in range(4):
        rows = fake_trial("k", epochs=2 + attempt)
        layout = Store(f"{store.root}/aside-{attempt}")
        layout.commit("k", rows)
        for name, data in objects(layout).items():
            store._layout.remote.put(name, data)
        assert store.read("trials") == first
        assert Store(store.root).read("epochs").num_rows == 1
    store.compact()
    assert store.read("trials") == first
    assert not list(store._layout.remote.entries("parts/"))


def test_a_process_that_dies_at_any_request_leaves_whole_states(store, monkeypatch):
    fake_ablation(store, folds=1, seeds=1)
    store.commit("k", fake_trial("k", status="failed", epochs=2))
    store.compact()
    store.commit("k", fake_trial("k", status="failed", epochs=3, ended=70.0))
    store.write("members", "demo", [{"study": "demo", "index": 7}])
    store.write("members", "demo", [{"study": "demo", "index": 8}])
    kept, before = objects(store), content(store)
    store.commit("k", fake_trial("k"))
    after = content(store)
    wire = Wire(monkeypatch)
    monkeypatch.setattr(Remote, "map", lambda remote, function, items, threads=1: map(function, items))
    steps = []
    for work, allowed in ((lambda: store.commit("k", fake_trial("k")), [before, after]), (store.compact, [before])):
        for step in range(100):
            restore(store, kept)
            ended = wire.run(step, work)
            now = content(Store(store.root))
            assert now in allowed, step
            if step % 4 == 0:
                Store(store.root).compact()
                assert content(Store(store.root)) == now, step
                assert not list(store._layout.remote.entries("parts/trials")), step
            if ended:
                break
        steps.append(step)
    assert steps[0] == 5
    assert steps[1] >= 8


@pytest.mark.parametrize("action", ["compact", "commit", "commit and compact"])
def test_a_reader_sees_all_or_nothing_whatever_happens_between_its_requests(store, monkeypatch, action):
    store.commit("a", fake_trial("a", status="failed", epochs=1))
    store.commit("b", fake_trial("b", epochs=2))
    store.compact()
    store.commit("c", fake_trial("c", status="failed", epochs=2))
    kept, before = objects(store), sorted(map(repr, store.read("epochs").to_pylist()))

    def act():
        other = Store(store.root)
        if "commit" in action:
            other.commit("a", fake_trial("a", epochs=4))
            other.commit("c", fake_trial("c", epochs=5))
        if "compact" in action:
            other.compact()

    act()
    after = sorted(map(repr, store.read("epochs").to_pylist()))
    for step in range(len(action) % 2, 100, 2):
        restore(store, kept)
        with monkeypatch.context() as patch:
            wire, reader, seen = Wire(patch, act, ("read", "list")), Store(store.root), []
            ended = wire.run(step, lambda reader=reader, seen=seen: seen.append(reader.read("epochs")))
        assert sorted(map(repr, seen[0].to_pylist())) in (before, after), step
        if ended:
            break
    assert step > 5


def test_what_no_longer_counts_is_kept_for_hours(store, monkeypatch):
    """For those who read it; and so is what a compaction left that died, or has not ended."""
    store.commit("a", fake_trial("a"))
    store.compact()
    reader = store.snapshot(["trials", "epochs"])
    there = store._layout.remote
    there.put("compact/trials-dead.parquet", b"left behind")
    there.put("parts/epochs/dead~2-0-0-0123456789abcdef.parquet", b"left behind")
    store.commit("b", fake_trial("b"))
    store.compact()
    old = reader.rows("epochs", TABLES["epochs"].schema)
    assert set(old["trial_key"].to_pylist()) == {"a"}
    assert {"compact/trials-dead.parquet", "parts/epochs/dead~2-0-0-0123456789abcdef.parquet"} <= set(objects(store))
    store.compact()
    monkeypatch.setattr(far, "HOURS", -60.0)
    store.compact()  # nothing new: a compaction that is still at work may be before its manifest
    assert "compact/trials-dead.parquet" in objects(store)
    store.commit("c", fake_trial("c"))
    store.compact()
    named = {f"compact/{f}" for g in json.loads(store._layout.manifest())["generations"] for f in g["files"].values()}
    assert set(objects(store)) == {"MANIFEST.json", *named}
    assert store.committed_keys() == {"a", "b", "c"}


def test_of_two_compactions_at_a_time_both_end_and_one_counts(store):
    for index in range(6):
        store.commit(f"k{index}", fake_trial(f"k{index}"))
    before = content(store)
    threads = [threading.Thread(target=Store(store.root).compact) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(Store(store.root)) == before
    assert not list(store._layout.remote.entries("parts/"))


def test_processes_that_commit_the_same_trials_while_others_compact_and_read(store):
    programs = [(WORKER, "0.5"), (WORKER, "0.75"), (COMPACTOR.replace("25", "5"), "")]
    running = [subprocess.Popen([sys.executable, "-c", code, store.root, extra], cwd=ROOT) for code, extra in programs]
    seen = set()
    while any(process.poll() is None for process in running):
        now = store.committed_keys()
        assert seen <= now, "a committed row vanished"
        seen = now
        with store.snapshot(["trials", "epochs"]) as state:
            trials = state.rows("trials", TABLES["trials"].schema)["trial_key"].to_pylist()
            epochs = state.rows("epochs", TABLES["epochs"].schema).select(["trial_key", "epoch"]).to_pylist()
        assert len(set(trials)) == len(trials)
        assert sorted((row["trial_key"], row["epoch"]) for row in epochs) == sorted(
            (k, e) for k in trials for e in (1, 2)
        )
    assert [process.returncode for process in running] == [0, 0, 0]
    for _ in range(2):
        assert store.statuses() == {f"k{index:02}": "done" for index in range(12)}
        assert store.read("epochs").num_rows == 24
        assert store.read("audits").num_rows == 24
        store.compact()


def test_a_store_that_was_copied_from_a_folder_goes_on(store, tmp_path):
    near = Store(tmp_path / "near")
    fake_ablation(near, folds=1, seeds=1)
    near.commit("k", fake_trial("k", status="failed"))
    for path in near.root.rglob("*.parquet"):
        store._layout.remote.upload(path, str(path.relative_to(near.root)))
    assert content(store) == content(near)
    for one in (near, store):
        one.commit("k", fake_trial("k"))
        one.write("members", "demo", [{"study": "demo", "index": 9}])
    assert content(store) == content(near)
    store.compact()
    assert content(Store(store.root)) == content(near)
    assert not list(store._layout.remote.entries("parts/"))


def test_requests_of_a_commit(store, s3, monkeypatch):
    """A commit asks what stands and for the manifest, and writes its parts; nothing else."""
    store.commit("a", fake_trial("a"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.address)
    counted = Store(store.root)
    counted.commit("b", fake_trial("b"))
    methods = [method for method, _, _ in s3.seen]
    assert (methods.count("GET"), methods.count("PUT"), len(methods)) == (2, 5, 7)
    assert s3.seen[-1][1].startswith(f"/bucket/{store.root.rpartition('/')[2]}/parts/trials/b")
