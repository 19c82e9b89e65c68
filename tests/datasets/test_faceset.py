import copy
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datasets import DatasetError, FaceSet, write_faceset
from datasets.faceset import content_fingerprint


def content(**changes):
    images = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3, 1)
    fields = {
        "name": "tiny",
        "images": images,
        "labels": [0, 1, 0, 1],
        "subjects": ["a", "a", "b", "b"],
        "sequences": ["1", "2", "3", "4"],
        "classes": ["happy", "sad"],
        "official": ["train", "train", "test", "test"],
    }
    return {**fields, **changes}


def written(folder, **changes):
    return FaceSet.open(write_faceset(folder / "set.arrow", **content(**changes)))


def test_what_is_written_is_read(tmp_path):
    faces = written(tmp_path)
    assert np.array_equal(faces.images, content()["images"])
    assert faces.images.dtype == np.uint8
    assert faces.labels.dtype == np.int64
    assert faces.labels.tolist() == [0, 1, 0, 1]
    assert faces.subjects.tolist() == ["a", "a", "b", "b"]
    assert faces.sequences.tolist() == ["1", "2", "3", "4"]
    assert faces.official.tolist() == ["train", "train", "test", "test"]
    assert (faces.name, faces.classes, len(faces)) == ("tiny", ("happy", "sad"), 4)
    assert [path.name for path in tmp_path.iterdir()] == ["set.arrow"]


def test_images_are_mapped_not_copied_and_read_only(tmp_path):
    images = np.zeros((64, 128, 128, 3), np.uint8)
    labels = np.arange(64) % 2
    before = pa.total_allocated_bytes()
    people = labels.astype(str)
    faces = written(
        tmp_path, images=images, labels=labels, subjects=people, sequences=people, official=None, classes=["x", "y"]
    )
    assert pa.total_allocated_bytes() - before < images.nbytes // 100
    assert not faces.images.flags.owndata
    assert not faces.images.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        faces.images[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        faces.images.flags.writeable = True


def test_pickle_carries_the_path_alone(tmp_path):
    faces = written(tmp_path)
    data = pickle.dumps(faces)
    assert len(data) < 400
    assert np.array_equal(pickle.loads(data).images, faces.images)


def test_fingerprint_is_of_the_content_and_not_of_name_or_place(tmp_path):
    assert written(tmp_path).fingerprint == written(tmp_path / "elsewhere", name="other").fingerprint


def changed_pixel():
    images = content()["images"].copy()
    images[3, 2, 2, 0] += 1
    return images


@pytest.mark.parametrize(
    "change",
    [
        {"images": changed_pixel()},
        {"images": content()["images"].reshape(4, 9, 1, 1)},
        {"labels": [0, 1, 1, 0]},
        {"subjects": ["a", "a", "b", "c"]},
        {"subjects": ["a", "aa", "b", "b"]},
        {"sequences": ["1", "2", "3", "5"]},
        {"official": None},
        {"classes": ["happy", "angry"]},
    ],
)
def test_fingerprint_tells_any_change(tmp_path, change):
    assert written(tmp_path).fingerprint != written(tmp_path, **change).fingerprint


def test_the_same_content_gives_the_same_bytes(tmp_path):
    first, second = (write_faceset(tmp_path / name, **content()).read_bytes() for name in ("a.arrow", "b.arrow"))
    assert first == second


def test_the_bytes_are_those_that_pyarrow_gives(tmp_path):
    faces = written(tmp_path, subjects=["a", "", "ü", "日本"], labels=np.array([0, 9, 1, 9, 0, 9, 1, 9])[::2])
    columns = {
        "image": pa.array([image.tobytes() for image in faces.images], pa.binary(9)),
        "label": pa.array([0, 1, 0, 1]),
        "subject": pa.array(["a", "", "ü", "日本"]),
        "sequence": pa.array(["1", "2", "3", "4"]),
        "official": pa.array(["train", "train", "test", "test"]),
    }
    with pa.memory_map(str(faces.path)) as source:
        found = pa.ipc.open_file(source).schema.metadata
    batch = pa.record_batch(list(columns.values()), names=list(columns)).replace_schema_metadata(found)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    assert sink.getvalue().to_pybytes() == faces.path.read_bytes()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_named(tmp_path, part):
    path = write_faceset(tmp_path / "set.arrow", **content())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(DatasetError, match=r"expected a whole face set.*set\.arrow.*delete the file"):
        FaceSet.open(path)


@pytest.mark.parametrize("label", [-1, 2, 2**62])
def test_labels_of_no_class_are_told(tmp_path, label):
    """As of a file in which a disk has turned a bit: labels are used as indices."""
    path = write_faceset(tmp_path / "set.arrow", **content())
    good = np.array([0, 1, 0, 1], "<i8")
    bad = np.array([0, label, 0, 1], "<i8")
    data = path.read_bytes()
    assert data.count(good.tobytes()) == 1
    path.write_bytes(data.replace(good.tobytes(), bad.tobytes()))
    with pytest.raises(
        DatasetError, match=rf"set\.arrow, but its labels are {bad.min()}\.\.{bad.max()}, of 2 classes; delete"
    ):
        FaceSet.open(path)


def test_foreign_and_missing_files_are_named(tmp_path):
    foreign = tmp_path / "foreign.arrow"
    table = pa.table({"x": [1, 2]})
    with pa.OSFile(str(foreign), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    for path in (foreign, tmp_path / "missing.arrow", tmp_path, Path(__file__)):
        with pytest.raises(DatasetError, match="expected a whole face set") as caught:
            FaceSet.open(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((4, 3, 3), np.uint8)}, "uint8 (N, H, W, 1 or 3)"),
        ({"images": np.zeros((4, 3, 3, 1), np.float32)}, "found float32"),
        ({"labels": [0, 1, 0]}, "[4, 3, 4, 4, 4]"),
        ({"labels": [0, 1, 0, 2]}, "labels 0..2"),
        ({"labels": [0, 1, 0, -1]}, "labels -1..1"),
        ({"classes": ["happy", "happy"]}, "distinct class names"),
        ({"official": ["train", "train", "test", "exam"]}, "found exam"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_before_writing(tmp_path, change, words):
    with pytest.raises(DatasetError) as caught:
        write_faceset(tmp_path / "set.arrow", **content(**change))
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DatasetError, match="expected a folder that can be written to"):
        write_faceset(blocked / "set.arrow", **content())

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DatasetError, match="No space left on device"):
        write_faceset(tmp_path / "cache" / "set.arrow", **content())
    assert list((tmp_path / "cache").iterdir()) == []


