"""What only AffectNet has: lists of photographs with boxes and landmarks, and a release with a file for each label."""

import pickle
import shutil
from collections import Counter

import numpy as np
import pytest

from datasets import DatasetError
from datasets.affectnet import CARD, EXPECTED, scan
from tests.datasets.miniatures import affectnet


@pytest.fixture
def root(tmp_path):
    """The release with lists."""
    affectnet.build(tmp_path, people=1)
    return tmp_path


@pytest.fixture
def newer(tmp_path):
    """The release with a file for each label."""
    affectnet.build(tmp_path / "newer", people=1, spelling=1)
    return tmp_path / "newer" / "AffectNet"


def reasons(root, **options):
    found = Counter(item.reason for item in scan(root, **options).left_out)
    return found - Counter(affectnet.NOT_CLASSES.values())


def test_official_order_and_counts():
    assert CARD.classes == affectnet.CLASSES
    assert [sum(counts.values()) for counts in EXPECTED.values()] == [287651, 4000]
    assert CARD.images == 291651


def test_seven_classes_leave_contempt_out(root, newer):
    for folder in (root, newer):
        listing = scan(folder, classes=7, release="npy" if folder == newer else "csv")
        assert listing.classes == affectnet.CLASSES[:7]
        assert Counter(face.label for face in listing.faces) == dict.fromkeys(range(7), 2)
        assert Counter(item.reason for item in listing.left_out)["contempt, with classes=7"] == 2
    assert scan(root, classes=7, release="csv").expected["val"] == dict.fromkeys(affectnet.CLASSES[:7], 500)


def test_faces_are_cut_and_landmarks_move_with_them(root):
    for spelling in (0, 2):
        folder = root / str(spelling)
        folder.mkdir()
        affectnet.build(folder, spelling=spelling)
        for index, face in enumerate(scan(folder).faces):
            left, top, right, bottom = face.source.box
            assert (right - left, bottom - top) == (48, 48)
            assert (left, top) == (5 + index % 3, 9)
            points = pickle.loads(pickle.dumps(face.source.points))()
            np.testing.assert_allclose(points, affectnet.landmarks(), atol=0.0051)  # Two decimals are written.


def test_landmarks_of_the_newer_release_are_those_of_the_image(newer):
    for face in scan(newer).faces:
        np.testing.assert_array_equal(face.source.points(), affectnet.landmarks())
        assert face.source.box is None


def test_columns_are_found_by_name(root):
    """As pandas writes a list anew: an index in front, numbers with a point, and no landmarks."""
    table = root / "training.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    lines = [[str(index - 1) if index else "", *line[:5], line[6]] for index, line in enumerate(lines)]
    for line in lines[1:]:
        line[2:] = [f"{value}.0" for value in line[2:]]
        line[1] = f'"{line[1]}"'
    whole = scan(root).faces
    table.write_text("".join(",".join(line) + "\n" for line in lines))
    found = scan(root).faces
    assert [(face.source.box, *face[1:]) for face in found] == [(face.source.box, *face[1:]) for face in whole]
    assert found[0].source.points is None
    assert found[-1].source.points is not None


def first_row(root, **cells):
    """The first row of training.csv with other cells."""
    head, row = (root / "training.csv").read_text().splitlines()[:2]
    return ",".join(cells.get(name, cell) for name, cell in zip(head.split(","), row.split(","), strict=True))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({}, "the same row again"),
        ({"subDirectory_filePath": "1/none.jpg"}, "image is missing"),
        ({"subDirectory_filePath": "99/none.jpg"}, "image is missing"),
        ({"subDirectory_filePath": "../training.csv"}, "path leaves the folder of the photographs"),
        ({"subDirectory_filePath": "/etc/passwd"}, "image is missing"),
        ({"face_x": "NULL"}, "no box of a face"),
        ({"face_width": "0"}, "no box of a face"),
        ({"face_height": "9e9"}, "no box of a face"),
        ({"face_x": "6", "expression": "11"}, "expression is none of 0 to 10"),
        ({"face_x": "6", "expression": "happy"}, "expression is none of 0 to 10"),
        ({"face_x": "6", "expression": "1.5"}, "expression is none of 0 to 10"),
        ({"arousal": "0,0"}, "row does not have the cells of the first line"),
    ],
)
def test_a_bad_row_is_left_out_with_its_reason(cells, reason, root):
    table = root / "training.csv"
    table.write_text(f"{table.read_text()}{first_row(root, **cells)}\n")
    assert reasons(root) == {reason: 1}
    assert len(scan(root).faces) == 16


@pytest.mark.parametrize(
    ("table", "line", "numbers"), [("training.csv", 13, "6"), ("validation.csv", 10, "1"), ("training.csv", 13, "608")]
)
def test_a_face_with_two_expressions_is_left_out_whole(table, line, numbers, root):
    whole = scan(root).faces
    for number in numbers:
        row = first_row(root, expression=number)
        (root / table).write_text(f"{(root / table).read_text()}{row}\n")
    listing = scan(root)
    assert [face.subject for face in listing.faces] == [face.subject for face in whole[1:]]
    left_out = [tuple(item) for item in listing.left_out]
    assert ("training.csv row 2", "two expressions for one face") in left_out
    assert (f"{table} row {line}", "two expressions for one face") in left_out
    assert len(left_out) == 3 + 1 + len(numbers)


