"""What only JAFFE has: everything is told by the name, and copies differ in where the files lie."""

import shutil
from collections import Counter

import pytest

from datasets import DatasetError
from datasets.jaffe import CARD, scan
from tests.datasets.miniatures import jaffe


@pytest.fixture
def root(tmp_path):
    jaffe.build(tmp_path, people=2)
    return tmp_path


@pytest.fixture
def image(root):
    return root / "jaffe" / "KA.NE1.1.tiff"


def reasons(root):
    return Counter(item.reason for item in scan(root).left_out)


def test_names_are_read(root):
    faces = {face.source.file.name: face for face in scan(root).faces}
    assert faces["KA.AN2.4.tiff"][1:4] == (1, "KA", "KA.AN2.4")
    assert scan(root).expected[""] == {
        "neutral": 30, "anger": 30, "disgust": 29, "fear": 32, "happiness": 31, "sadness": 31, "surprise": 30,
    }  # fmt: skip
    assert sum(scan(root).expected[""].values()) == CARD.images == 213


@pytest.mark.parametrize("name", ["ka.ne9.1.TIFF", "KA.NE9.tiff", "KA.NE9.300.tiff.bmp", "KA.NE9.300.tif.jpg"])
def test_other_spellings_are_read(name, root, image):
    shutil.copy(image, image.with_name(name))
    assert len(scan(root).faces) == 2 * 14 + 1
    assert not reasons(root)


@pytest.mark.parametrize(
    "name",
    ["XX.NE1.1.tiff", "KA.XX1.1.tiff", "KA.NE.1.tiff", "KA-NE1-1.tiff", "KA.NE1.1 (1).tiff", "cropped_KA.NE1.1.tiff"],
)
def test_names_that_do_not_fit_are_told(name, root, image):
    shutil.copy(image, image.with_name(name))
    assert reasons(root) == {"not named as KA.AN1.39.tiff": 1}
    assert len(scan(root).faces) == 2 * 14


@pytest.mark.parametrize(
    "name", ["sorted/NEUTRAL/KA.NE1.1.tiff", "jaffe/KA.NE1.1.tif", "jaffe/KA.NE1.tiff", "a/KA.NE1.tiff"]
)
def test_of_two_files_of_a_name_one_is_taken(name, root, image):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(image, root / name)
    assert reasons(root) == {"two files of one name": 1}
    assert len(scan(root).faces) == 2 * 14


def test_no_image_is_told(tmp_path):
    (tmp_path / "README.txt").touch()
    with pytest.raises(
        DatasetError, match=r"^expected labelled images of JAFFE in .*, found none \(0 left out\); check dataset.root"
    ):
        scan(tmp_path)


def test_an_archive_is_told(tmp_path):
    (tmp_path / "jaffedbase.zip").touch()
    with pytest.raises(
        DatasetError, match=r"^expected the folder of JAFFE at .*, found a file; unpack it and name the folder"
    ):
        scan(tmp_path / "jaffedbase.zip")


def test_no_root_is_told():
    with pytest.raises(
        DatasetError, match=r"^expected the folder of JAFFE \(.*\), found none; set dataset.root=PATH\.$"
    ):
        scan(None)
