"""Miniatures of every layout, spoilt at random: what comes out is one sentence, or a set in which nothing is wrong or lost.

A file that was not spoilt, and whose label was not, must come out with the pixels, label and people of the whole miniature; every image
below the places that a set reads must be a face, or be named among those skipped or left out.
"""

import csv
import importlib
import os
import random
import re
import shutil
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError, dataset_names, open_dataset
from datasets.faceset import content_fingerprint
from datasets.layout import SUFFIXES
from datasets.sources import Pixels, VideoFrame
from tests.datasets import damage
from tests.datasets.miniatures import SPELLINGS

NAMES = tuple(name for name in dataset_names() if hasattr(importlib.import_module(f"datasets.{name}"), "scan"))
MINIATURES = [(name, spelling) for name in NAMES for spelling in range(SPELLINGS.get(name, 2))]
RUNS, FEW = 19, 3  # of each miniature: 27 * 19 = 513 by `make test-slow`, of which 81 by `make test`

# How far above an image the folder lies below which every image must be accounted for; 0 for the root.
HEIGHT = {
    "ckplus": 3,
    "oulu_casia": 3,
    "mmi": 2,
    "ckplus48": 2,
    "sfew": 2,
    "fer2013": 2,
    "affectnet": 2,
    "rafdb": 1,
    "ferplus": 1,
}
HEIGHT_OF_SPELLING = {("affectnet", 1): 1, ("rafdb", 1): 2}

# What files of one image or sequence have in common, so that spoiling one may change what becomes of another; by default the name.
KIN = {
    "ckplus": re.compile(r"S\d{3}[_/]\d{3}", re.IGNORECASE),
    "ckplus48": re.compile(r"S\d{3}_\d{3}", re.IGNORECASE),
    "mmi": re.compile(r"S\d{3}-\d{3}|(?<=sessions/)\d+", re.IGNORECASE),
    "oulu_casia": re.compile(r"P\d{3}/[a-z]+", re.IGNORECASE),
    "bu3dfe": re.compile(r"[FM]\d{4}_[A-Z]{2}\d\d", re.IGNORECASE),
    "jaffe": re.compile(r"[A-Z]{2}\.[A-Z]{2}\d", re.IGNORECASE),
    "rafdb": re.compile(r"(train|test)_\d+", re.IGNORECASE),
    "affectnet": re.compile(r"[^/]*?(?=_exp|_lnd|\.)"),
}
TABLES = ("rafdb", "ferplus", "affectnet", "fer2013")  # One label file for many images.


class Miniature:
    """A whole one, and what comes of it."""

    def __init__(self, name, spelling, folder):
        self.name, self.spelling, self.root = name, spelling, folder / "whole"
        self.root.mkdir(parents=True)
        builder = importlib.import_module(f"tests.datasets.miniatures.{name}")
        self.options = dict(builder.build(self.root, people=2, spelling=spelling).options)
        self.size, self.channels = 8 + (NAMES.index(name) + spelling) % 9, 1 + 2 * (spelling % 2)
        self.scan = importlib.import_module(f"datasets.{name}").scan
        self.listing = self.scan(self.root, **self.options)
        self.faces = self.open(self.root, folder / "cache", False)
        places = [self.place(self.root, face) for face in self.listing.faces]
        assert len(set(places)) == len(places)
        self.rows = {place: row for row, place in enumerate(places)}
        height = HEIGHT_OF_SPELLING.get((name, spelling), HEIGHT.get(name, 0))
        files = [PurePosixPath(file) for file, _ in places if not file.endswith(".csv")]
        self.read = {str(file.parents[height - 1]) if height else "." for file in files} or {"."}
        self.lines = {}
        for file in sorted(self.root.rglob("*")):
            if name in TABLES and file.suffix in (".txt", ".csv"):
                self.lines[file.relative_to(self.root).as_posix()] = file.read_bytes().splitlines()

    def open(self, root, cache, allow_skips):
        return open_dataset(
            self.name, image_size=self.size, channels=self.channels, cache=cache, root=root, allow_skips=allow_skips,
            **self.options,
        )  # fmt: skip

    def place(self, root, face):
        return face.source.file.relative_to(root).as_posix(), face.source.part

    def kin(self, path):
        """Words that a path shares with those of the same image or sequence."""
        pattern = KIN.get(self.name)
        words = [match[0] for match in pattern.finditer(path)] if pattern else []
        return {word.upper().replace("/", "_") for word in words or [PurePosixPath(path).stem]}


