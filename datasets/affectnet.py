"""AffectNet, the part that people annotated.

Mollahosseini, Hasani and Mahoor, "AffectNet: A Database for Facial Expression, Valence, and Arousal Computing in the Wild", IEEE
Transactions on Affective Computing 10(1), 2019. The labels of its test part are withheld: the field reports the validation part, which is
even over the classes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from datasets.affectnet_lists import LISTS, LISTS_FOLDER, read_lists
from datasets.affectnet_notes import FOLDERS, read_notes
from datasets.card import Card
from datasets.errors import DatasetError
from datasets.layout import home, optional, require_faces, root_folder
from datasets.listing import LeftOut, Listing
from datasets.options import one_of

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


def scan(root: str | Path, *, release: str = "auto", classes: int = 8) -> Listing:
    """Find the images, their labels, and their landmarks.

    Args:
        root: the folder that holds training.csv and Manually_Annotated_Images, or train_set and val_set.
        release: "csv", whose photographs are cut to the box of the face; "npy", the newer one, whose images are cut already; "auto",
            the one that is there.
        classes: 8, or 7 for those without contempt.

    Raises:
        DatasetError: label files or images are missing, or both releases are there.

    """
    one_of("release", release, ("auto", "csv", "npy"))
    one_of("classes", classes, (7, 8))
    root = root_folder(root, CARD.title, "training.csv and Manually_Annotated_Images, or train_set and val_set")
    base = home(root, *LISTS.values(), LISTS_FOLDER, *FOLDERS.values())
    there = [
        name
        for name, markers in (("csv", (LISTS["train"], LISTS_FOLDER)), ("npy", (FOLDERS["train"],)))
        if any(optional(base, marker) for marker in markers)
    ]
    if release == "auto" and len(there) > 1:
        raise DatasetError(f"expected one release of AffectNet in {base}, found both; set dataset.release=csv or npy.")
    words = CLASSES[:classes]
    left_out: list[LeftOut] = []
    newer = there == ["npy"] if release == "auto" else release == "npy"
    with _no_collection():
        faces, files = (read_notes if newer else read_lists)(base, root, partial(_why_not, words), left_out)
    require_faces(faces, left_out, root, CARD.title, tuple(LISTS))
    expected = {part: {word: counts[word] for word in words} for part, counts in EXPECTED.items()}
    return Listing(root, words, faces, files, left_out, {} if newer else expected)


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


def _why_not(words: tuple[str, ...], number: int) -> str:
    """Why an expression is not taken; "" where it is."""
    if 0 <= number < len(words):
        return ""
    return "contempt, with classes=7" if number == 7 else NOT_CLASSES.get(number, "expression is none of 0 to 10")
