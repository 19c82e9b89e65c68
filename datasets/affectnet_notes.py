"""AffectNet's newer release: images that are cut to the face already, and a small file for each label."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from datasets.errors import DatasetError
from datasets.layout import contents, home, subfolder
from datasets.listing import Face, LeftOut
from datasets.sources import ImageFile, Points

FOLDERS = {"train": "train_set", "val": "val_set"}
_LIMIT = 10_000  # bytes of a .npy file: a number, or 136 of 8 bytes, and their head; more is not read


def read_notes(
    base: Path, root: Path, why_not: Callable[[int], str], left_out: list[LeftOut]
) -> tuple[list[Face], list[Path]]:
    """Faces of the release with a file for each label, and the files of their landmarks; labels are in the faces, once read.

    Args:
        base: the folder that holds train_set and val_set.
        root: the one that the user named, to which the names of what is left out are relative.
        why_not: why an expression is not taken; "" where it is.
        left_out: takes what is left out.

    Raises:
        DatasetError: a folder is missing.

    """
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
                reason = why_not(number)
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
