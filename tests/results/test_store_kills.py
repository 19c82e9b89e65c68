"""Writers and compactions killed by SIGKILL at random moments, beside one another and a reader that never stops."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from results import Store
from results.schema import TABLES
from tests.results.crashing import OPERATIONS
from tests.results.fakes import fake_trial

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 3  # rows of a part of members
NEVER = 10**9
MANY = int(os.environ.get("KILLS", "100"))  # of the slow test; 1,000 take five minutes

# Reads until the file `stop` is there: every state that it sees must be whole.
READER = """
import collections, json, sys
from pathlib import Path
from results import Store
from results.schema import TABLES
root, stop = map(Path, sys.argv[1:])
done, states, store = set(), 0, Store(root)
while not stop.exists() or not states:
    if states % 7 == 6:
        store = Store(root)  # one that remembers nothing
    with store.snapshot(["trials", "epochs", "slices", "members"]) as now:
        rows = {t: now.rows(t, TABLES[t].schema).to_pylist() for t in ("trials", "epochs", "slices", "members")}
    trials = {row["trial_key"]: row for row in rows["trials"]}
    assert len(trials) == len(rows["trials"]), "a trial twice"
    epochs = collections.Counter(row["trial_key"] for row in rows["epochs"])
    assert epochs == {key: row["epochs"] for key, row in trials.items()}, "a trial with the rows of another attempt"
    assert len({(row["trial_key"], row["epoch"]) for row in rows["epochs"]}) == len(rows["epochs"]), "a row twice"
    slices = collections.Counter(row["trial_key"] for row in rows["slices"])
    assert slices == {key: 2 * row["epochs"] for key, row in trials.items()}
    parts = collections.Counter((row["study"], row["seed"]) for row in rows["members"])
    assert set(parts.values()) <= {WIDTH}, "half a part, or two of one name"
    assert len({study for study, _ in parts}) == len(parts), "two versions of a part"
    now_done = {key for key, row in trials.items() if row["status"] == "done"}
    assert done <= now_done, "a trial that was done vanished"
    done, states = now_done, states + 1
print(states)
""".replace("WIDTH", str(WIDTH))


class Killer:
    """In a process of its own: dies of SIGKILL at operation number `left`, a write being cut in half."""

    def __init__(self, left):
        self.left = left
        for name in OPERATIONS:
            setattr(Path, name, self._wrap(getattr(Path, name), name))
        os.fsync = self._wrap(lambda handle: None, "fsync")
        pq.ParquetWriter.write_table = self._wrap(pq.ParquetWriter.write_table, "write_table")

    def _wrap(self, original, name):
        def operation(*args, **kwargs):
            if self.left == 0:
                if name == "write_bytes":
                    original(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return original(*args, **kwargs)

        return operation


def begun(root, left, work):
    """Run `work` on the store in a child that dies at operation `left`, which is given."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            Killer(left)
            work(Store(root))
            status = 0
        finally:
            os._exit(status)
    return child


def died(child):
    """Wait for a child; whether it died."""
    for _ in range(3000):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
            return os.WIFSIGNALED(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("a child hangs")


def state(root):
    """Every trial by what tells its attempts apart, and the version of every part of members."""
    store = Store(root)
    columns = ["trial_key", "status", "epochs", "ended_at"]
    trials = {row["trial_key"]: tuple(row.values()) for row in store.read("trials", columns).to_pylist()}
    members = {row["study"]: row["seed"] for row in store.read("members").to_pylist()}
    return trials, members


@pytest.mark.parametrize(
    "kills", [40, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(300 + 4 * MANY)])]
)
def test_kills_at_random_moments_leave_whole_states(tmp_path, kills):
    rng = random.Random(kills)
    root, stop, deaths, step = tmp_path / "tables", tmp_path / "stop", 0, 0
    with Path(tmp_path / "errors").open("w") as errors:
        command = [sys.executable, "-c", READER, str(root), str(stop)]
        reader = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
    trials, members, older = {}, {}, {}  # older: what a compacted generation may still have of a trial
    try:
        while deaths < kills:
            step += 1
            action, beside = rng.choice(
                [("commit", "compact"), ("commit", None), ("write", "compact"), ("compact", "commit")]
            )
            left = rng.randrange(
                {"commit": 34, "write": 7, "compact": 70}[action]
            )  # about as many operations as each has
            key = f"k{rng.randrange(step // 4 + 3)}"
            status = rng.choice(["failed", "failed", "stopped", "done"])
            attempt = {"status": status, "ended": float(step), "epochs": rng.randrange(1, 4)}
            rows = [{"study": key, "seed": step, "index": i, "trial_key": "x"} for i in range(WIDTH)]
            works = {
                "commit": lambda s, k=key, a=attempt: s.commit(k, fake_trial(k, **a)),
                "write": lambda s, k=key, r=rows: s.write("members", k, r),
                "compact": lambda s: s.compact(),
            }
            children = [begun(root, left, works[action])]
            if beside:
                children.append(begun(root, NEVER, works[beside]))
            deaths += died(children[0])
            assert not any(map(died, children[1:]))
            commits = "commit" in (action, beside)
            now, parts = state(root)
            for name in {*trials, *now} - ({key} if commits else set()):
                assert now.get(name) == trials.get(name), (step, action, name)
            for name in {*members, *parts} - ({key} if action == "write" else set()):
                assert parts.get(name) == members.get(name), (step, action, name)
            assert key in now or beside != "commit", "a commit that was not killed is there"
            if commits and now.get(key) != trials.get(key):
                # The new attempt, whole; or, where the old one was not done, perhaps neither (see test_store_crashes).
                new = None if key not in now else (now[key][1], now[key][2])
                allowed = [(status, attempt["epochs"])]
                earlier = trials.get(key)
                if earlier is not None and earlier[1] != "done":
                    allowed += [None, *older.get(key, [])]
                assert new in allowed, (step, new, allowed)
            if key in now:
                older.setdefault(key, []).append(now[key][1:3])
            trials, members = now, parts
            assert reader.poll() is None, (tmp_path / "errors").read_text()
    finally:
        stop.touch()
        out, _ = reader.communicate(timeout=120)
    assert reader.returncode == 0, (tmp_path / "errors").read_text()
    assert int(out) > 1
    print(f"{deaths} died in {step} steps; the reader saw {int(out)} states")
    Store(root).compact()
    assert state(root) == (trials, members)
    assert Store(root).read("epochs", ["epoch"]).num_rows == sum(row[2] for row in trials.values())
    assert not [path for path in root.rglob("*") if path.name.endswith(".tmp") or path.parent.name in TABLES]
    named = {f for g in json.loads((root / "MANIFEST.json").read_text())["generations"] for f in g["files"].values()}
    assert {path.name for path in (root / "compact").iterdir()} == named
