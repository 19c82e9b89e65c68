"""Where the pixels of a face come from: an image file, a frame of a video, or a row of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

Points = npt.NDArray[np.float64]


class Source(Protocol):
    """One image.

    `load` gives an image of 8 bits a channel, mode L or RGB, turned and cut as the data set says but not yet scaled; it raises
    DatasetError, whose message goes into the list of skipped images. `landmarks` gives official points (68, 2), x and y in pixels of
    what `load(0)` gives, or None.
    """

    @property
    def file(self) -> Path:
        """The file that it is read from."""
        ...

    @property
    def part(self) -> str:
        """What of the file: "row 7", "frame +1", or "" for all of it."""
        ...

    def load(self, size: int) -> Image.Image:
        """The image; a decoder may halve it while it decodes, but not below `size` pixels a side (0: never)."""
        ...

    def landmarks(self) -> Points | None:
        """Official points (68, 2), or None."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """An image file; `box` (left, top, right, bottom), in pixels, is cut out first, filled with black where it leaves the image."""

    file: Path
    box: tuple[int, int, int, int] | None = None
    points: Callable[[], Points] | None = field(default=None, compare=False)
    part: str = ""


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video: `offset` 0 is the middle one, -1 the one before; `half` "left" or "right" keeps that half of a double view."""

    file: Path
    offset: int
    half: str = ""
    quarter_turns: int = 0  # counter-clockwise, after the half is cut out


@dataclass(frozen=True)
class Pixels:
    """A square grey image from the row of a table: `values` has side * side bytes."""

    file: Path
    row: int
    side: int
    values: bytes = field(repr=False, compare=False)
