"""A folder of one's own face images, laid out as CLASS/SUBJECT_rest.png.

Every folder right under the root is a class, named as the folder; every image right in it is a still of one person,
whom the file name tells. Hidden files are passed over, and files that do not end in one of `SUFFIXES` are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.layout import SUFFIXES, contents, root_folder, visible
from datasets.listing import Face, LeftOut, Listing
from datasets.sources import ImageFile

CARD = Card(
    name="folder",
    title="Your own folder",
    description="Your own images: a folder per class, and the person in the file name.",
    classes=(),
    images=None,
    subjects=None,
    people="",
    fold_rule="contiguous",
    folds=5,
    metric="test_accuracy",
    layout=("CLASS/SUBJECT_rest.png (or jpg, tif, bmp, webp)",),
    terms="Yours to know.",
    obtain="Yours already.",
    source="Yours to name.",
)


def scan(root: str | Path, *, subject_pattern: str = r"^([^_]+)_") -> Listing:
    """Find the images of every class folder.

    Args:
        root: the folder of class folders.
        subject_pattern: regular expression searched in the file name; its first group is the subject.

    Raises:
        DatasetError: the folder is not laid out so, or a file name does not tell whom it shows.

    """
    root = root_folder(root, "class folders", "CLASS/SUBJECT_rest.png")
    entries = visible(root, root)
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise DatasetError(f"expected class folders in {root}, found none; lay images out as CLASS/SUBJECT_rest.png.")
    if len(folders) == 1:
        raise DatasetError(
            f"expected at least 2 class folders in {root}, found {folders[0].name!r} only; add a folder per expression."
        )
    expression = _compiled(subject_pattern)
    left_out = [LeftOut(entry.name, "not a class folder") for entry in entries if not entry.is_dir()]
    faces: list[Face] = []
    for label, folder in enumerate(folders):
        images, others = contents(folder, root)
        nested = [name for name in others if (folder / name).is_dir()]
        if nested:
            raise DatasetError(
                f"expected image files only in the class folder {folder}, found the folder {nested[0]!r}; "
                "move its images up, or remove it."
            )
        if not images:
            raise DatasetError(
                f"expected images in the class folder {folder}, found none that ends in {' '.join(SUFFIXES)}; "
                "put images right into it, or remove it."
            )
        left_out += [LeftOut(f"{folder.name}/{name}", "not an image file") for name in others]
        for name in images:
            match = expression.search(name)
            if match is None or not match.group(1):
                raise DatasetError(
                    f"expected a subject in the file name {folder.name}/{name}, found nothing that matches "
                    f"{subject_pattern!r}; rename the file to SUBJECT_rest, or set dataset.subject_pattern."
                )
            faces.append(Face(ImageFile(folder / name), label, match.group(1), f"{folder.name}/{name}"))
    return Listing(root, tuple(folder.name for folder in folders), faces, left_out=left_out)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise DatasetError(
            f"expected subject_pattern to be a regular expression, found {pattern!r}: {error}; mend it."
        ) from error
    if expression.groups < 1:
        raise DatasetError(
            f"expected subject_pattern to hold a group around the subject, found {pattern!r}; put it in parentheses."
        )
    return expression
