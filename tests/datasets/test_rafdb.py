"""What only RAF-DB has: a label file of two names, images named after it, and a copy sorted into folders."""

import shutil
from collections import Counter

import pytest

from datasets import DatasetError
from datasets.rafdb import CARD, EXPECTED, scan
from tests.datasets.miniatures import rafdb


@pytest.fixture
def root(tmp_path):
    rafdb.build(tmp_path, people=2)
    return tmp_path


@pytest.fixture
def labels(root):
    return root / "EmoLabel" / "list_patition_label.txt"


@pytest.fixture
def copy(tmp_path):
    """Kaggle's copy."""
    rafdb.build(tmp_path / "copy", people=2, spelling=1)
    return tmp_path / "copy"


def reasons(root):
    return Counter(item.reason for item in scan(root).left_out)


def test_official_order_and_counts():
    assert CARD.classes == ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    assert [sum(counts.values()) for counts in EXPECTED.values()] == [12271, 3068]
    assert EXPECTED["test"]["happiness"] == 1185
    assert CARD.images == 12271 + 3068


def test_all_spellings_give_the_same_faces(tmp_path):
    found = []
    for spelling in range(3):
        (tmp_path / str(spelling)).mkdir()
        rafdb.build(tmp_path / str(spelling), spelling=spelling)
        found.append({face[1:] for face in scan(tmp_path / str(spelling)).faces})
    assert found[0] == found[1] == found[2]
    assert (4, "train_00013", "train_00013", "train") in found[
        0
    ]  # Number 5, sadness, is the fifth of three images each.


def test_photographs_are_another_version(tmp_path):
    rafdb.build(tmp_path, spelling=2)
    assert {face.source.file.parent.name for face in scan(tmp_path, version="original").faces} == {"original"}


def test_folders_are_the_labels_where_the_tables_of_the_copy_are_missing(copy):
    whole = scan(copy).faces
    (copy / "train_labels.csv").unlink()
    (copy / "test_labels.csv").unlink()
    assert sorted(scan(copy).faces, key=str) == sorted(whole, key=str)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("train_09999.jpg 3", "image is missing"),
        ("train_00001.jpg 1", "the same image again"),
        ("train_09999.jpg happy", "label is none of 1 to 7"),
        ("train_09999.jpg", "row is not a name and a label"),
        ("val_0001.jpg 2", "name begins neither with train_ nor with test_"),
        ("../../secret.jpg 2", "name begins neither with train_ nor with test_"),
    ],
)
def test_a_bad_row_is_left_out_with_its_reason(row, reason, root, labels):
    labels.write_text(labels.read_text() + row + "\n")
    assert reasons(root) == {reason: 1}
    assert len(scan(root).faces) == 28


@pytest.mark.parametrize("numbers", ["7", "71", "77"])
def test_an_image_with_two_labels_is_left_out(numbers, root, labels):
    labels.write_text(labels.read_text() + "".join(f"train_00001.jpg {number}\n" for number in numbers))
    left_out = scan(root).left_out
    assert {item.reason for item in left_out} == {"two labels for one image"}
    file = "EmoLabel/list_patition_label.txt"
    assert [item.name for item in left_out] == [f"{file} row {row}" for row in (1, *range(29, 29 + len(numbers)))]
    assert not [face for face in scan(root).faces if face.subject == "train_00001"]
    assert len(scan(root).faces) == 27


def test_of_the_copy_an_image_in_a_folder_of_another_label_is_left_out(copy):
    table, image = copy / "train_labels.csv", "DATASET/train/1/train_00001_aligned.jpg"
    whole = table.read_bytes()
    names = {image, "train_labels.csv row 2"}
    table.write_bytes(whole.replace(b"train_00001_aligned.jpg,1", b"train_00001_aligned.jpg,2"))
    assert {tuple(item) for item in scan(copy).left_out} == {(name, "two labels for one image") for name in names}
    assert len(scan(copy).faces) == 27
    shutil.copy(copy / image, copy / "DATASET/train/2")
    both = {image, image.replace("train/1", "train/2")}
    for content, named in (
        (whole, both | {"train_labels.csv row 2"}),
        (whole.replace(b"train_00001_aligned.jpg,1", b"train_00099_aligned.jpg,1"), both | {"train_labels.csv row 2"}),
        (None, both),
    ):
        table.unlink() if content is None else table.write_bytes(content)
        assert {item.name for item in scan(copy).left_out} == named
        assert not [face for face in scan(copy).faces if face.subject == "train_00001"]
        assert len(scan(copy).faces) == 27


def test_an_image_without_row_or_with_another_name_is_left_out(root):
    aligned = root / "Image" / "aligned"
    shutil.copy(aligned / "train_00001_aligned.jpg", aligned / "train_00099_aligned.jpg")
    shutil.copy(aligned / "train_00001_aligned.jpg", aligned / "train_00001_aligned.png")
    shutil.copy(aligned / "train_00001_aligned.jpg", aligned / "train_00001_aligned copy.jpg")
    (aligned / "notes.txt").write_text("notes")
    assert reasons(root) == {
        "no row in the label file": 1,
        "the same image again": 1,
        "name is not that of one of the aligned images": 1,
        "not an image file": 1,
    }


def no_labels(root):
    (root / "EmoLabel" / "list_patition_label.txt").unlink()


def both_labels(root):
    shutil.copy(root / "EmoLabel" / "list_patition_label.txt", root / "EmoLabel" / "list_partition_label.txt")


def no_images(root):
    shutil.rmtree(root / "Image" / "aligned")


def originals_instead(root):
    for file in list((root / "Image" / "aligned").iterdir()):
        file.rename(file.with_name(file.name.replace("_aligned", "")))


def compound(root):
    labels = root / "EmoLabel" / "list_patition_label.txt"
    labels.write_text(labels.read_text().replace("test_0003.jpg 2", "test_0003.jpg 11"))


def no_text(root):
    (root / "EmoLabel" / "list_patition_label.txt").write_bytes(b"\xff\xfet\0r\0")


def no_test_images(root):
    for file in (root / "Image" / "aligned").glob("test_*"):
        file.unlink()


def nothing(root):
    shutil.rmtree(root / "Image")
    shutil.rmtree(root / "EmoLabel")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (no_labels, "expected list_patition_label.txt or list_partition_label.txt in"),
        (both_labels, "keep one"),
        (no_images, "expected the folder aligned (the aligned images)"),
        (originals_instead, "expected labelled images of RAF-DB (basic), part train,"),
        (
            compound,
            "found 11 in EmoLabel/list_patition_label.txt row 17; set dataset.root to the folder of the basic set",
        ),
        (no_text, "expected a text table in UTF-8"),
        (no_test_images, "as EmoLabel/list_patition_label.txt row 15: image is missing"),
        (nothing, "Kaggle's copy; the official one has EmoLabel and Image"),
    ],
)
def test_bad_input_is_told_in_one_sentence(damage, text, root):
    damage(root)
    with pytest.raises(DatasetError) as error:
        scan(root)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_copies_are_told(copy):
    with pytest.raises(DatasetError, match="found no EmoLabel, so at most Kaggle's copy"):
        scan(copy, version="original")
    table = copy / "train_labels.csv"
    table.write_text("name,emotion\n")
    with pytest.raises(DatasetError, match="expected the columns image, label in the first line of"):
        scan(copy)
