"""Miniature of AffectNet: the release with lists and photographs, and the newer one with a file for each label."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.datasets.miniatures import Expected, face

CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
NOT_CLASSES = {8: "expression 8: none", 9: "expression 9: uncertain", 10: "expression 10: no face"}


def landmarks(size: int = 48) -> np.ndarray:
    """68 points (68, 2) of a drawn face: the eyes, 36 to 47, where they are about, the others round them."""
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([0.5 + 0.3 * np.cos(turn), 0.55 + 0.35 * np.sin(turn)], 1)
    six = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    for first, centre in ((36, 0.36), (42, 0.64)):
        points[first : first + 6] = np.stack([centre - 0.05 * np.cos(six), 0.45 - 0.02 * np.sin(six)], 1)
    return points * size


def rows(people: int) -> list[tuple[str, int, Image.Image]]:
    """Part, expression and face: every person and class in both parts, and in training one of each that is no class."""
    found = [
        (part, number, face(person, word, part == "val"))
        for part in ("train", "val")
        for person in range(people)
        for number, word in enumerate(CLASSES)
    ]
    return found + [("train", number, face(people, "neutral", number - 8)) for number in NOT_CLASSES]


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """Spelling 1 is the newer release, its labels as text or as numbers, in a folder in a folder.

    Spelling 2 is the older one with its lists and photographs in folders of their own, BOM and CRLF, and a validation.csv without header.
    """
    if spelling == 1:
        _newer(root, people)
    else:
        _older(root, people, spelling)
    counts = dict.fromkeys(CLASSES, people)
    return Expected(
        classes=CLASSES,
        counts={"train": counts, "val": counts},
        subjects=16 * people,
        sequences=16 * people,
        left_out=dict.fromkeys(NOT_CLASSES.values(), 1),
    )


def _older(root: Path, people: int, spelling: int) -> None:
    lists = root / "Manually_Annotated_file_lists" if spelling else root
    images = (
        root / "Manually_Annotated" / "Manually_Annotated_Images" if spelling else root / "Manually_Annotated_Images"
    )
    lists.mkdir(exist_ok=True)
    lines: dict[str, list[str]] = {"train": [HEADER], "val": [] if spelling else [HEADER]}
    for index, (part, number, picture) in enumerate(rows(people)):
        left, top = 5 + index % 3, 9
        photograph = Image.new("RGB", (70, 64), (90, 120, 60))
        photograph.paste(picture, (left, top))
        path = f"{index % 4 + 1}/{index:056x}.{'JPG' if index == 1 else 'jpg'}"
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        photograph.save(images / path, format="JPEG", quality=95)
        points = ";".join(f"{value:.2f}" for value in (landmarks() + np.array([left, top])).ravel())
        feeling = "-2,-2" if number > 7 else "0.12,-0.0635"
        lines[part].append(f"{path},{left},{top},48,48,{points},{number},{feeling}")
    end = "\r\n" if spelling else "\n"
    for part, name in (("train", "training.csv"), ("val", "validation.csv")):
        bom = b"\xef\xbb\xbf" if spelling else b""
        (lists / name).write_bytes(bom + "".join(f"{line}{end}" for line in lines[part]).encode())


def _newer(root: Path, people: int) -> None:
    for index, (part, number, picture) in enumerate(rows(people)):
        folder = root / "AffectNet" / f"{part}_set"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        picture.save(folder / "images" / f"{index}.jpg", quality=95)
        label = (np.array(str(number)), np.array(number), np.array([float(number)]))[index % 3]
        np.save(folder / "annotations" / f"{index}_exp.npy", label)
        np.save(folder / "annotations" / f"{index}_val.npy", np.array("0.12"))
        np.save(folder / "annotations" / f"{index}_aro.npy", np.array("-0.06"))
        np.save(folder / "annotations" / f"{index}_lnd.npy", landmarks().ravel())