@cache
def whole(name, spelling, folder):
    return Miniature(name, spelling, folder / f"{name}{spelling}")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.mark.parametrize(("name", "spelling"), MINIATURES)
def test_spoilt_miniatures(name, spelling, kept, tmp_path):
    run(whole(name, spelling, kept), range(FEW), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spelling"), MINIATURES)
def test_many_spoilt_miniatures(name, spelling, kept, tmp_path):
    outcomes = run(whole(name, spelling, kept), range(FEW, RUNS), tmp_path)
    assert any(outcomes), "the damage is too much to show anything"


def run(miniature, seeds, folder):
    """Whether each seed gave a set."""
    outcomes = []
    for seed in seeds:
        chance = random.Random(f"{miniature.name} {miniature.spelling} {seed}")
        root = folder / f"{seed}" / "root"
        shutil.copytree(miniature.root, root)
        done, touched = damage.spoil(root, chance)
        try:
            outcomes.append(judge(miniature, root, touched, chance.random() < 0.6))
        except Exception as error:
            what = f"{miniature.name}, spelling {miniature.spelling}, seed {seed}: {'; '.join(done)}"
            raise AssertionError(f"{type(error).__name__}: {error} ({what})") from error
        shutil.rmtree(root.parent)
    return outcomes


def judge(miniature, root, touched, allow_skips):
    """Open a spoilt copy; whether it is a set, which is checked, or an error, which is checked."""
    cache = root.parent / "cache"
    try:
        faces = miniature.open(root, cache, allow_skips)
    except DatasetError as error:
        sentence = str(error)
        assert re.fullmatch(r"expected [^\n]+\.", sentence), sentence
        assert not cache.exists() or not list(cache.iterdir())
        return False
    listing = miniature.scan(root, **miniature.options)
    whole = [decodes(face.source) for face in listing.faces]
    skipped = [face for face, good in zip(listing.faces, whole, strict=True) if not good]
    taken = [face for face, good in zip(listing.faces, whole, strict=True) if good]
    assert allow_skips or len(skipped) <= 0.01 * len(listing.faces)
    check_columns(faces, taken)
    check_report(faces.path, listing, skipped, root)
    check_truth(miniature, root, faces, taken, touched)
    check_nothing_lost(miniature, root, listing)
    return True


def decodes(source):
    """Whether Pillow, asked by itself, reads the file to its end."""
    if isinstance(source, Pixels):
        return True
    try:
        if isinstance(source, VideoFrame):
            source.load(0)
        else:
            with Image.open(source.file) as image:
                image.load()
    except Exception:
        return False
    return True


def check_columns(faces, taken):
    assert len(faces) == len(taken)
    assert faces.labels.tolist() == [face.label for face in taken]
    assert faces.subjects.tolist() == [face.subject for face in taken]
    assert faces.sequences.tolist() == [face.sequence for face in taken]
    assert faces.official.tolist() == [face.official for face in taken]
    content = (faces.images, faces.labels, faces.subjects, faces.sequences, faces.official, faces.classes)
    assert faces.fingerprint == content_fingerprint(*content)


def check_report(path, listing, skipped, root):
    """The list beside the set names whatever is not in it, by a path that is there."""
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    named = [row["image"].split(", ")[0] for row in rows if row["what"] == "skipped"]
    assert sorted(named) == sorted(face.source.file.relative_to(root).as_posix() for face in skipped)
    assert len(rows) == len(skipped) + len(listing.left_out)
    for item in listing.left_out:
        assert os.path.lexists(root / re.sub(r" row \d+$", "", item.name)), item


def check_truth(miniature, root, faces, taken, touched):
    """What was not spoilt is as in the whole miniature."""
    kin = set().union(*(miniature.kin(path) for path in touched)) if touched else set()
    spoilt_tables = {table for table, lines in miniature.lines.items() if lines_of(root / table) != lines}
    moved = any(path in miniature.lines or path.endswith((".csv", ".txt")) for path in touched - spoilt_tables)
    found = set()
    for row, item in enumerate(taken):
        place = miniature.place(root, item)
        before = miniature.rows.get(place)
        if before is None or place[0] in touched:
            continue
        found.add(place)
        if miniature.kin(place[0]) & kin or spoilt_tables or moved:
            continue
        assert columns(faces, row) == columns(miniature.faces, before), place
        assert np.array_equal(faces.images[row], miniature.faces.images[before]), place
    if spoilt_tables or moved:
        check_tables(miniature, root, faces, taken, touched)
        return
    if any((root / path).is_symlink() and (root / path).is_dir() for path in touched):
        return  # The images have two paths, of which either may be taken.
    for place in miniature.rows.keys() - found:
        assert place[0] in touched or miniature.kin(place[0]) & kin, f"{place} is lost"


def check_tables(miniature, root, faces, taken, touched):
    """Of an image whose line in the table is as it was, the label is too."""
    if any(not os.path.lexists(root / table) for table in miniature.lines):
        return
    for row, item in enumerate(taken):
        place = miniature.place(root, item)
        if isinstance(item.source, Pixels) and miniature.name == "fer2013":
            text = lines_of(item.source.file)[item.source.row - 1]
            lines = miniature.lines.get(place[0], [])
            if text in lines:
                before = miniature.rows[place[0], f"row {lines.index(text) + 1}"]
                assert faces.classes[faces.labels[row]] == miniature.faces.classes[miniature.faces.labels[before]]
                assert faces.official[row] == miniature.faces.official[before]
                assert np.array_equal(faces.images[row], miniature.faces.images[before])
        elif place in miniature.rows and place[0] not in touched and not isinstance(item.source, Pixels):
            name = re.escape(PurePosixPath(place[0]).stem.removesuffix("_aligned").encode())
            own = [[line for line in lines if re.search(rb"\b" + name, line)] for lines in miniature.lines.values()]
            now = [
                [line for line in lines_of(root / table) if re.search(rb"\b" + name, line)] for table in miniature.lines
            ]
            if own == now:
                assert columns(faces, row) == columns(miniature.faces, miniature.rows[place]), place


def columns(faces, row):
    return faces.classes[faces.labels[row]], faces.subjects[row], faces.sequences[row], faces.official[row]


def lines_of(file):
    return file.read_bytes().splitlines() if file.is_file() else None


def check_nothing_lost(miniature, root, listing):
    """Every image below the places that are read is a face, or left out by its name or its folder's."""
    there = {miniature.place(root, face)[0] for face in listing.faces}
    named = {item.name for item in listing.left_out}
    rows = b"\n".join(line_of(root, item.name) for item in listing.left_out)
    sequences = {str(PurePosixPath(place).parent) for place in there}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not litter(name)]
        for name in files:
            path = (Path(folder) / name).relative_to(root).as_posix()
            above = [str(parent) for parent in PurePosixPath(path).parents]
            if litter(name) or not name.lower().endswith((".avi",) if miniature.name == "mmi" else SUFFIXES):
                continue
            if (
                not miniature.read & {*above}
                or path in there
                or named & {path, *above}
                or os.fsencode(Path(name).stem) in rows
            ):
                continue
            if not_read(miniature, path, above, sequences):
                continue
            raise AssertionError(f"{path} is neither a face nor left out")


def line_of(root, name):
    """The line that "table.csv row 7" means; nothing of another name."""
    table, _, row = name.rpartition(" row ")
    return lines_of(root / table)[int(row) - 1] if table else b""


def not_read(miniature, path, above, sequences):
    """Images that a set does not want: earlier frames of a sequence that it takes the last ones of, raw textures, tables' pictures."""
    if miniature.name in ("ckplus", "oulu_casia"):
        return above[0] in sequences and re.fullmatch(
            r"(S\d{3}_\d{3}_)?\d+\.[a-z]+", PurePosixPath(path).name, re.IGNORECASE
        )
    if miniature.name == "bu3dfe":
        return "_RAW" in path.upper()
    return miniature.name in ("fer2013", "ferplus") and any(place[1] for place in miniature.rows)


def litter(name):
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
