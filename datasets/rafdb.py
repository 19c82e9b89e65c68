"""RAF-DB, the basic expressions of the Real-world Affective Faces Database.

Li, Deng and Du, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the Wild", CVPR 2017. The names
of the images fix the split. The field reports accuracy and, as the classes are uneven, mean class accuracy (`test_balanced_accuracy`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.layout import (
    columns,
    home,
    innermost,
    labelled_images,
    optional,
    require_faces,
    root_folder,
    rows,
    subfolder,
)
from datasets.listing import Face, LeftOut, Listing
from datasets.options import one_of
from datasets.sources import ImageFile

CLASSES = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")  # Released as 1 to 7.

# As counted in public code; the readme has the sums, 12,271 and 3,068.
EXPECTED = {
    "train": dict(zip(CLASSES, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
    "test": dict(zip(CLASSES, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
}

CARD = Card(
    name="rafdb",
    title="RAF-DB (basic)",
    description="Photographs from the internet, each labelled by about 40 people: seven basic expressions.",
    classes=CLASSES,
    images=15339,
    subjects=None,
    people="rafdb",
    fold_rule="official",
    folds=1,
    metric="test_accuracy",
    layout=(
        "EmoLabel/list_patition_label.txt (or list_partition_label.txt): train_00001.jpg 5",
        "Image/aligned/train_00001_aligned.jpg (or Image/original/train_00001.jpg with version=original)",
        "or Kaggle's copy: train_labels.csv, test_labels.csv, DATASET/train/5/train_00001_aligned.jpg",
    ),
    terms="non-commercial research and education only, no redistribution",
    obtain="on request for academic staff, who get a password by e-mail: whdeng.cn/RAF/model1.html",
    source="Li, Deng and Du, CVPR 2017",
)

LABEL_FILES = ("list_patition_label.txt", "list_partition_label.txt")  # The readme of the release has both.
_NUMBERS = tuple(str(number) for number in range(1, 8))

Rows = list[tuple[str, str, str]]  # File and line; the image as train_00001; its number.
Pictures = dict[str, Path]


def scan(root: str | Path, *, version: str = "aligned") -> Listing:
    """Find the images and their labels.

    An image with two labels is left out, as nobody can say which is right.

    Args:
        root: the folder that holds EmoLabel and Image, or Kaggle's copy of it.
        version: "aligned", 100 x 100 pixels, or "original", the whole photographs.

    Raises:
        DatasetError: the label file or the images are missing, or labels are those of the compound set.

    """
    one_of("version", version, ("aligned", "original"))
    root = root_folder(root, CARD.title, "EmoLabel and Image")
    base = home(root, "EmoLabel", "DATASET", *LABEL_FILES, "train_labels.csv")
    read = _release if optional(base, "EmoLabel", *LABEL_FILES) else _kaggle
    left_out: list[LeftOut] = []
    labels, pictures, files = read(base, root, version, left_out)
    compound = next((row for row in labels if row[2] in ("8", "9", "10", "11")), None)
    if compound:
        raise DatasetError(
            f"expected the labels 1 to 7 of the basic set, found {compound[2]} in {compound[0]}; "
            "set dataset.root to the folder of the basic set, not of the compound one."
        )
    faces: list[Face] = []
    contested = _contested(labels)
    taken: set[str] = set()
    for where, name, number in labels:
        part = re.match("(train|test)_", name)
        if number not in _NUMBERS:
            left_out.append(LeftOut(where, "label is none of 1 to 7"))
        elif name in contested:
            left_out.append(LeftOut(where, "two labels for one image"))
        elif name in taken:
            left_out.append(LeftOut(where, "the same image again"))
        elif part is None:
            left_out.append(LeftOut(where, "name begins neither with train_ nor with test_"))
        elif name not in pictures:
            left_out.append(LeftOut(where, "image is missing"))
        else:
            taken.add(name)
            faces.append(Face(ImageFile(pictures[name]), int(number) - 1, name, name, part[1]))
    named = {name for _, name, _ in labels}
    left_out += [
        LeftOut(file.relative_to(root).as_posix(), "no row in the label file")
        for name, file in pictures.items()
        if name not in named
    ]
    require_faces(faces, left_out, root, CARD.title, ("train", "test"))
    return Listing(root, CLASSES, faces, files, left_out, EXPECTED)


def _release(base: Path, root: Path, version: str, left_out: list[LeftOut]) -> tuple[Rows, Pictures, list[Path]]:
    """Labels, images and label files of the official layout."""
    folder = home(optional(base, "EmoLabel") or base, *LABEL_FILES)
    file = optional(folder, *LABEL_FILES)
    if file is None:
        raise DatasetError(f"expected {' or '.join(LABEL_FILES)} in {folder}, found neither; unpack EmoLabel.")
    labels: Rows = []
    for line, cells in rows(file, " "):
        words = " ".join(cells).split()
        where = f"{file.relative_to(root).as_posix()} row {line}"
        if len(words) == 2:
            labels.append((where, words[0].rpartition(".")[0].removesuffix("_aligned"), words[1]))
        else:
            left_out.append(LeftOut(where, "row is not a name and a label"))
    outer = subfolder(optional(base, "Image") or base, version, holds=f"the {version} images")
    inner, images, others = innermost(outer, root)
    left_out += [LeftOut((inner / name).relative_to(root).as_posix(), "not an image file") for name in others]
    return labels, dict(_named((inner / name for name in images), root, version, left_out)), [file]


def _kaggle(base: Path, root: Path, version: str, left_out: list[LeftOut]) -> tuple[Rows, Pictures, list[Path]]:
    """Labels, images and label files of the copy on Kaggle, which sorts the aligned images into folders by label."""
    if version != "aligned":
        raise DatasetError(
            f"expected the original images in {base}, found no EmoLabel, so at most Kaggle's copy, which lacks them; "
            "set dataset.version=aligned."
        )
    folder = optional(base, "DATASET") or base
    labels: Rows = []
    pictures: Pictures = {}
    files: list[Path] = []
    for part in ("train", "test"):
        holds = "Kaggle's copy; the official one has EmoLabel and Image"
        images, others = labelled_images(subfolder(folder, part, holds=holds), _NUMBERS, root)
        left_out += others
        sorted_as = {file: _NUMBERS[label] for label, file in images}
        in_folders: Rows = []
        for name, file in _named(sorted_as, root, version, left_out):
            where = file.relative_to(root).as_posix()
            if name.startswith(f"{part}_"):
                pictures[name] = file
                in_folders.append((where, name, sorted_as[file]))
            else:
                left_out.append(LeftOut(where, f"not named as an image of {part}"))
        table = optional(base, f"{part}_labels.csv")
        if table is None:
            labels += in_folders
            continue
        files.append(table)
        in_table = _table(table, root, left_out)
        # Of a folder that agrees with the table nothing needs to be said twice.
        contested = _contested(in_table + in_folders)
        labels += in_table + [row for row in in_folders if row[1] in contested]
    return labels, pictures, files


def _contested(labels: Rows) -> set[str]:
    """Images with more than one label."""
    numbers: dict[str, set[str]] = defaultdict(set)
    for _, name, number in labels:
        if number in _NUMBERS:
            numbers[name].add(number)
    return {name for name, said in numbers.items() if len(said) > 1}


def _table(file: Path, root: Path, left_out: list[LeftOut]) -> Rows:
    """Rows of train_labels.csv: image, label."""
    lines = rows(file)
    places = columns(file, next(lines, (0, []))[1], "image", "label")
    labels: Rows = []
    for line, cells in lines:
        where = f"{file.relative_to(root).as_posix()} row {line}"
        if len(cells) != len(places):
            left_out.append(LeftOut(where, "row is not a name and a label"))
            continue
        name = cells[places["image"]].rpartition(".")[0].removesuffix("_aligned")
        labels.append((where, name, cells[places["label"]]))
    return labels


def _named(files: Iterable[Path], root: Path, version: str, left_out: list[LeftOut]) -> Iterator[tuple[str, Path]]:
    """Images by their name in the label file; of two in one folder the first."""
    seen: set[tuple[Path, str]] = set()
    for file in files:
        name = file.stem.removesuffix("_aligned")
        reason = ""
        if (name != file.stem) != (version == "aligned"):
            reason = f"name is not that of one of the {version} images"
        elif (file.parent, name) in seen:
            reason = "the same image again"
        if reason:
            left_out.append(LeftOut(file.relative_to(root).as_posix(), reason))
            continue
        seen.add((file.parent, name))
        yield name, file
