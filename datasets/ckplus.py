"""CK+, the Extended Cohn-Kanade Dataset: sequences from the neutral face to the peak of a posed expression.

The readme of the release says: 593 sequences of 123 people, each numbered from the neutral face to the peak; a file of one float names
the expression of 327 sequences of 118 people; 68 landmarks a frame. The field takes the last three frames of each labelled sequence
for its expression and, where it counts eight classes, the first frame for neutral.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.layout import contents, home, nested, optional, require_faces, root_folder, subfolder, visible
from datasets.listing import Face, LeftOut, Listing
from datasets.options import at_least, one_of
from datasets.sources import ImageFile, Points

# By official id, 0 to 7.
EXPRESSIONS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
# Labelled sequences by expression [W: readme].
SEQUENCES = {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happiness": 69, "sadness": 28, "surprise": 83}

CARD = Card(
    name="ckplus",
    title="CK+",
    description=(
        "Posed expressions of 123 adults, each a grey or colour film from the neutral face to the peak; "
        "327 of 593 films are labelled, by FACS coders."
    ),
    classes=EXPRESSIONS[1:],
    images=981,
    subjects=118,
    people="ckplus",
    fold_rule="contiguous",
    folds=10,
    metric="test_accuracy",
    layout=(
        "cohn-kanade-images/S005/001/S005_001_00000011.png",
        "Emotion/S005/001/S005_001_00000011_emotion.txt",
        "Landmarks/S005/001/S005_001_00000011_landmarks.txt (optional, for alignment)",
    ),
    terms="Research only; signed agreement; images of few consenting people may be printed.",
    obtain="Agreement with the authors: https://www.jeffcohn.net/Resources/",
    source=(
        "P. Lucey, J. F. Cohn, T. Kanade, J. Saragih, Z. Ambadar, I. Matthews: The Extended Cohn-Kanade Dataset (CK+): A complete "
        "dataset for action unit and emotion-specified expression. CVPR Workshops 2010."
    ),
)

_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images")
_LABELS = ("Emotion", "Emotion_labels")
_FRAME = re.compile(r"(S\d{3}_\d{3})_(\d{8})\.[a-z]+", re.IGNORECASE)
_LIMIT = 100_000  # characters of a file of landmarks, which has some thousand; more is not read
_LABEL = re.compile(r"(S\d{3}_\d{3})_(\d{8})_emotion\.txt", re.IGNORECASE)


def scan(root: str | Path, *, classes: int = 7, frames: int = 3) -> Listing:
    """Find the frames of every labelled sequence.

    The frames of an expression are the last ones up to the frame that the label file names, which in the release is the last of all;
    where that frame is missing the copy is not whole, and the sequence is left out. Frames count by their order, as numbers have gaps.

    Args:
        root: the folder that holds `cohn-kanade-images` and `Emotion`.
        classes: 7; 8 with neutral, the first frame of each labelled sequence; or 6, without contempt.
        frames: how many frames before and at the peak.

    Raises:
        DatasetError: the folders are not there or hold no labelled sequence, or an option is out of its range.

    """
    one_of("classes", classes, (6, 7, 8))
    at_least("frames", frames, 1)
    root = root_folder(root, CARD.title, "cohn-kanade-images and Emotion")
    top = home(root, *_IMAGES)
    films = nested(subfolder(top, *_IMAGES, holds="the frames"), *_IMAGES)
    labels = nested(subfolder(top, *_LABELS, holds="the expressions"), *_LABELS)
    landmarks = optional(top, "Landmarks")
    landmarks = landmarks and nested(landmarks, "Landmarks")

    absent = {8: (), 7: ("neutral",), 6: ("neutral", "contempt")}[classes]
    names = tuple(word for word in EXPRESSIONS if word not in absent)
    faces: list[Face] = []
    files: list[Path] = []
    left_out: list[LeftOut] = []
    found = _labels(labels, root, left_out)
    for sequence, folder in _sequences(films, root, left_out).items():
        place = folder.relative_to(root).as_posix()
        if sequence not in found:
            left_out.append(LeftOut(place, "unlabelled sequence"))
            continue
        label = found.pop(sequence)
        files.append(label.file)
        taken = _frames(folder, sequence, root, left_out)
        expression = EXPRESSIONS[label.official]
        reason = label.wrong
        if not reason and expression not in names:
            reason = f"{expression}, not among the {classes} classes"
        elif not reason and label.frame not in taken:
            reason = "the frame that its label names is missing"
        elif not reason and sum(number <= label.frame for number in taken) < frames + (classes == 8):
            reason = "fewer frames than asked for"
        if reason:
            left_out.append(LeftOut(place, reason))
            continue
        images = [taken[number] for number in sorted(taken) if number <= label.frame]
        points = _landmark_files(landmarks, sequence)
        first = [("neutral", images[0])] if classes == 8 else []
        for word, image in first + [(expression, image) for image in images[-frames:]]:
            points_file = points.get(f"{image.stem}_landmarks.txt".casefold())
            if points_file and not points_file.is_file():
                points_file = None
            files += [points_file] if points_file else []
            source = ImageFile(image, points=partial(read_landmarks, points_file) if points_file else None)
            faces.append(Face(source, names.index(word), sequence[:4], sequence))
    for label in found.values():
        left_out.append(LeftOut(label.file.relative_to(root).as_posix(), "label of a missing sequence"))
    require_faces(faces, left_out, root, CARD.title)
    expected = {word: frames * SEQUENCES[word] if word in SEQUENCES else sum(SEQUENCES.values()) for word in names}
    return Listing(root, names, faces, files, left_out, {"": expected})


def read_landmarks(file: Path) -> Points:
    """The 68 points of a frame: lines of x and y.

    Raises:
        DatasetError: the file holds something else.

    """
    try:
        with file.open(encoding="utf-8-sig") as opened:
            text = opened.read(_LIMIT)
        points = np.array([line.split() for line in text.splitlines() if line.strip()], np.float64)
    except (OSError, ValueError) as error:
        raise DatasetError(f"expected 68 lines of x and y in {file}, but {error}; take the released file.") from error
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise DatasetError(f"expected 68 lines of x and y in {file}, found {len(points)}; take the released file.")
    return points


class _Label(NamedTuple):
    file: Path
    official: int  # id, 1 to 7
    frame: int  # that the name of the file tells
    wrong: str = ""  # reason for not taking it


def _labels(folder: Path, root: Path, left_out: list[LeftOut]) -> dict[str, _Label]:
    """Label by sequence."""
    found: dict[str, _Label] = {}
    for subject in visible(folder, root):
        for take in visible(subject, root) if subject.is_dir() else ():
            sequence = f"{subject.name}_{take.name}".upper()
            for file in visible(take, root) if take.is_dir() else ():
                match = _LABEL.fullmatch(file.name)
                if not match or match[1].upper() != sequence or not file.is_file():
                    place = file.relative_to(root).as_posix()
                    left_out.append(LeftOut(place, "not named as a label file of its folder"))
                else:
                    official, wrong = _official(file)
                    wrong = "two label files" if sequence in found else wrong
                    found[sequence] = _Label(file, official, int(match[2]), wrong)
    return found


def _official(file: Path) -> tuple[int, str]:
    """The id in a label file, as `   3.0000000e+00`; and what is wrong with it."""
    try:
        with file.open("rb") as opened:
            text = opened.read(1000).decode("utf-8-sig").strip()
        if not text:
            return 0, "label file is empty"
        value = float(text)
    except (OSError, ValueError):
        return 0, "label is not a number"
    return (int(value), "") if value in range(1, 8) else (0, "label is none of 1 to 7")


def _sequences(films: Path, root: Path, left_out: list[LeftOut]) -> dict[str, Path]:
    """Folder of each sequence by its name, S005_001."""
    found: dict[str, Path] = {}
    for subject in visible(films, root):
        for take in visible(subject, root) if subject.is_dir() else ():
            sequence = f"{subject.name}_{take.name}".upper()
            if take.is_dir() and re.fullmatch(r"S\d{3}_\d{3}", sequence) and sequence not in found:
                found[sequence] = take
            else:
                left_out.append(LeftOut(take.relative_to(root).as_posix(), "not a folder of a sequence"))
        if not subject.is_dir():
            left_out.append(LeftOut(subject.relative_to(root).as_posix(), "not a folder of a subject"))
    return found


def _frames(folder: Path, sequence: str, root: Path, left_out: list[LeftOut]) -> dict[int, Path]:
    """Image file by frame number."""
    found: dict[int, Path] = {}
    images, others = contents(folder, root)
    left_out += [LeftOut((folder / name).relative_to(root).as_posix(), "not an image file") for name in others]
    for name in images:
        match = _FRAME.fullmatch(name)
        named = match is not None and match[1].upper() == sequence
        if match and named and int(match[2]) not in found:
            found[int(match[2])] = folder / name
        else:
            reason = "two files of one frame" if named else "not named as a frame of its folder"
            left_out.append(LeftOut((folder / name).relative_to(root).as_posix(), reason))
    return found


def _landmark_files(folder: Path | None, sequence: str) -> dict[str, Path]:
    """Landmark files of a sequence by their name in lower case."""
    for name in (sequence[:4], sequence[5:]):
        folder = optional(folder, name) if folder and folder.is_dir() else None
    return {file.name.casefold(): file for file in visible(folder, folder)} if folder and folder.is_dir() else {}
