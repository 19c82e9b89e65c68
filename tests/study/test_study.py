"""Whole studies through Ray, from the command line to the table."""

import contextlib
import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from results import Store
from tests.study import working

ROOT = Path(__file__).resolve().parents[2]
VOLATILE = {*working.MEASURED, "git_commit", "git_dirty"}


def numbers(project, besides=()):
    """Every committed number of a store that is no time, place or memory, by table, without the columns `besides`."""
    rows = {}
    for table in ("trials", "epochs", "slices", "confusion", "predictions"):
        found = project.read(table)
        rows[table] = sorted(
            json.dumps(
                {name: row[name] for name in row if name not in VOLATILE.union(besides)}, sort_keys=True, default=str
            )
            for row in found
        )
    return rows


def committed(project):
    """Number of trials in the store, whole or not yet there."""
    return len(list(project.tables.glob("parts/trials/*.parquet")))


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def command_of(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def descendants(pid):
    """All processes below one: Ray's own are children of the driver that started it."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {pid}


def training(driver):
    """Processes of a driver's Ray in which a trial is being trained."""
    return [pid for pid in descendants(driver) if command_of(pid).startswith("ray::ResourceTrainable.train")]


def listeners(pids):
    """Addresses on which these processes accept TCP connections, from /proc."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(str(entry.readlink()))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state, inode = (line.split()[column] for column in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in sockets:
                words = bytes.fromhex(local.partition(":")[0])
                address = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
                parsed = ipaddress.ip_address(address)
                found.add(str(getattr(parsed, "ipv4_mapped", None) or parsed))
    return found


def query(project, *arguments):
    command = [sys.executable, str(ROOT / "results" / "query.py"), *arguments, f"storage.root={project.tables}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_an_ablation_from_the_command_line_to_the_table(project):
    done = project.run("--ablation", "loss_form", *project.tiny, "cluster.workers=null")
    last = done.out.strip().splitlines()[-1]
    found = re.fullmatch(r"study (loss_form-synthetic-[0-9a-f]{8}): 20 trials, 20 new, best (0\.\d{4})", last)
    assert found, last
    name = found[1]
    rows = project.read("trials")
    assert len(rows) == 20
    assert {row["status"] for row in rows} == {"done"}
    assert len({row["trial_key"] for row in rows}) == 20
    for row in rows:
        assert json.loads(row["config"])["fold"] == row["fold"]
        assert len(row["data_fingerprint"]) == 64
        assert "torch" in json.loads(row["versions"])
    assert len(project.read("audits")) == 20
    session = Path(ray._common.utils.get_default_ray_temp_dir()).glob(f"session_*_{done.pid}/artifacts/**/*")
    assert len([path for path in session if path.is_file()]) < 10, "Tune leaves files of every trial behind"
    reports = project.tables / "reports" / name
    assert {"table.md", "curves.png", "comparison.png"} <= {file.name for file in reports.iterdir()}

    again = project.run("--ablation", "loss_form", *project.tiny)
    assert again.out.strip().splitlines()[-1] == last.replace("20 new", "0 new")
    assert "Nothing was trained" in again.out
    table = (reports / "table.md").read_text()
    assert table.strip() == query(project, "--table", "loss_form", "--format", "md").strip()
    assert all(row["arm"] in table for row in rows)

    planned = project.run("--ablation", "loss_form", "--dry-run", "seeds=2", *project.tiny)
    assert re.search(r"mul_dml-7-dual\W+mul_dml\W+4\W+2\W+2\W", planned.out)

    rerun = project.run("--rerun", rows[0]["trial_key"], *project.places)
    assert "All metrics are equal" in rerun.out
    assert len(project.read("trials")) == 20


def test_failed_trials_are_rows_and_the_status_says_so(project):
    failed = project.run("method=triplet", "learning_rate=1e30", *project.tiny, status=1)
    assert "not finite" in failed.out
    assert re.search(r"2 trials, 0 new, best none$", failed.out.strip())
    assert {row["status"] for row in project.read("trials")} == {"failed"}


@pytest.mark.slow
def test_what_other_source_made_is_named_and_trained_again_when_asked(project):
    study = ["method=triplet", *project.tiny]
    project.run(*study)
    rows = project.read("trials")
    older = Store(project.tables)
    for row in rows:
        curve = [epoch for epoch in project.read("epochs") if epoch["trial_key"] == row["trial_key"]]
        older.commit(
            row["trial_key"], {"trials": [row | {"source_hash": "of another day", "retrained": 1}], "epochs": curve}
        )
    told = project.run(*study)
    assert "2 of the trials" in told.out
    assert "--retrain" in told.out
    assert {row["source_hash"] for row in project.read("trials")} == {"of another day"}
    again = project.run(*study, "--retrain")
    assert re.search(r"2 trials, 2 new", again.out)
    assert [row["retrained"] for row in project.read("trials")] == [2, 2]
    assert {row["source_hash"] for row in project.read("trials")} == {row["source_hash"] for row in rows}
    planned = project.run(*study, "--dry-run").out
    assert "2 of the trials" not in planned
    assert "--retrain" not in planned


@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed(project, tiny_config, tmp_path):
    study = ["method=triplet", "seeds=3", *project.tiny]
    process = project.start(*study, "study=mine", start_new_session=True)
    wait_for(lambda: committed(project) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    survived = committed(project)
    assert survived < 6, "the study was over before it was killed"
    resumed = project.run("--resume", "mine", *project.places)
    assert re.search(r"study mine: 6 trials, \d new, best", resumed.out)
    rows = project.read("trials")
    assert len(rows) == len({row["trial_key"] for row in rows}) == 6

    undisturbed = type(project)(tmp_path / "undisturbed")
    working.undisturbed(tiny_config(*study, "study=mine"), undisturbed.tables)
    assert numbers(project, {"gpu_share"}) == numbers(undisturbed, {"gpu_share"})


@pytest.mark.slow
def test_a_search_in_two_parts_equals_one_and_stops_early(project, tmp_path):
    study = [
        "--search",
        *project.tiny,
        "epochs=4",
        "search.grace=1",
        "search.reduction=2",
        "cluster.workers=1",
        "dataset.per_class=2",
    ]
    project.run(*study, "search.trials=5")
    project.run(*study, "search.trials=10")
    whole = type(project)(tmp_path / "whole")
    whole.folder.mkdir()
    one = [word for word in study if word not in project.places]
    done = whole.run(*one, *whole.places, "search.trials=10")
    assert re.search(r"10 trials, 10 new, best 0\.", done.out)
    assert numbers(project) == numbers(whole)
    parameters = [
        sorted((row["index"], row["parameters"]) for row in each.read("members")) for each in (project, whole)
    ]
    assert parameters[0] == parameters[1]
    rows = project.read("trials")
    stopped = [row for row in rows if row["status"] == "stopped"]
    assert stopped, "ASHA stopped none of ten"
    assert all(row["epochs"] < row["epochs_planned"] == 4 for row in stopped)
    assert all(row["test_accuracy"] is None for row in rows)
    assert project.read("audits") == []


@pytest.mark.slow
def test_only_loopback_listens_nobody_else_reads_and_a_killed_worker_costs_nothing(project):
    study = ["method=triplet", "seeds=2", "cluster.workers=1", *project.tiny, "epochs=20", "checkpoint.every=1"]
    process = project.start(*study)
    wait_for(lambda: committed(project) >= 1)
    wait_for(lambda: training(process.pid) and list(project.tables.glob("checkpoints/*.checkpoint")))
    addresses = listeners({process.pid} | descendants(process.pid))
    assert addresses
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses), addresses
    victims = []
    wait_for(lambda: victims.extend(training(process.pid)) or victims)  # between two steps it is called idle
    os.kill(victims[0], signal.SIGKILL)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, out + err
    rows = project.read("trials")
    assert [row["status"] for row in rows] == ["done"] * 4
    [resumed] = [row for row in rows if row["resumed_epochs"]]
    assert "All metrics are equal" in project.run("--rerun", resumed["trial_key"], *project.places).out
    assert not list((project.tables / "checkpoints").iterdir())
    assert project.tables.stat().st_mode & 0o007 == 0
    assert not [path for path in project.folder.rglob("*") if path.stat().st_mode & 0o007]


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_says_how_to_resume(project, by):
    process = project.start("method=triplet", "seeds=3", "study=mine", *project.tiny)
    wait_for(lambda: committed(project) >= 1)
    process.send_signal(by)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "--resume mine" in err
    assert "Traceback" not in err
    assert len(project.read("trials")) >= 1
