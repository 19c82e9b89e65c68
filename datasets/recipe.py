"""Recipe: everything that the content of a built data set depends on, in a few digits, without opening an image."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.faceset import FORMAT
from datasets.listing import Listing

DECODING = 1  # Raised whenever the same files give other pixels.


def recipe_digits(
    card: Card, listing: Listing, options: Mapping[str, Any], image_size: int, channels: int, align: bool
) -> str:
    """24 hexadecimal digits; files count by their name, size and time of change, so that none is read.

    Raises:
        DatasetError: the listing is empty, or a file lies outside the root.

    """
    if not listing.faces:
        raise DatasetError(f"expected images of {card.title} in {listing.root}, found none; set dataset.root=PATH.")
    alignment = importlib.import_module("datasets.alignment").CONVENTION if align else None
    sources = [face.source for face in listing.faces]
    prefix = os.path.join(listing.root, "")  # noqa: PTH118  # strings, as there may be a million files
    files = dict.fromkeys([*(source.file for source in sources), *listing.files])
    parts = [
        FORMAT,
        DECODING,
        card.name,
        str(listing.root.resolve()),
        sorted((name, str(value)) for name, value in options.items()),
        [image_size, channels, alignment],
        listing.classes,
        list(_stamps(listing.root, prefix, files)),
        list(_words(sources, prefix)),
        [face[1:] for face in listing.faces],
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps(part, default=str).encode())
    return digest.hexdigest()[:24]


def _words(sources: Iterable[Any], prefix: str) -> Iterator[list[str]]:
    """What makes each source: the fields that it is compared by; its file relative to the root."""
    compared: dict[type, list[str]] = {}
    for source in sources:
        kind = type(source)
        if kind not in compared:
            compared[kind] = [field.name for field in dataclasses.fields(source) if field.compare]
        yield [str(getattr(source, name)).removeprefix(prefix) for name in compared[kind]]


def _stamps(root: Path, prefix: str, files: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    """Name, size in bytes and time of change in nanoseconds of every file; -1 for what cannot be looked at, and will be skipped.

    Raises:
        DatasetError: a file lies outside the root, or is a link that leads there.

    """
    inside, within = root.resolve(), dict[str, bool]()
    for file in files:
        name = str(file)
        folder = os.path.dirname(name)  # noqa: PTH120
        if folder not in within:
            within[folder] = Path(folder).resolve().is_relative_to(inside)
        try:
            found = os.lstat(name)
            linked = stat.S_ISLNK(found.st_mode)
            if linked or not within[folder]:
                target = Path(os.path.realpath(name))
                if not target.is_relative_to(inside):
                    raise DatasetError(
                        f"expected everything within {root}, found that {name} lies at {target}; put a copy in its place."
                    )
            found = file.stat() if linked else found
            yield name.removeprefix(prefix), found.st_size, found.st_mtime_ns
        except OSError:
            yield name.removeprefix(prefix), -1, -1
