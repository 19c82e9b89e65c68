"""FER+: the images of FER2013 with eight expressions, each voted by ten people.

Barsoum, Zhang, Canton Ferrer and Zhang, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label Distribution",
ICMI 2016. The labels are those of its majority mode, as microsoft/FERPlus computes them (`majority`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.expressions import CANONICAL
from datasets.fer2013 import SIDE, USAGES, read_pixels, read_table
from datasets.layout import columns, contents, home, optional, require_faces, root_folder, rows, subfolder
from datasets.listing import Face, LeftOut, Listing
from datasets.options import one_of
from datasets.sources import ImageFile, Pixels, Source

CLASSES = CANONICAL
FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
NEW, TABLES = "fer2013new.csv", ("fer2013.csv", "icml_face_data.csv")

# Of label.csv, computed; of its validation part only the sum, 3191, is known, and of fer2013new.csv the sums 25060, 3199, 3153.
EXPECTED = {
    "train": dict(zip(CLASSES, (8733, 7284, 3136, 3022, 2098, 116, 536, 120), strict=True)),
    "test": dict(zip(CLASSES, (1083, 892, 394, 382, 269, 16, 86, 15), strict=True)),
}

CARD = Card(
    name="ferplus",
    title="FER+",
    description="The images of FER2013, 48 x 48 pixels, grey, labelled anew by the votes of ten people: eight expressions.",
    classes=CLASSES,
    images=31373,
    subjects=None,
    people="fer2013",
    fold_rule="official",
    folds=1,
    metric="test_accuracy",
    layout=(
        "data/FER2013Train/label.csv, data/FER2013Train/fer0000000.png; data/FER2013Valid/..., data/FER2013Test/...",
        "without the PNG files: fer2013new.csv, and beside it fer2013.csv (or icml_face_data.csv) with the pixels",
    ),
    terms="labels: MIT licence; images: see fer2013",
    obtain="labels: github.com/microsoft/FERPlus; images: see fer2013",
    source="Barsoum, Zhang, Canton Ferrer and Zhang, ICMI 2016",
)


class Row(NamedTuple):
    """Ten votes for an image: the eight classes, unknown, no face."""

    where: str  # file and line
    part: str
    name: str  # "" where FER+ removed the image
    votes: tuple[int, ...]  # () where the row is damaged


def scan(root: str | Path, *, labels: str = "label.csv") -> Listing:
    """Find the images and vote on their labels.

    An image with two rows that contradict each other is left out, as nobody can say which is right.

    Args:
        root: a checkout of microsoft/FERPlus with the images, as PNG files or as fer2013.csv.
        labels: "label.csv", in each of the three folders: 25045, 3191 and 3137 images, what the published tables used; or
            "fer2013new.csv": 25060, 3199 and 3153 images. The two files differ. A label.csv without the column of boxes was written by
            a later script of theirs out of fer2013new.csv and has its counts.

    Raises:
        DatasetError: labels or images are missing, or do not belong together.

    """
    one_of("labels", labels, ("label.csv", NEW))
    root = root_folder(
        root, CARD.title, "data/FER2013Train/label.csv and its images, or fer2013new.csv and fer2013.csv"
    )
    left_out: list[LeftOut] = []
    read, files, old = _label_files(root) if labels == "label.csv" else _new_file(root)
    pictures, others, tables = _pictures(root)
    left_out += others
    faces: list[Face] = []
    said: dict[str, set[tuple[str, tuple[int, ...]]]] = defaultdict(set)
    for row in read:
        if row.votes:
            said[row.name].add((row.part, row.votes))
    taken: set[str] = set()
    for row in read:
        label, reason = majority(row.votes)
        if not row.votes:
            left_out.append(LeftOut(row.where, "row is not a name and ten votes"))
        elif not row.name:
            left_out.append(LeftOut(row.where, "removed by FER+: no image name"))
        elif len(said[row.name]) > 1:
            left_out.append(LeftOut(row.where, "rows of one image that contradict each other"))
        elif row.name in taken:
            left_out.append(LeftOut(row.where, "the same row again"))
        elif label is None:
            left_out.append(LeftOut(row.where, reason))
        elif (row.part, row.name) not in pictures:
            left_out.append(LeftOut(row.where, "image is missing"))
        else:
            taken.add(row.name)
            faces.append(Face(pictures[row.part, row.name], label, row.name, row.name, row.part))
    rows_of = {(row.part, row.name) for row in read}
    unlisted = [source for place, source in pictures.items() if place not in rows_of]
    left_out += [
        LeftOut(f"{source.file.relative_to(root).as_posix()} {source.part}".rstrip(), f"no row in {labels}")
        for source in unlisted
    ]
    require_faces(faces, left_out, root, CARD.title, tuple(FOLDERS))
    return Listing(root, CLASSES, faces, [*files, *tables], left_out, EXPECTED if old else {})


def majority(votes: tuple[int, ...]) -> tuple[int | None, str]:
    """Label by the majority mode of FER+, or None and the reason.

    Single votes count as none; the class with more than half of what remains wins; unknown and "no face" are no classes.
    """
    if not votes:
        return None, "no votes"
    counted = [vote if vote > 1 else 0 for vote in votes]
    most = max(counted)
    if 2 * most <= sum(counted):
        return None, "no majority"
    label = counted.index(most)
    if label >= len(CLASSES):
        return None, ("majority for unknown", "majority for no face")[label - len(CLASSES)]
    return label, ""


def _label_files(root: Path) -> tuple[list[Row], list[Path], bool]:
    """Rows of the three label.csv, their files, and whether all have the column of boxes."""
    base = home(root, *FOLDERS.values())
    read: list[Row] = []
    files: list[Path] = []
    old = True
    for part, folder in FOLDERS.items():
        file = optional(subfolder(base, folder, holds="label.csv and the images"), "label.csv")
        if file is None:
            raise DatasetError(
                f"expected label.csv in {base / folder}, found none; take it from microsoft/FERPlus, or set dataset.labels={NEW}."
            )
        files.append(file)
        here = []
        for line, cells in rows(file):
            boxed = len(cells) == 12
            here.append(_row(f"{file.relative_to(root).as_posix()} row {line}", part, cells[:1] + cells[1 + boxed :]))
            old &= boxed or not here[-1].votes
        _require_votes(here, file, 'fer0000000.png,"(0, 0, 48, 48)" and ten votes')
        read += here
    return read, files, old


def _new_file(root: Path) -> tuple[list[Row], list[Path], bool]:
    """Rows of fer2013new.csv, row by row those of fer2013.csv, and the file."""
    file = optional(home(root, NEW), NEW)
    if file is None:
        raise DatasetError(
            f"expected {NEW} in {root}, found none; take it from microsoft/FERPlus, or set dataset.labels=label.csv."
        )
    lines = rows(file)
    columns(file, next(lines, (0, []))[1], "Usage", "Image name", "NF")
    where = file.relative_to(root).as_posix()
    read = [_row(f"{where} row {line}", USAGES.get(cells[0], ""), cells[1:]) for line, cells in lines]
    _require_votes(read, file, "Training,fer0000000.png and ten votes")
    return read, [file], False


def _row(where: str, part: str, cells: list[str]) -> Row:
    name, votes = "".join(cells[:1]), cells[1:]
    whole = part and len(votes) == 10 and all(re.fullmatch(r"[0-9]{1,3}", vote) for vote in votes)
    return Row(where, part, name, tuple(map(int, votes)) if whole else ())


def _require_votes(read: list[Row], file: Path, example: str) -> None:
    if not any(row.votes for row in read):
        raise DatasetError(f"expected rows as {example} in {file}, found none; take the file from microsoft/FERPlus.")


def _pictures(root: Path) -> tuple[Mapping[tuple[str, str], Source], list[LeftOut], list[Path]]:
    """Images by part and name: the PNG files, or else the pixels of fer2013.csv under the names of fer2013new.csv."""
    base = home(root, *FOLDERS.values())
    pictures: dict[tuple[str, str], Source] = {}
    left_out: list[LeftOut] = []
    for part, name in FOLDERS.items():
        folder = optional(base, name)
        images, others = contents(folder, root) if folder and folder.is_dir() else ([], [])
        pictures |= {(part, image): ImageFile(folder / image) for image in images if folder}
        left_out += [
            LeftOut((folder / other).relative_to(root).as_posix(), "not an image file")
            for other in others
            if folder and other.lower() != "label.csv"
        ]
    if pictures:
        return pictures, left_out, []
    tables = home(root, *TABLES)
    table = next((file for name in TABLES if (file := optional(tables, name))), None)
    if table is None:
        raise DatasetError(
            f"expected PNG files in {base / FOLDERS['train']}, or {' or '.join(TABLES)}, found none of them in {root}; "
            "get the images of FER2013, which FER+ may not give out."
        )
    return *_pixels(root, table, left_out), [table]


def _pixels(root: Path, table: Path, left_out: list[LeftOut]) -> tuple[Mapping[tuple[str, str], Source], list[LeftOut]]:
    """Images of fer2013.csv; a row has the name that the same row of fer2013new.csv gives it."""
    names, files, _ = _new_file(root)
    pictures: dict[tuple[str, str], Source] = {}
    for row, name in zip_longest(read_table(table), names):
        if row is None or name is None or (row.usage and name.part and USAGES.get(row.usage) != name.part):
            where = f"row {row.line} of {table}" if row else name.where
            raise DatasetError(
                f"expected {table} and {files[0]} to have the same rows in the same order, found that they part at {where}; "
                "take both as released."
            )
        pixels = read_pixels(row.pixels) if name.name else None
        if pixels is not None:
            pictures[name.part, name.name] = Pixels(table, row.line, SIDE, pixels)
        elif name.name:
            left_out.append(
                LeftOut(f"{table.relative_to(root).as_posix()} row {row.line}", "pixels are not as released")
            )
    return pictures, left_out
