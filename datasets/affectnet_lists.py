"""AffectNet's first release: two lists of photographs, each row with the box, the 68 points and the expression of a face."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.errors import DatasetError
from datasets.layout import columns, contents, home, nested, optional, subfolder, visible
from datasets.listing import Face, LeftOut
from datasets.sources import ImageFile, Points

LISTS = {"train": "training.csv", "val": "validation.csv"}
LISTS_FOLDER = "Manually_Annotated_file_lists"
_COLUMNS = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
_NEEDED = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
_CONTESTED = "two expressions for one face"

Box = tuple[int, int, int, int]


class Row(NamedTuple):
    """A row of training.csv or validation.csv."""

    line: int
    offset: int  # of the line in the file, in bytes
    path: str  # folder/name; "" where the row is damaged
    face: bytes  # path and box as the file spells them
    box: Box | None  # None where there is none
    number: int  # the expression; -1 where it is no number
    landmarks: int  # column of 68 points; -1 without


def read_lists(
    base: Path, root: Path, why_not: Callable[[int], str], left_out: list[LeftOut]
) -> tuple[list[Face], list[Path]]:
    """Faces of the release with lists, and the lists.

    A face with two expressions is left out, as nobody can say which is right.

    Args:
        base: the folder that holds the lists and the photographs.
        root: the one that the user named, to which the names of what is left out are relative.
        why_not: why an expression is not taken; "" where it is.
        left_out: takes what is left out.

    Raises:
        DatasetError: a list or the photographs are missing, or a list lacks a column.

    """
    lists = home(optional(base, LISTS_FOLDER) or base, *LISTS.values())
    files = {part: file for part, name in LISTS.items() if (file := optional(lists, name))}
    if len(files) < len(LISTS):
        missing = " and ".join(name for part, name in LISTS.items() if part not in files)
        raise DatasetError(
            f"expected training.csv and validation.csv in {lists}, found no {missing}; "
            "unpack Manually_Annotated_file_lists into dataset.root."
        )
    photographs = _photographs(base, root, left_out)
    listed: dict[str, set[str]] = {folder: set() for folder in photographs}
    seen: dict[bytes, int] = {}
    contested: set[bytes] = set()
    taken: list[tuple[Face, bytes, int]] = []  # with the face as the file spells it, and the line
    for part, file in files.items():
        where = file.relative_to(root).as_posix()
        for row in _rows(file):
            folder, _, name = row.path.rpartition("/")
            top, names = photographs.get(folder, (root, set()))
            there = name in names
            if there:
                listed[folder].add(name)
            again = row.face in seen
            reason = why_not(row.number)
            if not row.path:
                reason = "row does not have the cells of the first line"
            elif seen.setdefault(row.face, row.number) != row.number:
                contested.add(row.face)
                reason = _CONTESTED
            elif again:
                reason = "the same row again"
            elif not reason and ".." in row.path.split("/"):
                reason = "path leaves the folder of the photographs"
            elif not reason and not there:
                reason = "image is missing"
            elif not reason and row.box is None:
                reason = "no box of a face"
            if reason:
                left_out.append(LeftOut(f"{where} row {row.line}", reason))
                continue
            points = None
            if row.box is not None and row.landmarks >= 0:
                points = partial(_points_of_row, file, row.offset, row.landmarks, row.box)
            face = Face(ImageFile(top / name, row.box, points), row.number, row.path, row.path, part)
            taken.append((face, row.face, row.line))
    faces: list[Face] = []
    for face, spelt, line in taken:
        if spelt in contested:
            left_out.append(LeftOut(f"{files[face.official].relative_to(root).as_posix()} row {line}", _CONTESTED))
        else:
            faces.append(face)
    for folder, (top, names) in photographs.items():
        unlisted = sorted(names - listed[folder])
        left_out += [LeftOut((top / name).relative_to(root).as_posix(), "no row in the lists") for name in unlisted]
    return faces, list(files.values())


def _photographs(base: Path, root: Path, left_out: list[LeftOut]) -> dict[str, tuple[Path, set[str]]]:
    """The numbered folders and the names of the images in them, from one listing of each."""
    spellings = ("Manually_Annotated_Images", "Manually_Annotated")
    top = nested(subfolder(base, *spellings, holds="numbered folders of photographs"), *spellings)
    found: dict[str, tuple[Path, set[str]]] = {}
    for folder in visible(top, root):
        if folder.is_dir():
            names, others = contents(folder, root)
            found[folder.name] = (folder, set(names))
            left_out += [LeftOut((folder / name).relative_to(root).as_posix(), "not an image file") for name in others]
        else:
            left_out.append(LeftOut(folder.relative_to(root).as_posix(), "not a folder of photographs"))
    return found


def _rows(file: Path) -> Iterator[Row]:
    """Rows of a list of some hundred MB, read as bytes, so that landmarks can be found again by their offset.

    The first line names the columns; a validation.csv without such a line is taken too, as some have it [W].

    Raises:
        DatasetError: the file cannot be read, or lacks a column.

    """
    places: dict[str, int] = {}
    offset = 0
    try:
        with file.open("rb") as table:
            for line, text in enumerate(table, 1):
                start, offset = offset, offset + len(text)
                cells = _cells(text)
                if not places:
                    first = [cell.decode(errors="replace") for cell in cells]
                    bare = len(first) == _COLUMNS.count(",") + 1 and "/" in first[0]
                    places = columns(file, _COLUMNS.split(",") if bare else first, *_NEEDED)
                    path, *numbers = (places[name.casefold()] for name in _NEEDED)
                    landmarks = places.get("facial_landmarks", -1)
                    if not bare:
                        continue
                if cells == [b""]:
                    continue
                if len(cells) != len(places):
                    yield Row(line, start, "", b"", None, -1, -1)
                    continue
                *box, number = (_whole(cells[place]) for place in numbers)
                yield Row(
                    line,
                    start,
                    cells[path].decode(errors="replace").replace("\\", "/"),
                    b",".join(cells[place] for place in (path, *numbers[:4])),
                    _box(*box),
                    -1 if number is None else number,
                    landmarks if landmarks >= 0 and cells[landmarks].count(b";") == 2 * 68 - 1 else -1,
                )
    except OSError as error:
        raise DatasetError(f"expected a text table in UTF-8 at {file}, but {error}; take the released file.") from error
    if not places:
        columns(file, [], *_NEEDED)


def _cells(text: bytes) -> list[bytes]:
    """Cells of a line; none of the columns holds a comma, quoted or not."""
    return [cell.strip(b'" ') for cell in text.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n").split(b",")]


def _box(left: int | None, top: int | None, width: int | None, height: int | None) -> Box | None:
    if left is None or top is None or width is None or height is None:
        return None
    # Beyond any photograph, so that damaged numbers do not ask for gigabytes.
    if not 0 < width < 20000 or not 0 < height < 20000 or max(abs(left), abs(top)) > 20000:
        return None
    return left, top, left + width, top + height


def _whole(cell: bytes) -> int | None:
    """A number as 12 or 12.0; None for anything else."""
    try:
        return int(cell)
    except ValueError:
        try:
            return int(number) if (number := float(cell)).is_integer() else None
        except ValueError:
            return None


def _points_of_row(file: Path, offset: int, column: int, box: Box) -> Points:
    """68 points from the list, relative to the corner of the box that is cut out."""
    with file.open("rb") as table:
        table.seek(offset)
        cell = _cells(table.readline())[column]
    try:
        return np.array(cell.split(b";"), np.float64).reshape(68, 2) - box[:2]
    except ValueError as error:
        raise DatasetError(
            f"expected 68 points at byte {offset} of {file}, but {error}; take the released file."
        ) from error
