"""What only CK+ has: the frame that a label names, classes that come and go, landmarks, and label files that are wrong."""

import shutil
from collections import Counter

import numpy as np
import pytest

from datasets import DatasetError
from datasets.ckplus import CARD, read_landmarks, scan
from tests.datasets.miniatures import ckplus

ANGER = "S005/001/S005_001"  # frames 1, 2, 4, 5, 6
CONTEMPT = "S005/002/S005_002"  # frames 1, 2, 3, 4


@pytest.fixture(params=[0, 1])
def root(request, tmp_path):
    ckplus.build(tmp_path, people=1, spelling=request.param)
    return tmp_path


def place(root, part, name):
    """A file of the miniature, whatever its spelling: `part` is "images", "Emotion" or "Landmarks"."""
    suffix = {"images": ".png", "Emotion": "_emotion.txt", "Landmarks": "_landmarks.txt"}[part]
    folder = "cohn-kanade-images" if part == "images" else part
    return next(path for path in root.rglob(f"{folder}/{name}*{suffix}"))


def reasons(root, **options):
    return Counter(item.reason for item in scan(root, **options).left_out)


def names(listing, sequence="S005_001"):
    return [face.source.file.name for face in listing.faces if face.sequence == sequence]


def test_the_last_frames_are_taken_by_order_where_numbers_have_gaps(root):
    assert names(scan(root)) == [f"S005_001_{number:08d}.png" for number in (4, 5, 6)]
    assert names(scan(root, frames=4)) == [f"S005_001_{number:08d}.png" for number in (2, 4, 5, 6)]


def test_eight_classes_add_the_first_frame_of_each_labelled_sequence(root):
    listing = scan(root, classes=8)
    assert listing.classes == ("neutral", *CARD.classes)
    neutral = [face for face in listing.faces if face.label == 0]
    assert {face.sequence for face in neutral} == {f"S005_{take:03d}" for take in range(1, 8)}
    assert {int(face.source.file.stem[-8:]) for face in neutral} == {1}
    assert len(listing.faces) == 7 * 4
    # [R]: 1308 images with neutral.
    assert sum(listing.expected[""].values()) == 1308
    assert listing.expected[""]["neutral"] == 327


def test_six_classes_leave_contempt_out(root):
    listing = scan(root, classes=6)
    assert listing.classes == tuple(word for word in CARD.classes if word != "contempt")
    assert {listing.classes[face.label] for face in listing.faces} == set(listing.classes)
    assert reasons(root, classes=6) == {"contempt, not among the 6 classes": 1, "unlabelled sequence": 1}


def test_labels_follow_the_official_ids(root):
    labels = {face.sequence: face.label for face in scan(root).faces}
    assert labels == {f"S005_{official:03d}": official - 1 for official in range(1, 8)}


def test_landmarks_are_read_on_demand(root):
    listing = scan(root)
    points = listing.faces[0].source.points()
    np.testing.assert_allclose(points, ckplus.points(), rtol=1e-6)
    assert points.shape == (68, 2)
    assert sum("landmarks" in file.name for file in listing.files) == len(listing.faces)


def test_a_folder_in_place_of_landmarks_is_none(root):
    points = place(root, "Landmarks", f"{ANGER}_00000006")
    points.unlink()
    points.mkdir()
    assert [face.source.points is None for face in scan(root).faces[:3]] == [False, False, True]


def test_without_landmarks_there_are_none(root):
    shutil.rmtree(next(root.rglob("Landmarks")))
    assert all(face.source.points is None for face in scan(root).faces)


@pytest.mark.parametrize("text", ["", "1 2\n" * 67, "1 2 3\n" * 68, "1 two\n" * 68, "1 nan\n" * 68, "1 2\n3\n"])
def test_wrong_landmarks_are_told(text, tmp_path):
    file = tmp_path / "points.txt"
    file.write_text(text)
    with pytest.raises(
        DatasetError, match=r"^expected 68 lines of x and y in .*points.txt, .*; take the released file\.$"
    ):
        read_landmarks(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "label file is empty"),
        (b" \r\n", "label file is empty"),
        (b"disgust\n", "label is not a number"),
        (b"\xff\xfe\x00", "label is not a number"),
        (b"3.0 1.0\n", "label is not a number"),
        (b"   0.0000000e+00\n", "label is none of 1 to 7"),
        (b"   8.0000000e+00\n", "label is none of 1 to 7"),
        (b"2.5\n", "label is none of 1 to 7"),
        (b"nan\n", "label is none of 1 to 7"),
    ],
)
def test_a_wrong_label_leaves_its_sequence_out(content, reason, root):
    place(root, "Emotion", ANGER).write_bytes(content)
    assert reasons(root) == {reason: 1, "unlabelled sequence": 1}
    assert len(scan(root).faces) == 6 * 3


def test_a_label_with_byte_order_mark_is_read(root):
    place(root, "Emotion", ANGER).write_bytes(b"\xef\xbb\xbf   1.0000000e+00\r\n")
    assert len(scan(root).faces) == 7 * 3