def test_landmarks_that_are_damaged_are_none_or_told(root):
    table = root / "training.csv"
    table.write_text(table.read_text().replace(";", "", 1))
    assert scan(root).faces[0].source.points is None
    head, first, second, *rest = table.read_text().splitlines()
    table.write_text("\n".join([head, first, second.replace(";", ";x", 1), *rest]))
    with pytest.raises(DatasetError, match="expected 68 points at byte"):
        scan(root).faces[1].source.points()


def test_photographs_without_row_are_left_out(root):
    photograph = next((root / "Manually_Annotated_Images" / "1").iterdir())
    shutil.copy(photograph, photograph.with_name("other.jpg"))
    shutil.copy(photograph, photograph.with_name("list.txt"))
    assert reasons(root) == {"no row in the lists": 1, "not an image file": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expression is none of 0 to 10"),
        (b"\x93NUMPY", "expression is none of 0 to 10"),
        (np.array([1, 2]), "expression is none of 0 to 10"),
        (np.array("happy"), "expression is none of 0 to 10"),
        (np.array(np.nan), "expression is none of 0 to 10"),
        (np.array({"a": 1}, dtype=object), "expression is none of 0 to 10"),
        (np.array("12"), "expression is none of 0 to 10"),
        (None, "no annotation"),
    ],
)
def test_a_bad_label_file_is_left_out_with_its_reason(content, reason, newer):
    note = newer / "train_set" / "annotations" / "0_exp.npy"
    if content is None:
        note.unlink()
    elif isinstance(content, bytes):
        note.write_bytes(content)
    else:
        np.save(note, content, allow_pickle=True)
    assert reasons(newer) == {reason: 1}
    assert len(scan(newer).faces) == 15


def test_label_files_without_image_and_second_images_are_left_out(newer):
    images = newer / "train_set" / "images"
    (images / "0.jpg").rename(images / "0.txt")
    shutil.copy(images / "1.jpg", images / "1.png")
    assert reasons(newer) == {"image is missing": 1, "the same image again": 1, "not an image file": 1}


def no_list(root):
    (root / "validation.csv").unlink()


def no_images(root):
    shutil.rmtree(root / "Manually_Annotated_Images")


def not_unpacked(root):
    shutil.rmtree(root / "Manually_Annotated_Images")
    (root / "Manually_Annotated_Images").mkdir()


def no_columns(root):
    table = root / "training.csv"
    table.write_text(table.read_text().replace("expression", "emotion", 1))


def empty(root):
    (root / "training.csv").write_bytes(b"")


def utf16(root):
    table = root / "training.csv"
    table.write_bytes(table.read_text().encode("utf-16"))


def column_twice(root):
    table = root / "training.csv"
    table.write_text(table.read_text().replace("arousal", "valence", 1))


def both_releases(root):
    affectnet.build(root, people=1, spelling=1)
    (root / "AffectNet" / "train_set").rename(root / "train_set")


def link_out(root):
    (root / "Manually_Annotated_Images" / "1" / "link.jpg").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (no_list, "found no validation.csv; unpack Manually_Annotated_file_lists into dataset.root"),
        (no_images, "expected the folder Manually_Annotated_Images or Manually_Annotated"),
        (not_unpacked, "expected labelled images of AffectNet, part train,"),
        (no_columns, "expected the columns subDirectory_filePath, face_x,"),
        (column_twice, "training.csv, found two of one name; rename one"),
        (empty, "training.csv, found nothing; take the released file"),
        (utf16, "expected the columns subDirectory_filePath, face_x,"),
        (both_releases, "found both; set dataset.release=csv or npy"),
        (link_out, "is a link to /etc/passwd; put a copy in its place"),
    ],
)
def test_bad_input_is_told_in_one_sentence(damage, text, root):
    damage(root)
    with pytest.raises(DatasetError) as error:
        scan(root)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_landmark_files_count_for_what_is_built(newer):
    listing = scan(newer)
    assert {face.source.points.args[0] for face in listing.faces} == set(listing.files)


def test_no_more_is_read_of_a_label_than_a_label_has(newer):
    first, second = sorted((newer / "train_set" / "annotations").glob("*_exp.npy"))[:2]
    with first.open("r+b") as file:
        file.truncate(1 << 40)  # Of holes, which take no room on the disk but all of the memory.
    np.save(second, np.zeros(9999))
    assert reasons(newer) == {"expression is none of 0 to 10": 1}


def test_wrong_options_and_parts_are_told(root, newer):
    with pytest.raises(DatasetError, match=r"expected dataset\.classes to be one of 7, 8, found 6"):
        scan(root, classes=6)
    with pytest.raises(DatasetError, match=r"expected dataset\.release to be one of auto, csv, npy, found 'new'"):
        scan(root, release="new")
    with pytest.raises(DatasetError, match="expected the folder train_set"):
        scan(root / "Manually_Annotated_Images", release="npy")
    shutil.rmtree(newer / "val_set")
    with pytest.raises(DatasetError, match="expected the folder val_set"):
        scan(newer)
