"""Files of strangers run no code: pickles stand where archives, checkpoints, weights, faces and clusters are read from."""

import hashlib
import io
import pickle
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from datasets import DatasetError, FaceSet
from mdml import MethodError
from mdml.hng import features
from mdml.models import build_trunk
from results import Store, StoreError
from results.archive import MANIFEST, import_study
from study import cluster_file
from study.checkpoint import SUFFIX, Checkpoints
from study.errors import StudyError


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


@pytest.fixture(params=["pickle", "torch.save"])
def loaded(request, mark):
    """The bytes of a file that leaves the mark where it is unpickled."""
    file = io.BytesIO()
    (pickle.dump if request.param == "pickle" else torch.save)({"trunk.weight": Bomb(mark)}, file)
    return file.getvalue()


def checkpoint(path, data, mark):
    place = Checkpoints(str(path.parent))
    (path.parent / f"key{SUFFIX}").write_bytes(hashlib.sha256(data).digest() + data)
    assert place.load({"trial_key": "key"}) is None
    raise StudyError("refused")


def archive(path, data, mark):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(MANIFEST, data)
        file.writestr("trials.parquet", data)
    import_study(Store(path.parent / "store"), path)


def weights(path, data, mark):
    path.write_bytes(data)
    build_trunk("resnet18", 3, str(path), seed=0)


def generator(path, data, mark):
    path.write_bytes(data)
    features._read_vgg(str(path))


def faces(path, data, mark):
    path.write_bytes(data)
    FaceSet.open(path)


def disguised_faces(path, data, mark):
    """An Arrow file whose column asks to be unpickled, as PyArrow did of old."""
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": data}
    schema = pa.schema([pa.field("image", pa.int64(), metadata=metadata)])
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(pa.record_batch([pa.array([1])], schema=schema))
    FaceSet.open(path)


def cluster(path, data, mark):
    path.write_text(
        f"provider: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]\n"
    )
    cluster_file.read(path)


@pytest.mark.parametrize("read", [checkpoint, archive, weights, generator, faces, disguised_faces, cluster])
def test_a_strangers_file_is_refused_and_runs_nothing(read, tmp_path, loaded, mark):
    with pytest.raises((StudyError, StoreError, MethodError, DatasetError)):
        read(tmp_path / "file", loaded, mark)
    assert not mark.exists()


def test_unpickled_they_would_have_run(loaded, mark):
    """That these files are what they are said to be."""
    torch.load(io.BytesIO(loaded), weights_only=False) if zipfile.is_zipfile(io.BytesIO(loaded)) else pickle.loads(
        loaded
    )
    assert mark.exists()