def test_two_labels_of_one_sequence_leave_it_out(root):
    label = place(root, "Emotion", ANGER)
    shutil.copy(label, label.with_name("S005_001_00000005_emotion.txt"))
    assert reasons(root) == {"two label files": 1, "unlabelled sequence": 1}


def test_a_label_named_otherwise_is_named_in_what_is_left_out(root):
    label = place(root, "Emotion", ANGER)
    shutil.copy(label, label.with_name("S005_001_00000006_emotion (1).txt"))
    listing = scan(root)
    assert Counter(item.reason for item in listing.left_out)["not named as a label file of its folder"] == 1
    assert len(listing.faces) == 7 * 3


def test_the_frames_end_with_the_one_that_the_label_names(root):
    label = place(root, "Emotion", ANGER)
    label.rename(label.with_name("S005_001_00000005_emotion.txt"))
    assert names(scan(root)) == [f"S005_001_{number:08d}.png" for number in (2, 4, 5)]


def test_without_the_labelled_frame_the_sequence_is_left_out(root):
    place(root, "images", f"{ANGER}_00000006").unlink()
    assert reasons(root) == {"the frame that its label names is missing": 1, "unlabelled sequence": 1}


def test_a_label_of_a_missing_sequence_is_told(root):
    shutil.rmtree(place(root, "images", ANGER).parent)
    assert reasons(root)["label of a missing sequence"] == 1


def test_a_sequence_without_frames_is_left_out(root):
    for image in place(root, "images", ANGER).parent.iterdir():
        image.unlink()
    assert reasons(root)["the frame that its label names is missing"] == 1


def test_too_few_frames_leave_a_sequence_out(root):
    # Contempt has four frames: enough for three and a first one, not for four and a first one.
    assert len(scan(root, classes=8).faces) == 7 * 4
    assert reasons(root, classes=8, frames=4)["fewer frames than asked for"] == 3
    with pytest.raises(DatasetError, match=r"found none \(8 left out, as .*: fewer frames than asked for\)"):
        scan(root, frames=6)


def test_frames_named_otherwise_or_twice_are_told(root):
    image = place(root, "images", f"{ANGER}_00000004")
    shutil.copy(image, image.with_name("S005_001_00000004 - Copy.png"))
    shutil.copy(image, image.with_name("S010_001_00000004.png"))
    shutil.copy(image, image.with_suffix(".jpg"))
    found = reasons(root)
    assert found["not named as a frame of its folder"] == 2
    assert found["two files of one frame"] == 1
    assert len(names(scan(root))) == 3


def test_folders_that_are_no_sequences_are_told(root):
    images = place(root, "images", ANGER).parents[1]
    (images / "extra").mkdir()
    (images.parent / "list.txt").touch()
    found = reasons(root)
    assert found["not a folder of a sequence"] == found["not a folder of a subject"] == 1


def test_a_missing_folder_is_told(tmp_path):
    ckplus.build(tmp_path, people=1)
    shutil.move(tmp_path / "Emotion", tmp_path / "labels")
    with pytest.raises(
        DatasetError,
        match=r"^expected the folder Emotion or Emotion_labels \(the expressions\) in .*, found FACS, Landmarks, cohn-kanade-images, "
        r"labels; set dataset.root to the folder that holds it\.$",
    ):
        scan(tmp_path)
    with pytest.raises(
        DatasetError, match=r"^expected the folder cohn-kanade-images or extended-cohn-kanade-images \(the frames\)"
    ):
        scan(tmp_path / "cohn-kanade-images")


def test_empty_labels_are_told(root):
    for file in list(root.rglob("*_emotion.txt")):
        file.unlink()
    with pytest.raises(
        DatasetError,
        match=r"^expected labelled images of CK\+ in .*, found none \(8 left out, as .*: unlabelled sequence\); check",
    ):
        scan(root)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": 5}, "expected dataset.classes to be one of 6, 7, 8, found 5; set one of them."),
        ({"classes": "7"}, "expected dataset.classes to be one of 6, 7, 8, found '7'; set one of them."),
        ({"frames": 0}, "expected dataset.frames to be a whole number from 1 on, found 0; set one."),
        ({"frames": True}, "expected dataset.frames to be a whole number from 1 on, found True; set one."),
        ({"frames": 2.5}, "expected dataset.frames to be a whole number from 1 on, found 2.5; set one."),
    ],
)
def test_options_out_of_range_are_told(options, sentence, root):
    with pytest.raises(DatasetError) as caught:
        scan(root, **options)
    assert str(caught.value) == sentence


def test_links_out_of_the_root_are_refused(root, tmp_path_factory):
    image = place(root, "images", f"{ANGER}_00000006")
    away = tmp_path_factory.mktemp("away") / image.name
    shutil.move(image, away)
    image.symlink_to(away)
    with pytest.raises(
        DatasetError,
        match=r"^expected everything within .*, found that .* is a link to .*; put a copy in its place, or .*\.$",
    ):
        scan(root)
