"""Miniature copies of the official layouts, one module per data set, drawn with the synthetic faces.

A module `miniatures/NAME.py` has `build(root, *, people=3, spelling=0) -> Expected`, which fills the empty folder `root` as the release of
the data set is laid out, true to the byte in names, depth and label files; `SPELLINGS` counts those that the wild knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from datasets.drawn.action_units import CLASSES
from datasets.expressions import canonical
from datasets.synthetic import draw_people

SPELLINGS = {"affectnet": 3, "fer2013": 3, "ferplus": 3, "folder": 1, "rafdb": 3}  # 2 for those not named


@dataclass(frozen=True)
class Expected:
    """What must come out of a miniature."""

    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]  # images by official part ("" without parts) and class; zeros may be absent
    subjects: int  # different ones
    sequences: int  # different ones
    left_out: Mapping[str, int] = field(default_factory=dict)  # how many for each reason
    options: Mapping[str, Any] = field(default_factory=dict)  # beside root, where the defaults do not fit the miniature
    root: str = ""  # the folder below the one given to `build` that a user would name


@cache
def _people(size: int) -> np.ndarray:
    """RGB (person, class, take, size, size, 3)."""
    images, _, _ = draw_people(size, 6, 4, 1.0, 0)
    return images.reshape(6, len(CLASSES), 4, size, size, 3)


def face(person: int, expression: str, take: int = 0, size: int = 48) -> Image.Image:
    """An RGB face of one of any number of people with one of the eight expressions; no two (person, expression, take) are alike."""
    word = canonical(expression)
    # Nobody draws contempt: disgust with a darkened half stands for it.
    drawn = [canonical(name) for name in CLASSES].index("disgust" if word == "contempt" else word)
    pixels = _people(size)[person % 6, drawn, take % 4].copy()
    if word == "contempt":
        pixels[:, size // 2 :] //= 2
    # Beyond the people and takes that are drawn, a stamp in the corner tells images apart.
    pixels[0, :2] = [[person // 6 % 256] * 3, [take // 4 % 256] * 3]
    return Image.fromarray(pixels)
