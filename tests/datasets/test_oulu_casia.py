"""What only Oulu-CASIA has: lights, cameras and two versions."""

import shutil
from collections import Counter

import pytest

from datasets import DatasetError
from datasets.oulu_casia import scan
from tests.datasets.miniatures import oulu_casia


@pytest.fixture
def root(tmp_path):
    oulu_casia.build(tmp_path, people=2)
    return tmp_path


@pytest.fixture
def sequence(root):
    return root / "OriginalImg" / "VL" / "Strong" / "P001" / "Anger"


def reasons(root, **options):
    return Counter(item.reason for item in scan(root, **options).left_out)


def test_the_last_frames_of_one_light_and_camera_are_taken(root, sequence):
    listing = scan(root)
    assert len(listing.faces) == 2 * 6 * 3
    assert [face.source.file.name for face in listing.faces[:3]] == ["001.jpeg", "002.jpeg", "003.jpeg"]
    assert listing.faces[0][1:4] == (0, "P001", "P001_anger")
    assert all(face.source.file.is_relative_to(sequence.parents[1]) for face in listing.faces)
    assert sum(listing.expected[""].values()) == 1440


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"light": "Weak"}, "OriginalImg/VL/Weak"),
        ({"light": "Dark", "camera": "NI"}, "OriginalImg/NI/Dark"),
        ({"version": "cropped"}, "PreProcess_Img/VL_Acropped/Strong"),
    ],
)
def test_another_light_camera_or_version_is_taken(options, part, root):
    listing = scan(root, **options)
    assert {face.source.file.relative_to(root / part).parts[0] for face in listing.faces} == {"P001"}
    # Nobody counted the others.
    assert bool(listing.expected) == (options == {"version": "cropped"})


def test_a_missing_light_is_told(root):
    with pytest.raises(
        DatasetError,
        match=r"^expected the folder Dark \(light=Dark\) in .*VL, found Strong, Weak; set dataset.root to the folder",
    ):
        scan(root, light="Dark")


def test_a_missing_version_is_told(root, sequence):
    shutil.rmtree(root / "PreProcess_Img")
    with pytest.raises(
        DatasetError, match=r"^expected the folder PreProcess_Img or .* \(version=cropped\) in .*, found OriginalImg;"
    ):
        scan(root, version="cropped")
    with pytest.raises(
        DatasetError,
        match=r"^expected the folder OriginalImg or B_OriginalImg \(version=original\) in .*VL, found Strong, Weak;",
    ):
        scan(sequence.parents[2])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"light": "strong"},
            "expected dataset.light to be one of Strong, Weak, Dark, found 'strong'; set one of them.",
        ),
        ({"camera": "IR"}, "expected dataset.camera to be one of VL, NI, found 'IR'; set one of them."),
        ({"version": None}, "expected dataset.version to be one of original, cropped, found None; set one of them."),
        ({"frames": -1}, "expected dataset.frames to be a whole number from 1 on, found -1; set one."),
    ],
)
def test_options_out_of_range_are_told(options, sentence, root):
    with pytest.raises(DatasetError) as caught:
        scan(root, **options)
    assert str(caught.value) == sentence


def test_frames_are_sorted_by_number(root, sequence):
    (sequence / "003.jpeg").rename(sequence / "1000.jpeg")
    assert [face.source.file.name for face in scan(root).faces[:3]] == ["001.jpeg", "002.jpeg", "1000.jpeg"]


def test_too_few_frames_leave_a_sequence_out(root, sequence):
    for number in (0, 1):
        (sequence / f"{number:03d}.jpeg").unlink()
    assert reasons(root) == {"fewer frames than asked for": 1}


def test_what_does_not_fit_is_told(root, sequence):
    shutil.copy(sequence / "000.jpeg", sequence / "000.jpg")
    shutil.copy(sequence / "000.jpeg", sequence / "000 - Copy.jpeg")
    (sequence.parent / "Neutral").mkdir()
    (sequence.parents[1] / "P081").mkdir()
    (sequence.parents[1] / "list.txt").touch()
    assert reasons(root) == {
        "two files of one frame": 1,
        "not named as a frame, 000.jpeg": 1,
        "not a folder of one of the six expressions": 1,
        "not a folder of a subject, P001 to P080": 2,
    }
    assert len(scan(root).faces) == 2 * 6 * 3


def test_two_folders_of_one_sequence_are_told(root, sequence):
    shutil.copytree(sequence, sequence.with_name("anger"))
    assert reasons(root) == {"two folders of one sequence": 1}
    assert len(scan(root).faces) == 2 * 6 * 3
