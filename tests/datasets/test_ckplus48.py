"""What only CK+48 has: class folders that share the names of CK+."""

import shutil
from collections import Counter

import pytest

from datasets import DatasetError
from datasets.ckplus48 import CARD, scan
from tests.datasets.miniatures import ckplus48


@pytest.fixture
def root(tmp_path):
    ckplus48.build(tmp_path, people=2)
    return tmp_path


def reasons(root):
    return Counter(item.reason for item in scan(root).left_out)


def test_classes_are_those_of_ckplus_and_sequences_whole(root):
    listing = scan(root)
    assert (
        listing.classes == CARD.classes == ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
    )
    assert set(Counter(face.sequence for face in listing.faces).values()) == {3}
    assert listing.faces[0][1:4] == (0, "S005", "S005_001")
    # Counted in the public copy [D].
    assert listing.expected[""] == {
        "anger": 135, "contempt": 54, "disgust": 177, "fear": 75, "happiness": 207, "sadness": 84, "surprise": 249,
    }  # fmt: skip


def test_a_missing_class_is_told(root):
    shutil.rmtree(root / "happy")
    with pytest.raises(
        DatasetError, match=r"^expected a folder for each of anger, .* found none for happiness but .*; unpack"
    ):
        scan(root)


def test_two_folders_of_one_class_are_told(root):
    shutil.copytree(root / "happy", root / "Happiness")
    with pytest.raises(
        DatasetError, match=r"^expected one folder for happiness in .*, found Happiness and happy; keep one\.$"
    ):
        scan(root)


def test_a_folder_of_no_class_is_told(root):
    (root / "neutral").mkdir()
    assert reasons(root) == {"not a folder of one of the classes": 1}


def test_names_that_do_not_fit_are_told(root):
    image = root / "fear" / "S005_004_00000012.png"
    for name in ("S005_004_00000012 (1).png", "S05_004_00000012.png", "face.png"):
        shutil.copy(image, image.with_name(name))
    assert reasons(root) == {"not named S000_000_00000000": 3}


def test_a_sequence_in_two_classes_is_left_out_whole(root):
    image = root / "fear" / "S005_004_00000012.png"
    shutil.copy(image, root / "anger" / image.name)
    assert reasons(root) == {"sequence in two class folders": 4}
    assert len(scan(root).faces) == 2 * 7 * 3 - 3


def test_of_two_files_of_a_frame_one_is_taken(root):
    image = root / "fear" / "S005_004_00000012.png"
    shutil.copy(image, image.with_suffix(".jpg"))
    assert reasons(root) == {"two files of one frame": 1}
    assert len(scan(root).faces) == 2 * 7 * 3


def test_no_image_is_told(tmp_path):
    for word in ckplus48.FOLDERS:
        (tmp_path / word).mkdir()
    with pytest.raises(
        DatasetError, match=r"^expected labelled images of CK\+48 in .*, found none \(0 left out\); check dataset.root"
    ):
        scan(tmp_path)
