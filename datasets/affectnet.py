"""AffectNet, the part that people annotated.

Mollahosseini, Hasani and Mahoor, "AffectNet: A Database for Facial Expression, Valence, and Arousal Computing in the Wild", IEEE
Transactions on Affective Computing 10(1), 2019. The labels of its test part are withheld: the field reports the validation part, which is
even over the classes.
"""

from __future__ import annotations

import codecs
import gc
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.layout import (
    columns,
    contents,
    home,
    nested,
    optional,
    require_faces,
    root_folder,
    subfolder,
    visible,
)
from datasets.listing import Face, LeftOut, Listing
from datasets.options import one_of
from datasets.sources import ImageFile, Points

CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")  # Released as 0 to 7.
NOT_CLASSES = {8: "expression 8: none", 9: "expression 9: uncertain", 10: "expression 10: no face"}

# Training from memory of the paper [R]; validation: 500 each [R], of which a public notebook confirms the sum.
EXPECTED = {
    "train": dict(zip(CLASSES, (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750), strict=True)),
    "val": dict.fromkeys(CLASSES, 500),
}

CARD = Card(
    name="affectnet",
    title="AffectNet",
    description="Photographs found by 1,250 words in an image search, each labelled by one of twelve people: eight expressions.",
    classes=CLASSES,
    images=291651,
    subjects=None,
    people="affectnet",
    fold_rule="official",
    folds=1,
    metric="test_accuracy",
    layout=(
        "training.csv, validation.csv (or in Manually_Annotated_file_lists)",
        "Manually_Annotated_Images/689/*.jpg (or Manually_Annotated/Manually_Annotated_Images/...)",
        "or the newer release: train_set/images/0.jpg, train_set/annotations/0_exp.npy, val_set/...",
    ),
    terms="agreement with the University of Denver: research only, no redistribution",
    obtain="request form of the authors: mohammadmahoor.com/affectnet",
    source="Mollahosseini, Hasani and Mahoor, IEEE Transactions on Affective Computing 10(1), 2019",
)

LISTS = {"train": "training.csv", "val": "validation.csv"}
FOLDERS = {"train": "train_set", "val": "val_set"}
_COLUMNS = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
_NEEDED = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
_LIMIT = 10_000  # bytes of a .npy file: a number, or 136 of 8 bytes, and their head; more is not read

Box = tuple[int, int, int, int]


def scan(root: str | Path, *, release: str = "auto", classes: int = 8) -> Listing:
    """Find the images, their labels, and their landmarks.

    Args:
        root: the folder that holds training.csv and Manually_Annotated_Images, or train_set and val_set.
        release: "csv", whose photographs are cut to the box of the face; "npy", the newer one, whose images are cut already; "auto",
            the one that is there.
        classes: 8, or 7 for those without contempt.

    Raises:
        DatasetError: label files or images are missing, both releases are there, or labels contradict each other.

    """
    one_of("release", release, ("auto", "csv", "npy"))
    one_of("classes", classes, (7, 8))
    root = root_folder(root, CARD.title, "training.csv and Manually_Annotated_Images, or train_set and val_set")
    base = home(root, *LISTS.values(), "Manually_Annotated_file_lists", *FOLDERS.values())
    there = [
        name
        for name, markers in (("csv", (LISTS["train"], "Manually_Annotated_file_lists")), ("npy", (FOLDERS["train"],)))
        if any(optional(base, marker) for marker in markers)
    ]
    if release == "auto" and len(there) > 1:
        raise DatasetError(f"expected one release of AffectNet in {base}, found both; set dataset.release=csv or npy.")
    words = CLASSES[:classes]
    left_out: list[LeftOut] = []
    read = _npy if (there == ["npy"] if release == "auto" else release == "npy") else _csv
    with _no_collection():
        faces, files = read(base, root, words, left_out)
    require_faces(faces, left_out, root, CARD.title, tuple(LISTS))
    expected = {part: {word: counts[word] for word in words} for part, counts in EXPECTED.items()}
    return Listing(root, words, faces, files, left_out, expected if read is _csv else {})


