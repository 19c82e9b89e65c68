"""CK+48: the last three frames of every labelled sequence of CK+, cut to the face and scaled to 48 x 48 by someone else.

Measured on the public copy [D]: 981 grey PNG files, 118 people, 327 sequences of exactly three consecutive frames, one class a sequence.
There is no neutral class, and no original to align again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from datasets.card import Card
from datasets.ckplus import SEQUENCES
from datasets.layout import home, labelled_images, require_faces, root_folder
from datasets.listing import Face, LeftOut, Listing
from datasets.sources import ImageFile

CARD = Card(
    name="ckplus48",
    title="CK+48",
    description="The last three frames of the 327 labelled sequences of CK+, cut to the face, grey, 48 x 48 pixels.",
    classes=tuple(SEQUENCES),
    images=981,
    subjects=118,
    people="ckplus",
    fold_rule="contiguous",
    folds=10,
    metric="test_accuracy",
    layout=("anger/S010_004_00000017.png", "contempt/, disgust/, fear/, happy/, sadness/, surprise/ alike"),
    terms="The faces are those of CK+: its agreement governs them, whatever a copy says.",
    obtain="From Kaggle: https://www.kaggle.com/datasets/shawon10/ckplus; the agreement as for CK+.",
    source=(
        "P. Lucey, J. F. Cohn, T. Kanade, J. Saragih, Z. Ambadar, I. Matthews: The Extended Cohn-Kanade Dataset (CK+): A complete "
        "dataset for action unit and emotion-specified expression. CVPR Workshops 2010."
    ),
)

_NAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})\.[a-z]+", re.IGNORECASE)


def scan(root: str | Path) -> Listing:
    """Find the images of every class folder.

    A sequence in two classes is left out whole, as nobody can say which is right; of two files of one frame the first is taken.

    Args:
        root: the folder that holds `anger`, `contempt`, `disgust`, `fear`, `happy`, `sadness` and `surprise`.

    Raises:
        DatasetError: a class folder is missing, or there is no image.

    """
    root = root_folder(root, CARD.title, "the seven class folders")
    images, left_out = labelled_images(home(root, "contempt"), CARD.classes, root)
    matched: list[tuple[int, Path, str]] = []
    labels: dict[str, set[int]] = defaultdict(set)
    for label, file in images:
        if match := _NAME.fullmatch(file.name):
            sequence = f"{match[1]}_{match[2]}".upper()
            labels[sequence].add(label)
            matched.append((label, file, sequence))
        else:
            left_out.append(LeftOut(file.relative_to(root).as_posix(), "not named S000_000_00000000"))
    faces: list[Face] = []
    taken: set[str] = set()
    for label, file, sequence in matched:
        frame = file.stem.upper()
        if len(labels[sequence]) > 1 or frame in taken:
            reason = "sequence in two class folders" if len(labels[sequence]) > 1 else "two files of one frame"
            left_out.append(LeftOut(file.relative_to(root).as_posix(), reason))
            continue
        taken.add(frame)
        faces.append(Face(ImageFile(file), label, sequence[:4], sequence))
    require_faces(faces, left_out, root, CARD.title)
    return Listing(
        root, CARD.classes, faces, [], left_out, {"": {word: 3 * count for word, count in SEQUENCES.items()}}
    )
