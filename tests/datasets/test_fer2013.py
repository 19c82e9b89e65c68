"""What only FER2013 has: pixels spelt out in a table of several spellings."""

from collections import Counter

import numpy as np
import pytest
import torchvision

from datasets import DatasetError
from datasets.fer2013 import CARD, EXPECTED, read_pixels, scan
from tests.datasets.miniatures import fer2013

PIXELS = " ".join(["7"] * 2304)


@pytest.fixture
def root(tmp_path):
    fer2013.build(tmp_path, people=1)
    return tmp_path


@pytest.fixture
def table(root):
    return root / "fer2013.csv"


def reasons(root):
    return Counter(item.reason for item in scan(root).left_out)


def test_official_order_and_counts():
    assert CARD.classes == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    assert [sum(counts.values()) for counts in EXPECTED.values()] == [28709, 3589, 3589]
    # The sums over the parts are those of the paper.
    sums = [sum(counts[name] for counts in EXPECTED.values()) for name in CARD.classes]
    assert sums == [4953, 547, 5121, 8989, 6077, 4002, 6198]
    assert sum(sums) == CARD.images


def test_pixels_are_those_of_the_drawing_in_both_tables(tmp_path):
    for spelling in (0, 1):
        (tmp_path / str(spelling)).mkdir()
        fer2013.build(tmp_path / str(spelling), people=2, spelling=spelling)
    first, second = (scan(tmp_path / name).faces for name in "01")
    for face, other, (usage, label, picture) in zip(first, second, fer2013.pictures(2), strict=True):
        assert face.source.values == other.source.values == np.asarray(picture).tobytes()
        assert face[1:] == other[1:]
        assert (face.label, face.official) == (label, fer2013.USAGES[usage])
    assert first[0].source.row == 2  # As an editor numbers the lines, the first of which names the columns.


def test_folders_tell_the_two_test_parts_by_name(tmp_path):
    fer2013.build(tmp_path, spelling=2)
    assert Counter(face.official for face in scan(tmp_path).faces) == {"train": 21, "val": 21, "test": 21}
    for file in list((tmp_path / "test").rglob("*.jpg")):
        file.rename(file.with_name(f"im{file.name.partition('_')[2]}"))
    listing = scan(tmp_path)
    assert Counter(face.official for face in listing.faces) == {"train": 21, "test": 42}
    assert listing.expected["test"]["happiness"] == 1774


def test_the_training_part_alone_is_read(root, table):
    lines = table.read_text().splitlines()
    kept = [line.rpartition(",")[0] for line in lines if line.endswith(("Usage", "Training"))]
    (root / "train.csv").write_text("\n".join([kept[0], *(f'{row[0]},"{row[2:]}"' for row in kept[1:])]))
    (root / "test.csv").write_text(f"pixels\n{PIXELS}\n")
    assert reasons(root) == {"the images of fer2013.csv again": 1, "no labels": 1}
    table.unlink()
    assert Counter(face.official for face in scan(root).faces) == {"train": 7}
    assert scan(root).expected == {"train": EXPECTED["train"]}


def test_torchvision_refuses_what_it_has_no_sum_of(root):
    (root / "fer2013").mkdir()
    (root / "fer2013.csv").rename(root / "fer2013" / "fer2013.csv")
    with pytest.raises(RuntimeError, match=r"not found in .* or corrupted"):
        torchvision.datasets.FER2013(root)
    assert len(scan(root).faces) == 21


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (PIXELS, True),
        (PIXELS.replace("7 7", "255 0"), True),
        (PIXELS.replace(" ", "  "), True),
        (PIXELS + " 7", False),
        (PIXELS[:-2], False),
        (PIXELS[:-1] + "256", False),
        (PIXELS[:-1] + "99999999999999999999", False),
        (PIXELS[:-1] + "-1", False),
        (PIXELS[:-1] + "7.0", False),
        (PIXELS[:-1] + "x", False),
        (PIXELS[:-1] + "٧", False),
        (PIXELS.replace(" ", ","), False),
        ("", False),
        (" ", False),
    ],
)
def test_pixels_are_exactly_2304_bytes(text, good):
    values = read_pixels(text)
    assert (values is not None) == good
    if values is not None:
        assert list(values) == [int(word) for word in text.split()]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"7,{PIXELS},Training", "emotion is none of 0 to 6"),
        (f"angry,{PIXELS},Training", "emotion is none of 0 to 6"),
        (f"0,{PIXELS},Test", "Usage is none of Training, PublicTest, PrivateTest"),
        (f"0,{PIXELS} 7,Training", "pixels are not 2304 whole numbers of 0 to 255"),
        ("0,,Training", "pixels are not 2304 whole numbers of 0 to 255"),
        (f"0,{PIXELS[:100]}", "row does not have the cells of the first line"),
        (f"0,{PIXELS},Training,1", "row does not have the cells of the first line"),
    ],
)
def test_a_bad_row_is_left_out_with_its_line(row, reason, root, table):
    table.write_text(f"{table.read_text()}{row}\n")
    listing = scan(root)
    assert [tuple(item) for item in listing.left_out] == [("fer2013.csv row 23", reason)]
    assert len(listing.faces) == 21


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "expected the columns emotion, pixels in the first line of"),
        (b"0,1 2 3,Training\n", "found 0, 1 2 3, Training; take the released file"),
        (b"emotion,Usage\n0,Training\n", "expected the columns emotion, pixels"),
        (b"emotion,pixels,Usage\n", "expected labelled images of FER2013, part train,"),
        (b"emotion,pixels,Usage\n0,1 2 3,Training\n", "as fer2013.csv row 2: pixels are not 2304 whole numbers"),
        (b"\x1f\x8b\x08\xff", "expected a text table in UTF-8"),
        (b"emotion,pixels,Usage\n0," + b"9" * 200000, "field larger than field limit"),
    ],
)
def test_a_wrong_table_is_told_in_one_sentence(content, text, root, table):
    table.write_bytes(content)
    with pytest.raises(DatasetError) as error:
        scan(root)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_roots_are_told(root, table):
    with pytest.raises(DatasetError, match="found a file; unpack it"):
        scan(table)
    with pytest.raises(DatasetError, match="found nothing"):
        scan(root / "elsewhere")
    with pytest.raises(DatasetError, match=r"set dataset\.root=PATH"):
        scan("")
    table.unlink()
    with pytest.raises(
        DatasetError, match=r"expected fer2013\.csv, icml_face_data\.csv, train\.csv or the folders train and"
    ):
        scan(root)
    (root / "train").mkdir()
    with pytest.raises(DatasetError, match="expected a folder for each of anger, disgust"):
        scan(root)
    for number in (1, 2):
        (root / f"copy{number}").mkdir()
        (root / f"copy{number}" / "fer2013.csv").write_text("")
    (root / "train").rmdir()
    with pytest.raises(DatasetError, match=r"expected one folder that holds fer2013\.csv"):
        scan(root)
