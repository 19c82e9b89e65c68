"""What only FER+ has: votes, two label files that differ, and pixels that lie in the table of another set."""

from collections import Counter

import numpy as np
import pytest

from datasets import DatasetError
from datasets.expressions import CANONICAL
from datasets.ferplus import CARD, EXPECTED, majority, scan
from tests.datasets.miniatures import ferplus

VOTES = "7,2,0,0,0,0,0,0,1,0"


@pytest.fixture
def root(tmp_path):
    """Label files with PNG files."""
    ferplus.build(tmp_path, people=1)
    return tmp_path


@pytest.fixture
def tables(tmp_path):
    """fer2013new.csv, fer2013.csv, and label files without PNG files."""
    ferplus.build(tmp_path / "tables", people=1, spelling=2)
    return tmp_path / "tables" / "FERPlus-master"


def reasons(root, **options):
    return Counter(item.reason for item in scan(root, **options).left_out)


def test_official_order_and_counts():
    assert CARD.classes == CANONICAL
    assert CARD.people == "fer2013"
    assert [sum(counts.values()) for counts in EXPECTED.values()] == [25045, 3137]
    assert CARD.images == 25045 + 3191 + 3137


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        # 4 + 3 + 2 remain of 10: 4 is not more than 4.5.
        ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), (None, "no majority")),
        # 5 remain of which 5 agree, as single votes do not count: without that rule 5 of 10 would be too few.
        ((5, 1, 1, 1, 1, 0, 0, 0, 1, 0), (0, "")),
        ((6, 0, 0, 4, 0, 0, 0, 0, 0, 0), (0, "")),
        ((5, 0, 0, 5, 0, 0, 0, 0, 0, 0), (None, "no majority")),
        ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), (None, "no majority")),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 0), (None, "no majority")),
        ((0, 0, 0, 0, 0, 0, 0, 6, 4, 0), (7, "")),
        # Unknown and "no face" take part in the sum and may win it.
        ((3, 0, 0, 4, 0, 0, 0, 0, 3, 0), (None, "no majority")),
        ((0, 0, 0, 4, 0, 0, 0, 0, 6, 0), (None, "majority for unknown")),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), (None, "majority for no face")),
    ],
)
def test_majority_by_hand(votes, outcome):
    assert majority(votes) == outcome


def test_majority_as_published():
    """Against the rule in its own words, over votes of ten people drawn at random."""
    random = np.random.default_rng(0)
    for votes in random.multinomial(10, random.dirichlet(np.full(10, 0.3), 500)):
        kept = np.where(votes > 1, votes, 0)
        wins = kept.sum() > 0 and kept.max() / kept.sum() > 0.5 and kept.argmax() < 8
        assert majority(tuple(votes.tolist()))[0] == (kept.argmax() if wins else None)


def test_a_checkout_with_fer2013_csv_needs_no_png_files(root, tables):
    files, pixels = scan(root), scan(tables)
    assert [face[1:] for face in files.faces] == [face[1:] for face in pixels.faces]
    assert files.expected == pixels.expected == EXPECTED
    drawn = {row[1]: row for row in ferplus.table(1)}
    for face in pixels.faces:
        usage, _, _, word, person = drawn[face.subject]
        picture = ferplus.face(person, word, list(ferplus.FOLDERS).index(usage)).convert("L")
        assert face.source.values == np.asarray(picture).tobytes()
        assert pixels.classes[face.label] == word
    assert not scan(tables, labels="fer2013new.csv").expected


def test_label_files_without_boxes_are_read_but_have_other_counts(root):
    for file in root.rglob("label.csv"):
        file.write_text(file.read_text().replace('"(0, 0, 48, 48)",', ""))
    listing = scan(root)
    assert len(listing.faces) == 24
    assert listing.expected == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f'fer0000000.png,"(0, 0, 48, 48)",{VOTES}', "the same row again"),
        (f'fer9999999.png,"(0, 0, 48, 48)",{VOTES}', "image is missing"),
        (f'../../x.png,"(0, 0, 48, 48)",{VOTES}', "image is missing"),
        (f'fer9999999.png,"(0, 0, 48, 48)",{VOTES[:-4]}', "row is not a name and ten votes"),
        (f'fer9999999.png,"(0, 0, 48, 48)",{VOTES[:-1]}-1', "row is not a name and ten votes"),
        (f'fer9999999.png,"(0, 0, 48, 48)",{VOTES},1', "row is not a name and ten votes"),
        (f'fer9999999.png,"(0, 0, 48, 48)",{VOTES}{"9" * 5000}', "row is not a name and ten votes"),
        ("fer9999999.png", "row is not a name and ten votes"),
    ],
)
def test_a_bad_row_is_left_out_with_its_reason(row, reason, root):
    file = root / "data" / "FER2013Train" / "label.csv"
    before = reasons(root)
    file.write_text(f"{file.read_text()}{row}\n")
    assert reasons(root) - before == {reason: 1}
    assert len(scan(root).faces) == 24
    assert scan(root).expected == EXPECTED


