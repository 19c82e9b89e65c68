"""BU-3DFE, the Binghamton University 3D Facial Expression database: here the textures of its scans, images of the face.

F0001_AN01WH_F2D.bmp is woman 1, anger of level 1, white, texture; neutral has the level 00. The scans themselves (.wrl), their points
(.bnd) and the raw textures (RAW) are passed over.
"""

from __future__ import annotations

import re
from pathlib import Path

from datasets.card import Card
from datasets.layout import images_below, require_faces, root_folder
from datasets.listing import Face, LeftOut, Listing
from datasets.options import one_of
from datasets.sources import ImageFile

_CODES = ("NE", "AN", "DI", "FE", "HA", "SA", "SU")
_SUBJECTS = {*(f"F{number:04d}" for number in range(1, 57)), *(f"M{number:04d}" for number in range(1, 45))}

CARD = Card(
    name="bu3dfe",
    title="BU-3DFE",
    description="Posed expressions of 100 adults at four levels and one neutral face, scanned in 3D: 25 textures a person.",
    classes=("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise"),
    images=2500,
    subjects=100,
    people="bu3dfe",
    fold_rule="contiguous",
    folds=10,
    metric="test_accuracy",
    layout=("F0001/F0001_AN01WH_F2D.bmp (or all in one folder)",),
    terms="Research only; signed licence agreement; a fee.",
    obtain="Licence of Binghamton University: https://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html",
    source=(
        "L. Yin, X. Wei, Y. Sun, J. Wang, M. J. Rosato: A 3D Facial Expression Database For Facial Behavior Research. "
        "IEEE International Conference on Automatic Face and Gesture Recognition 2006."
    ),
)

_NAME = re.compile(r"([FM]\d{4})_([A-Z]{2})(0[0-4])([A-Z]{2})_F2D\.[a-z]+", re.IGNORECASE)


def scan(root: str | Path, *, min_level: int = 1) -> Listing:
    """Find the textures at any depth; of two files of one subject, expression and level the first by path is taken.

    Args:
        root: the folder that holds F0001 to M0044, or all the textures.
        min_level: the least level of an expression, 1 to 4; neutral has none and is always taken.

    Raises:
        DatasetError: there is none, or `min_level` is out of its range.

    """
    one_of("min_level", min_level, (1, 2, 3, 4))
    root = root_folder(root, CARD.title, "F0001 to M0044")
    faces: list[Face] = []
    left_out: list[LeftOut] = []
    taken: set[tuple[str, ...]] = set()
    for file in images_below(root, root):
        if "_RAW" in file.stem.upper():
            continue
        reason, match = "", _NAME.fullmatch(file.name)
        subject, code, level = (match[part].upper() if match else "" for part in range(1, 4))
        above = file.parent.name.upper()
        if subject not in _SUBJECTS or code not in _CODES or (code == "NE") != (level == "00"):
            reason = "not named as F0001_AN01WH_F2D"
        elif re.fullmatch(r"[FM]\d{4}", above) and above != subject:
            reason = "in the folder of another subject"
        elif code != "NE" and int(level) < min_level:
            reason = "level below min_level"
        elif (subject, code, level) in taken:
            reason = "two files of one scan"
        if reason:
            left_out.append(LeftOut(file.relative_to(root).as_posix(), reason))
            continue
        taken.add((subject, code, level))
        faces.append(Face(ImageFile(file), _CODES.index(code), subject, f"{subject}_{code}{level}"))
    require_faces(faces, left_out, root, CARD.title)
    levels = {word: 100 if word == "neutral" else 100 * (5 - min_level) for word in CARD.classes}
    return Listing(root, CARD.classes, faces, [], left_out, {"": levels})
