"""Miniature of FER2013: fer2013.csv, icml_face_data.csv, and Kaggle's folders, all with the same 48 x 48 faces."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.datasets.miniatures import Expected, face

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
FOLDERS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}


def pictures(people: int) -> list[tuple[str, int, Image.Image]]:
    """Usage, label and grey image, in the order of the rows."""
    return [
        (usage, label, face(person, CLASSES[label], take).convert("L"))
        for take, usage in enumerate(USAGES)
        for person in range(people)
        for label in range(7)
    ]


def spelt(picture: Image.Image) -> str:
    """The pixels as the tables hold them."""
    return " ".join(map(str, np.asarray(picture).ravel()))


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """An image of every person and class in each of the three parts.

    Spelling 1 is icml_face_data.csv in the folder that the archive unpacks to, with BOM and CRLF; spelling 2 is Kaggle's folders.
    """
    rows = pictures(people)
    if spelling == 2:
        for index, (usage, label, picture) in enumerate(rows):
            folder = root / ("train" if usage == "Training" else "test") / FOLDERS[label]
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{usage}_{10131363 + index}.jpg")
    elif spelling == 1:
        (root / "fer2013").mkdir()
        lines = ["emotion, Usage, pixels", *(f"{label},{usage},{spelt(picture)}" for usage, label, picture in rows)]
        text = "".join(f"{line}\r\n" for line in lines)
        (root / "fer2013" / "icml_face_data.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    else:
        lines = ["emotion,pixels,Usage", *(f"{label},{spelt(picture)},{usage}" for usage, label, picture in rows)]
        (root / "fer2013.csv").write_bytes("".join(f"{line}\n" for line in lines).encode())
    counts = dict.fromkeys(CLASSES, people)
    return Expected(
        classes=CLASSES,
        counts=dict.fromkeys(USAGES.values(), counts),
        subjects=21 * people,
        sequences=21 * people,
    )