@pytest.mark.parametrize(
    ("folder", "votes"), [("Train", "0,0,9,0,0,0,0,0,1,0"), ("Train", "8,1,0,0,0,0,0,0,1,0"), ("Test", None)]
)
def test_an_image_whose_rows_contradict_each_other_is_left_out(folder, votes, root):
    first = (root / "data" / "FER2013Train" / "label.csv").read_text().splitlines()[0]
    assert first.startswith('fer0000000.png,"(0, 0, 48, 48)",')
    file = root / "data" / f"FER2013{folder}" / "label.csv"
    rows = file.read_text().splitlines()
    file.write_text("\n".join([*rows, f'fer0000000.png,"(0, 0, 48, 48)",{votes}' if votes else first]))
    left_out = [
        item.name for item in scan(root).left_out if item.reason == "rows of one image that contradict each other"
    ]
    assert left_out == ["data/FER2013Train/label.csv row 1", f"data/FER2013{folder}/label.csv row {len(rows) + 1}"]
    assert len(scan(root).faces) == 23
    assert not [face for face in scan(root).faces if face.subject == "fer0000000.png"]


def test_a_damaged_row_costs_no_other_row(root):
    file = root / "data" / "FER2013Train" / "label.csv"
    before = reasons(root)
    file.write_text(file.read_text() + "fer0000000.png,7\n")
    assert reasons(root) - before == {"row is not a name and ten votes": 1}
    assert len(scan(root).faces) == 24


def test_images_and_pixels_that_are_lacking_are_told(root, tables):
    folder = root / "data" / "FER2013Train"
    (folder / "fer0000000.png").rename(folder / "fer0000000_copy.png")
    assert reasons(root)["image is missing"] == reasons(root)["no row in label.csv"] == 1
    table = tables / "fer2013.csv"
    table.write_bytes(table.read_bytes().replace(b"6,", b"6,300 ", 1))
    assert reasons(tables)["pixels are not as released"] == reasons(tables)["image is missing"] == 1


def no_label_file(root, tables):
    (root / "data" / "FER2013Valid" / "label.csv").unlink()
    return root, "label.csv"


def another_file(root, tables):
    (root / "data" / "FER2013Valid" / "label.csv").write_text("Usage,emotion\nTraining,1\n")
    return root, "label.csv"


def no_new_file(root, tables):
    return root, "fer2013new.csv"


def no_images(root, tables):
    (tables / "fer2013.csv").unlink()
    return tables, "label.csv"


def row_lost(root, tables):
    table = tables / "fer2013.csv"
    table.write_bytes(table.read_bytes().rpartition(b"6,")[0])
    return tables, "fer2013new.csv"


def rows_moved(root, tables):
    table = tables / "fer2013.csv"
    head, *lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(head + b"".join(reversed(lines)))
    return tables, "fer2013new.csv"


def swapped(root, tables):
    (tables / "fer2013new.csv").rename(tables / "x")
    (tables / "fer2013.csv").rename(tables / "fer2013new.csv")
    (tables / "x").rename(tables / "fer2013.csv")
    return tables, "fer2013new.csv"


def no_test_images(root, tables):
    for file in list((root / "data" / "FER2013Test").glob("*.png")):
        file.unlink()
    return root, "label.csv"


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (no_label_file, "set dataset.labels=fer2013new.csv"),
        (another_file, 'expected rows as fer0000000.png,"(0, 0, 48, 48)" and ten votes in'),
        (no_new_file, "set dataset.labels=label.csv"),
        (no_images, "expected PNG files in"),
        (
            row_lost,
            "to have the same rows in the same order, found that they part at FERPlus-master/fer2013new.csv row 40",
        ),
        (rows_moved, "found that they part at row 2 of"),
        (swapped, "expected the columns Usage, Image name, NF"),
        (no_test_images, "expected labelled images of FER+, part test,"),
    ],
)
def test_bad_input_is_told_in_one_sentence(damage, text, root, tables):
    folder, labels = damage(root, tables)
    inside = tables.parent if folder == tables else root
    if folder == root:
        (tables / "fer2013new.csv").unlink()
    with pytest.raises(DatasetError) as error:
        scan(inside, labels=labels)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_other_label_files_are_refused(root):
    with pytest.raises(
        DatasetError, match=r"expected dataset\.labels to be one of label\.csv, fer2013new\.csv, found 'labels'"
    ):
        scan(root, labels="labels")
