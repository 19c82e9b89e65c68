"""What only BU-3DFE has: levels, and scans beside the textures."""

import shutil
from collections import Counter

import pytest

from datasets import DatasetError
from datasets.bu3dfe import scan
from tests.datasets.miniatures import bu3dfe


@pytest.fixture
def root(tmp_path):
    bu3dfe.build(tmp_path, people=2)
    return tmp_path


@pytest.fixture
def image(root):
    return root / "F0001" / "F0001_AN01WH_F2D.bmp"


def reasons(root):
    return Counter(item.reason for item in scan(root).left_out)


def test_names_are_read(root):
    faces = {face.source.file.name: face for face in scan(root).faces}
    assert faces["F0001_AN03WH_F2D.bmp"][1:4] == (1, "F0001", "F0001_AN03")
    assert not any("RAW" in name for name in faces)


@pytest.mark.parametrize("least", [1, 2, 3, 4])
def test_levels_below_the_least_are_left_out_and_neutral_stays(least, root):
    listing = scan(root, min_level=least)
    counts = Counter(listing.classes[face.label] for face in listing.faces)
    assert counts == {word: 2 if word == "neutral" else 2 * (5 - least) for word in listing.classes}
    assert listing.expected[""] == {word: 50 * count for word, count in counts.items()}
    assert Counter(item.reason for item in listing.left_out)["level below min_level"] == 2 * 6 * (least - 1)


@pytest.mark.parametrize("least", [0, 5, "1", True, None])
def test_a_level_out_of_range_is_told(least, root):
    with pytest.raises(DatasetError) as caught:
        scan(root, min_level=least)
    assert str(caught.value) == f"expected dataset.min_level to be one of 1, 2, 3, 4, found {least!r}; set one of them."


@pytest.mark.parametrize(
    "name",
    ["F0057_AN01WH_F2D.bmp", "F0001_AN00WH_F2D.bmp", "F0001_NE01WH_F2D.bmp", "F0001_AN05WH_F2D.bmp", "F0001_XX01WH_F2D.bmp",
     "F0001_AN01WH_F3D.png", "F0001_AN01WH_F2D - Copy.bmp", "front.png"],
)  # fmt: skip
def test_names_that_do_not_fit_are_told(name, root, image):
    shutil.copy(image, image.with_name(name))
    assert reasons(root) == {"not named as F0001_AN01WH_F2D": 1}
    assert len(scan(root).faces) == 50


def test_a_texture_in_the_folder_of_another_subject_is_told(root, image):
    image.rename(root / "M0001" / image.name)
    assert reasons(root) == {"in the folder of another subject": 1}


def test_of_two_textures_of_a_scan_one_is_taken(root, image):
    shutil.copy(image, image.with_suffix(".png"))
    (root / "all").mkdir()
    shutil.copy(image, root / "all" / image.name)
    assert reasons(root) == {"two files of one scan": 2}
    assert len(scan(root).faces) == 50


def test_scans_without_textures_are_told(tmp_path):
    (tmp_path / "F0001").mkdir()
    (tmp_path / "F0001" / "F0001_AN01WH_F3D.wrl").touch()
    with pytest.raises(
        DatasetError, match=r"^expected labelled images of BU-3DFE in .*, found none \(0 left out\); check dataset.root"
    ):
        scan(tmp_path)


def test_a_link_out_of_the_root_is_refused(root, image, tmp_path_factory):
    away = tmp_path_factory.mktemp("away")
    (root / "F0002").symlink_to(away)
    with pytest.raises(
        DatasetError, match=r"^expected everything within .*, found that .*F0002 is a link to .*; put a copy"
    ):
        scan(root)
