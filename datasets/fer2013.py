"""FER2013, the set of the Kaggle challenge of ICML 2013.

Goodfellow et al., "Challenges in Representation Learning: A Report on Three Machine Learning Contests", ICONIP 2013. The field trains on
Training, chooses on PublicTest and reports PrivateTest. The release holds some images several times, a few with different labels; all stay.

torchvision's FER2013 is not used: it takes only files with the MD5 sums that it knows, in a folder named fer2013, makes one test part of
the two, and reads 2,304 numbers a row into Python integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.layout import columns, home, labelled_images, optional, require_faces, root_folder, rows, subfolder
from datasets.listing import Face, LeftOut, Listing
from datasets.sources import ImageFile, Pixels

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # Released as 0 to 6.
SIDE = 48
USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
TABLES = ("fer2013.csv", "icml_face_data.csv", "train.csv")  # The first that is there is read; the others repeat it.

# Training as counted in public code; the other two from memory [R], which with it give the sums of the paper and of Kaggle's test folders.
EXPECTED = {
    "train": dict(zip(CLASSES, (3995, 436, 4097, 7215, 4830, 3171, 4965), strict=True)),
    "val": dict(zip(CLASSES, (467, 56, 496, 895, 653, 415, 607), strict=True)),
    "test": dict(zip(CLASSES, (491, 55, 528, 879, 594, 416, 626), strict=True)),
}

CARD = Card(
    name="fer2013",
    title="FER2013",
    description="Faces found by 184 words for emotions in an image search, 48 x 48 pixels, grey: seven expressions.",
    classes=CLASSES,
    images=35887,
    subjects=None,
    people="fer2013",
    fold_rule="official",
    folds=1,
    metric="test_accuracy",
    layout=(
        "fer2013.csv: emotion,pixels,Usage (or icml_face_data.csv: emotion, Usage, pixels)",
        "or train.csv of the challenge: emotion,pixels, training part only",
        "or Kaggle's folders: train/angry/Training_3908.jpg, test/angry/PrivateTest_88305.jpg",
    ),
    terms="rules of the Kaggle competition; no licence of the photographs is given",
    obtain="with a Kaggle account: challenges-in-representation-learning-facial-expression-recognition-challenge",
    source="Goodfellow et al., ICONIP 2013",
)

_COUNT = SIDE * SIDE


class Row(NamedTuple):
    """A row of the table as text; "" where a cell is missing."""

    line: int  # of the file; the first line holds the names of the columns
    emotion: str
    usage: str
    pixels: str


def scan(root: str | Path) -> Listing:
    """Find the images and their labels.

    Args:
        root: the folder that holds one of the tables, or the folders train and test.

    Raises:
        DatasetError: there is none of them, or the table lacks a column.

    """
    root = root_folder(root, CARD.title, "fer2013.csv, or the folders train and test")
    base = home(root, *TABLES, "train")
    tables = [table for name in TABLES if (table := optional(base, name))]
    faces, left_out = _from_table(tables[0], root) if tables else _from_folders(base, root)
    again = tables[1:]
    left_out += [LeftOut(file.relative_to(root).as_posix(), f"the images of {tables[0].name} again") for file in again]
    unlabelled = optional(base, "test.csv") if tables else None
    if unlabelled:
        left_out.append(LeftOut(unlabelled.relative_to(root).as_posix(), "no labels"))
    parts = {face.official for face in faces}
    require_faces(faces, left_out, root, CARD.title, ("train",) if tables else ("train", "test"))
    expected = {part: counts for part, counts in EXPECTED.items() if part in parts}
    if parts == {"train", "test"}:  # Names without PublicTest and PrivateTest: both are the test part.
        both = {name: EXPECTED["val"][name] + count for name, count in EXPECTED["test"].items()}
        expected = {"train": EXPECTED["train"], "test": both}
    return Listing(root, CLASSES, faces, tables[:1], left_out, expected)


def read_table(file: Path) -> Iterator[Row]:
    """Rows of fer2013.csv, icml_face_data.csv or train.csv, in the order of the file.

    Raises:
        DatasetError: it is no such table.

    """
    lines = rows(file)
    places = columns(file, next(lines, (0, []))[1], "emotion", "pixels")
    for line, cells in lines:
        whole = len(cells) == len(places)
        yield Row(
            line,
            cells[places["emotion"]] if whole else "",
            (cells[places["usage"]] if "usage" in places else "Training") if whole else "",
            cells[places["pixels"]] if whole else "",
        )


def read_pixels(text: str) -> bytes | None:
    """The 48 * 48 bytes that a cell spells as numbers with spaces between; None where it is anything else."""
    if not text.isascii() or text.encode().translate(None, b"0123456789 "):
        return None
    values = np.fromstring(text, np.int64, sep=" ")
    if len(values) != _COUNT or values.max() > 255:
        return None
    return values.astype(np.uint8).tobytes()


def _from_table(file: Path, root: Path) -> tuple[list[Face], list[LeftOut]]:
    faces: list[Face] = []
    left_out: list[LeftOut] = []
    labels = {str(number): number for number in range(len(CLASSES))}
    for row in read_table(file):
        name = f"row{row.line:05d}"
        pixels = read_pixels(row.pixels) if row.emotion in labels and row.usage in USAGES else None
        if pixels is not None:
            source = Pixels(file, row.line, SIDE, pixels)
            faces.append(Face(source, labels[row.emotion], name, name, USAGES[row.usage]))
            continue
        if not row.emotion:
            reason = "row does not have the cells of the first line"
        elif row.emotion not in labels:
            reason = "emotion is none of 0 to 6"
        elif row.usage not in USAGES:
            reason = f"Usage is none of {', '.join(USAGES)}"
        else:
            reason = f"pixels are not {_COUNT} whole numbers of 0 to 255"
        left_out.append(LeftOut(f"{file.relative_to(root).as_posix()} row {row.line}", reason))
    return faces, left_out


def _from_folders(base: Path, root: Path) -> tuple[list[Face], list[LeftOut]]:
    """Images of Kaggle's folders; their names tell the two test parts apart."""
    if optional(base, "train") is None:
        raise DatasetError(
            f"expected {', '.join(TABLES)} or the folders train and test in {base}, found none of them; "
            "set dataset.root to the folder that holds them."
        )
    faces: list[Face] = []
    left_out: list[LeftOut] = []
    for folder in ("train", "test"):
        holds = "folders angry, disgust, fear, happy, neutral, sad, surprise"
        images, others = labelled_images(subfolder(base, folder, holds=holds), CLASSES, root)
        left_out += others
        for label, file in images:
            name = f"{folder}/{CLASSES[label]}/{file.name}"
            part = USAGES.get(file.name.partition("_")[0], folder)
            faces.append(Face(ImageFile(file), label, name, name, part if folder == "test" else folder))
    return faces, left_out
