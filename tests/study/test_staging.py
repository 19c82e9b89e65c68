"""Faces are prepared once, shared in S3, and copied once to each machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError
from results import StoreError, StoreUnavailable, remote
from study import staging
from study.staging import COPY, home, open_faces
from tests.results.s3_server import Answer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LITTLE = {"name": "synthetic", "subjects": 4, "per_class": 1}


@pytest.fixture
def shared(s3, tmp_path, monkeypatch, request):
    """An address of its own in S3; the driver builds in a folder of the test's."""
    monkeypatch.setattr(staging, "BUILT", tmp_path / "built")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "driver"))
    return f"s3://bucket/faces-{request.node.name}"


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Turns this process into one of another machine, which has no pictures and may build nothing."""

    def turn(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

        def refused(*args, **kwargs):
            raise AssertionError("built again")

        monkeypatch.setattr(staging, "open_dataset", refused)

    return turn


def gets(s3, end):
    return sum(method == "GET" and path.endswith(end) for method, path, _ in s3.seen)


def test_a_folder_is_used_as_it_is(tmp_path):
    faces = open_faces(LITTLE, 16, 1, str(tmp_path))
    assert faces.path.parent == tmp_path


def test_faces_go_to_a_node_once(shared, s3, node):
    built = open_faces(LITTLE, 16, 1, shared)
    assert built.path.parent == staging.BUILT
    puts = [path for method, path, _ in s3.seen if method == "PUT"]
    assert puts[0].endswith(built.path.name)
    assert puts[1].endswith(COPY)
    open_faces(LITTLE, 16, 1, shared)
    again = [path for method, path, _ in s3.seen if method == "PUT" and path.endswith((".arrow", COPY))]
    assert again == puts[:2]
    s3.seen.clear()
    here = open_faces(LITTLE, 16, 1, shared, built.fingerprint)
    assert (here.path, s3.seen) == (built.path, [])  # the driver's own workers
    node("other")
    for _ in range(2):
        there = open_faces(LITTLE, 16, 1, shared, built.fingerprint)
        assert there.path.name == built.path.name
        assert there.path.read_bytes() == built.path.read_bytes()
    assert gets(s3, ".arrow") == 1
    assert oct(home().stat().st_mode & 0o777) == "0o700"


def test_a_damaged_copy_is_fetched_again(shared, s3, node):
    built = open_faces(LITTLE, 16, 1, shared)
    node("other")
    path = open_faces(LITTLE, 16, 1, shared, built.fingerprint).path
    whole = path.read_bytes()
    for damage in (whole[:100], whole[:-1] + b"x", b""):
        path.write_bytes(damage)
        os.utime(path, ns=(1, 1))
        assert open_faces(LITTLE, 16, 1, shared, built.fingerprint).path.read_bytes() == whole
    os.utime(path, ns=(2, 2))  # touched, and right
    s3.seen.clear()
    open_faces(LITTLE, 16, 1, shared, built.fingerprint)
    assert gets(s3, ".arrow") == 0


def test_a_copy_that_was_cut_off_goes_on(shared, s3, node, monkeypatch):
    monkeypatch.setattr(staging, "PART", 1000)
    monkeypatch.setattr(remote, "PATIENCE", 0.0)
    built = open_faces(LITTLE, 16, 1, shared)
    size = built.path.stat().st_size
    node("other")
    left = [5]

    def fault(method, path, headers):
        if not path.endswith(".arrow"):
            return None
        left[0] -= 1
        return None if left[0] >= 0 else Answer(503, "SlowDown")

    s3.fault = fault
    with pytest.raises(StoreUnavailable):
        open_faces(LITTLE, 16, 1, shared, built.fingerprint)
    [part] = (home() / built.fingerprint).glob("*.part")
    had = part.stat().st_size
    assert 0 < had <= 5000
    s3.fault = lambda *request: None
    s3.seen.clear()
    there = open_faces(LITTLE, 16, 1, shared, built.fingerprint)
    assert there.path.read_bytes() == built.path.read_bytes()
    assert gets(s3, ".arrow") == -(-(size - had) // 1000)


def test_what_is_damaged_in_s3_is_not_used(shared, node):
    built = open_faces(LITTLE, 16, 1, shared)
    node("other")
    there = remote.Remote(shared)
    name = f"{built.fingerprint}/{built.path.name}"
    there.put(name, bytes(built.path.stat().st_size))
    with pytest.raises(StoreError, match=r"SHA-256.*remove both"):
        open_faces(LITTLE, 16, 1, shared, built.fingerprint)
    assert not list((home() / built.fingerprint).glob("*.arrow"))
    note = f"{built.fingerprint}/{COPY}"
    there.put(note, b'{"file": "../../evil", "size": 1, "sha256": "' + b"0" * 64 + b'"}')
    with pytest.raises(DatasetError, match="expected the name of a file"):
        open_faces(LITTLE, 16, 1, shared, built.fingerprint)


def test_a_study_goes_on_where_the_pictures_are_not(shared, tmp_path, node):
    root = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for label in ("calm", "glad"):
        for subject in range(3):
            (root / label).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (20, 20), np.uint8)
            Image.fromarray(pixels).save(root / label / f"s{subject}_0.png")
    mine = {"name": "folder", "root": str(root)}
    built = open_faces(mine, 16, 1, shared)
    shutil.rmtree(root)
    node("new driver")
    assert open_faces(mine, 16, 1, shared).fingerprint == built.fingerprint


def test_of_many_workers_one_fetches(shared, s3, tmp_path):
    built = open_faces(LITTLE, 16, 1, shared)
    s3.seen.clear()
    code = "import sys; from study.staging import open_faces as f; print(f({'name': 'x'}, 16, 1, *sys.argv[1:]).path)"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "other"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, shared, built.fingerprint]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert [process.returncode for process in running] == [0] * 4
    assert gets(s3, ".arrow") == 1