class Row(NamedTuple):
    """A row of training.csv or validation.csv."""

    line: int
    offset: int  # of the line in the file, in bytes
    path: str  # folder/name; "" where the row is damaged
    face: bytes  # path and box as the file spells them
    box: Box | None  # None where there is none
    number: int  # the expression; -1 where it is no number
    landmarks: int  # column of 68 points; -1 without


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without a search for garbage: there is none among the millions of small objects, and the search doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _why_not(number: int, words: tuple[str, ...]) -> str:
    """Why an expression is not taken; "" where it is."""
    if 0 <= number < len(words):
        return ""
    return "contempt, with classes=7" if number == 7 else NOT_CLASSES.get(number, "expression is none of 0 to 10")


def _csv(base: Path, root: Path, words: tuple[str, ...], left_out: list[LeftOut]) -> tuple[list[Face], list[Path]]:
    """Faces of the release with lists, and the lists."""
    lists = home(optional(base, "Manually_Annotated_file_lists") or base, *LISTS.values())
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
    faces: list[Face] = []
    for part, file in files.items():
        where = file.relative_to(root).as_posix()
        for row in _rows(file):
            folder, _, name = row.path.rpartition("/")
            top, names = photographs.get(folder, (root, set()))
            there = name in names
            if there:
                listed[folder].add(name)
            again = row.face in seen
            if row.path and seen.setdefault(row.face, row.number) != row.number:
                raise DatasetError(
                    f"expected one expression for {row.path}, found {seen[row.face]} and, in row {row.line} of {file}, "
                    f"{row.number}; take the released lists."
                )
            reason = _why_not(row.number, words)
            if not row.path:
                reason = "row does not have the cells of the first line"
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
            faces.append(Face(ImageFile(top / name, row.box, points), row.number, row.path, row.path, part))
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


def _npy(base: Path, root: Path, words: tuple[str, ...], left_out: list[LeftOut]) -> tuple[list[Face], list[Path]]:
    """Faces of the release with a file for each label, and the files of their landmarks; labels are in the faces, once read."""
    faces: list[Face] = []
    files: list[Path] = []
    numbers: dict[bytes, int] = {}  # Of the few different contents that the many small files have.
    for part, name in FOLDERS.items():
        folder = home(subfolder(base, name, holds="images and annotations"), "annotations")
        images = subfolder(folder, "images", holds="N.jpg")
        annotations = subfolder(folder, "annotations", holds="N_exp.npy")
        pictures, others = contents(images, root)
        notes = set(contents(annotations, root)[1])
        left_out += [LeftOut((images / other).relative_to(root).as_posix(), "not an image file") for other in others]
        used: set[str] = set()
        for picture in pictures:
            stem = picture.rpartition(".")[0]
            note = f"{stem}_exp.npy"
            reason = "no annotation" if note not in notes else "the same image again" if note in used else ""
            number = -1
            if not reason:
                used.add(note)
                number = _number_in(annotations / note, numbers)
                reason = _why_not(number, words)
            if reason:
                left_out.append(LeftOut((images / picture).relative_to(root).as_posix(), reason))
                continue
            landmarks = annotations / f"{stem}_lnd.npy"
            points = partial(_points_in, landmarks) if landmarks.name in notes else None
            files += [landmarks] if points else []
            own = f"{part}/{picture}"
            faces.append(Face(ImageFile(images / picture, None, points), number, own, own, part))
        unused = sorted(note for note in notes - used if note.endswith("_exp.npy"))
        left_out += [LeftOut((annotations / note).relative_to(root).as_posix(), "image is missing") for note in unused]
    return faces, files


def _number_in(file: Path, numbers: dict[bytes, int]) -> int:
    """The one number, be it of text, whole or not, of an array of any shape; -1 where the file holds anything else."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(_LIMIT)
        if raw not in numbers:
            number = float(np.load(io.BytesIO(raw), allow_pickle=False).item())
            numbers[raw] = int(number) if number.is_integer() else -1
        return numbers[raw]
    except Exception:  # NumPy raises errors of many kinds on damaged files.
        return -1


def _points_in(file: Path) -> Points:
    try:
        with file.open("rb") as opened:
            return np.load(io.BytesIO(opened.read(_LIMIT)), allow_pickle=False).astype(np.float64).reshape(68, 2)
    except Exception as error:
        raise DatasetError(f"expected 68 points in {file}, but {error}; take the released file.") from error