def test_names_are_read_when_they_are_asked_for(tmp_path):
    faces = written(tmp_path)
    assert not {"subjects", "sequences", "official"} & set(faces.__dict__)
    first = faces.subjects
    assert first.dtype.kind == "U"
    assert faces.subjects is first
    assert replace(faces, labels=faces.labels[::-1]).subjects.tolist() == first.tolist()
    assert copy.copy(faces).sequences.tolist() == ["1", "2", "3", "4"]
    with pytest.raises(AttributeError, match="'FaceSet' object has no attribute 'subject'"):
        _ = faces.subject


def test_a_file_of_the_first_version_opens():
    """Written when FaceSet had read everything at once."""
    faces = FaceSet.open(Path(__file__).parent / "assets" / "faceset-1.arrow")
    assert faces.images.ravel().tolist() == list(range(36))
    assert (faces.labels.tolist(), faces.classes, faces.name) == ([0, 1, 0, 1], ("happy", "sad"), "tiny")
    assert faces.subjects.tolist() == ["a", "a", "b", "ü"]
    assert faces.sequences.tolist() == ["1", "2", "3", "4"]
    assert faces.official.tolist() == ["train", "train", "test", "test"]
    content = (faces.images, faces.labels, faces.subjects, faces.sequences, faces.official, faces.classes)
    assert faces.fingerprint == content_fingerprint(*content)
    assert faces.fingerprint == "1f23ecaec0ca9c4d5978e3597c4f8deb904f0dc4358909a96ac5ac71cadad0dd"


OPEN = """
import sys, time
from pathlib import Path
from datasets import FaceSet
def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
before, start = memory(), time.perf_counter()
faces = FaceSet.open(sys.argv[1])
print(time.perf_counter() - start, memory() - before, len(faces), "pandas" in sys.modules)
"""


def test_opening_does_not_read_the_file(tmp_path):
    count = 200_000
    names = [f"somebody/with/a/long/name/{number}" for number in range(count)]
    path = write_faceset(
        tmp_path / "large.arrow",
        name="large",
        images=np.zeros((count, 16, 16, 1), np.uint8),
        labels=np.arange(count) % 2,
        subjects=names,
        sequences=names,
        classes=["x", "y"],
    )
    command = [sys.executable, "-c", OPEN, str(path)]
    project = Path(__file__).parents[2]
    seconds, grown, found, pandas = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=project
    ).stdout.split()
    assert float(seconds) < 0.5
    assert int(grown) < 10 * 2**20
    assert (int(found), pandas) == (count, "False")
