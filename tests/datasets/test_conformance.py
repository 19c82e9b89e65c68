"""What every data set must keep to. A new one adds a line to `options`."""

import numpy as np
import pytest

from datasets import dataset_names, open_dataset
from datasets.faceset import content_fingerprint
from datasets.splits import split_fold


@pytest.fixture
def options(photographs):
    return {"folder": {"root": photographs}, "synthetic": {"subjects": 3, "per_class": 1}}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", dataset_names())
def test_every_data_set_keeps_the_contract(name, channels, options, tmp_path):
    def opened(cache):
        return open_dataset(name, image_size=16, channels=channels, cache=tmp_path / cache, **options[name])

    faces = opened("cache")
    count = len(faces)
    assert faces.name == name
    assert faces.images.shape == (count, 16, 16, channels)
    assert faces.images.dtype == np.uint8
    assert not faces.images.flags.writeable
    assert np.std(faces.images) > 0
    assert faces.labels.dtype == np.int64
    assert set(faces.labels) == set(range(len(faces.classes)))
    assert faces.subjects.shape == faces.sequences.shape == faces.official.shape == (count,)
    assert all(faces.subjects)
    assert all(faces.sequences)
    content = (faces.images, faces.labels, faces.subjects, faces.sequences, faces.official, faces.classes)
    assert (
        faces.fingerprint == content_fingerprint(*content) == opened("cache").fingerprint == opened("anew").fingerprint
    )
    assert len(split_fold(faces, fold=0, folds=3).test) == count // 3
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".arrow"]
