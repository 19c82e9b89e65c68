"""JAFFE, the Japanese Female Facial Expression dataset: stills of ten women.

A name says all: KA.AN1.39.tiff is subject KA, anger, take 1, serial number 39. Copies lie flat, in `jaffe` or `jaffedbase`, or sorted into
folders; some leave the serial number out, or add the suffix of another format, as KA.AN1.39.tiff.bmp.
"""

from __future__ import annotations

import re
from pathlib import Path

from datasets.card import Card
from datasets.layout import images_below, require_faces, root_folder
from datasets.listing import Face, LeftOut, Listing
from datasets.sources import ImageFile

_CODES = ("NE", "AN", "DI", "FE", "HA", "SA", "SU")
# Images by expression, in the order of the codes [R].
_COUNTS = (30, 30, 29, 32, 31, 31, 30)
_SUBJECTS = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")

CARD = Card(
    name="jaffe",
    title="JAFFE",
    description="Posed expressions of ten Japanese women: 213 grey stills of 256 x 256 pixels, two to four of each expression.",
    classes=("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise"),
    images=213,
    subjects=10,
    people="jaffe",
    fold_rule="leave_one_out",
    folds=None,
    metric="test_accuracy",
    layout=("KA.AN1.39.tiff (at any depth)",),
    terms="Non-commercial research; no redistribution; few images may be printed.",
    obtain="On request: https://zenodo.org/records/3451524",
    source=(
        "M. J. Lyons, S. Akamatsu, M. Kamachi, J. Gyoba: Coding Facial Expressions with Gabor Wavelets. "
        "IEEE International Conference on Automatic Face and Gesture Recognition 1998."
    ),
)

_NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d)(\.\d{1,3})?(\.tiff?)?\.[a-z]+", re.IGNORECASE)


def scan(root: str | Path) -> Listing:
    """Find the images at any depth; of two files of one name the first by path is taken.

    Args:
        root: the folder that holds them.

    Raises:
        DatasetError: there is none.

    """
    root = root_folder(root, CARD.title, "KA.AN1.39.tiff and the others")
    faces: list[Face] = []
    left_out: list[LeftOut] = []
    taken: dict[tuple[str, ...], set[str]] = {}
    for file in images_below(root, root):
        match = _NAME.fullmatch(file.name)
        subject, code, take, serial = (match[part].upper() if match and match[part] else "" for part in range(1, 5))
        if not match or subject not in _SUBJECTS or code not in _CODES:
            left_out.append(LeftOut(file.relative_to(root).as_posix(), "not named as KA.AN1.39.tiff"))
            continue
        serials = taken.setdefault((subject, code, take), set())
        if serials & {serial, ""} or (serials and not serial):
            left_out.append(LeftOut(file.relative_to(root).as_posix(), "two files of one name"))
        else:
            serials.add(serial)
            faces.append(Face(ImageFile(file), _CODES.index(code), subject, f"{subject}.{code}{take}{serial}"))
    require_faces(faces, left_out, root, CARD.title)
    return Listing(root, CARD.classes, faces, [], left_out, {"": dict(zip(CARD.classes, _COUNTS, strict=True))})
