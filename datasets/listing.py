"""Listing: what a module found under the root of a data set, before any pixel is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from datasets.sources import Source


class Face(NamedTuple):
    """An image that the set will hold."""

    source: Source
    label: int  # an index into the classes of the listing
    subject: str  # whose face; where nobody can know, the image's own name
    sequence: str  # the recording that it is a frame of; a still is a sequence of its own
    official: str = ""  # "train", "val", "test" as released, or ""


class LeftOut(NamedTuple):
    """What lies there and is not taken."""

    name: str  # path relative to the root, with the row or frame where a file holds many
    reason: str  # few different ones for a data set, as "unlabelled sequence": the summary counts them


@dataclass(frozen=True)
class Listing:
    """The faces of a data set in a deterministic order that depends on names alone.

    Attributes:
        root: the folder that the user named.
        classes: names of the expressions by label; canonical for data sets of the literature.
        faces: every image to be read.
        files: label files and the like that were read; images are not among them.
        left_out: what was passed over, with the reason.
        expected: images by official part and class, as the literature counts them: {"train": {"anger": 705}}; "" where there are no
            official parts; {} where nobody knows. A difference is shown in the summary and refuses nothing.

    """

    root: Path
    classes: tuple[str, ...]
    faces: list[Face]
    files: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    expected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
