"""Writers and compactions killed by SIGKILL at random moments, beside one another and a reader that never stops."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from results import Store
from results.schema import TABLES
from tests.results.killing import NEVER

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 3  # rows of a part of members
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
        command = [sys.executable, "-m", "tests.results.killing", str(root)]
        killing = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
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
                "commit": ("commit", (key, attempt)),
                "write": ("write", ("members", key, rows)),
                "compact": ("compact", ()),
            }
            beginning = [(left, *works[action])] + ([(NEVER, *works[beside])] if beside else [])
            killing.stdin.write(json.dumps(beginning) + "\n")
            killing.stdin.flush()
            answer = killing.stdout.readline()
            assert answer, (tmp_path / "errors").read_text()
            dead, *others = json.loads(answer)
            deaths += dead
            assert not any(others)
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
        try:
            killing.communicate(timeout=120)
            out, _ = reader.communicate(timeout=120)
        finally:
            killing.kill()
            reader.kill()
    assert reader.returncode == 0, (tmp_path / "errors").read_text()
    assert int(out) > 1
    print(f"{deaths} died in {step} steps; the reader saw {int(out)} states")
    Store(root).compact()
    assert state(root) == (trials, members)
    assert Store(root).read("epochs", ["epoch"]).num_rows == sum(row[2] for row in trials.values())
    assert not [path for path in root.rglob("*") if path.name.endswith(".tmp") or path.parent.name in TABLES]
    named = {f for g in json.loads((root / "MANIFEST.json").read_text())["generations"] for f in g["files"].values()}
    assert {path.name for path in (root / "compact").iterdir()} == named
