"""Where the pixels of a face come from: an image file, a frame of a video, or a row of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from datasets.errors import DatasetError

Points = npt.NDArray[np.float64]

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_AT_ONCE = 1 << 16  # bytes


class Source(Protocol):
    """One image; a frozen dataclass, whose compared fields all decide what the image is.

    `load` gives an image of 8 bits a channel, mode L or RGB, turned and cut as the data set says but not yet scaled; it raises
    DatasetError, whose message goes into the list of skipped images. `landmarks` gives official points (68, 2), x and y in pixels of
    what `load(0)` gives, or None. Both may be called in many threads at once.
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
    """An image file, turned as its EXIF orientation says.

    `box` (left, top, right, bottom), in pixels of the turned image, is cut out, filled with black where it leaves the image.
    """

    file: Path
    box: tuple[int, int, int, int] | None = None
    points: Callable[[], Points] | None = field(default=None, compare=False)
    part: str = ""

    def load(self, size: int) -> Image.Image:
        """See `Source`; a box is cut out of the whole image."""
        # Read at once where it is small: every read asks for Python's lock anew.
        with (
            _named(self.file),
            self.file.open("rb", _AT_ONCE) as stream,
            Image.open(stream, formats=_FORMATS) as opened,
        ):
            _check_size(opened.width, opened.height)
            if size and self.box is None:
                # Lets the JPEG decoder halve the image while it decodes.
                opened.draft(None, (size, size))
            ImageOps.exif_transpose(opened, in_place=True)
            image = _eight_bits(opened)
            if self.box is not None:
                left, top, right, bottom = self.box
                if left >= right or top >= bottom:
                    raise ValueError(f"the box {self.box} is empty")
                _check_size(right - left, bottom - top)
                image = image.crop(self.box)
            return image

    def landmarks(self) -> Points | None:
        """See `Source`."""
        return self.points() if self.points else None


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video: `offset` 0 is the middle one, -1 the one before; `half` "left" or "right" keeps that of a double view."""

    file: Path
    offset: int
    half: str = ""
    quarter_turns: int = 0  # counter-clockwise, after the half is cut out

    @property
    def part(self) -> str:
        """See `Source`."""
        return f"frame {self.offset:+d}"

    def load(self, size: int) -> Image.Image:
        """See `Source`; of N frames, counted as they decode, the middle one has the index N // 2."""
        with _named(self.file):
            stat = self.file.stat()
            count = _frame_count(self.file, stat.st_size, stat.st_mtime_ns)
            wanted = count // 2 + self.offset
            if not 0 <= wanted < count:
                raise ValueError(f"it has {count} frames, and none at {self.offset:+d} from its middle")
            for index, frame in enumerate(_frames(self.file)):
                if index == wanted:
                    image: Image.Image = frame.to_image()
                    break
            middle = image.width // 2
            if self.half == "left":
                image = image.crop((0, 0, middle, image.height))
            elif self.half == "right":
                image = image.crop((image.width - middle, 0, image.width, image.height))
            turns = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
            turn = turns[self.quarter_turns % 4]
            return image if turn is None else image.transpose(turn)

    def landmarks(self) -> Points | None:
        """None: no data set has them for its videos."""
        return None


@dataclass(frozen=True)
class Pixels:
    """A square grey image from the row of a table: `values` has side * side bytes."""

    file: Path
    row: int
    side: int
    values: bytes = field(repr=False, compare=False)

    @property
    def part(self) -> str:
        """See `Source`."""
        return f"row {self.row}"

    def load(self, size: int) -> Image.Image:
        """See `Source`."""
        if len(self.values) != self.side**2:
            raise DatasetError(
                f"expected {self.side} x {self.side} pixels in row {self.row} of {self.file}, found {len(self.values)}; "
                "take the released file."
            )
        return Image.frombytes("L", (self.side, self.side), self.values)

    def landmarks(self) -> Points | None:
        """None."""
        return None


def _frames(file: Path) -> Iterator[Any]:
    """The frames of the first video stream of a file, in the order in which they are shown."""
    import av  # takes a moment, and most data sets have no videos

    # A video that is a playlist in disguise must not reach what lies elsewhere.
    with av.open(str(file.absolute()), options={"protocol_whitelist": "file"}) as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        _check_size(stream.width, stream.height)
        yield from container.decode(stream)


@lru_cache(maxsize=256)
def _frame_count(file: Path, size: int, changed: int) -> int:
    """Number of frames that decode; headers often lie. Kept, as several frames of a video are read one after the other."""
    return sum(1 for _ in _frames(file))


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Name the file in whatever a decoder raises, which are errors of many kinds."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(
            f"expected an image of at most {Image.MAX_IMAGE_PIXELS} pixels, found more in {file}; scale it down first."
        ) from error
    except UnidentifiedImageError as error:
        raise DatasetError(
            f"expected a whole image in {file}, found one that cannot be decoded (its format is unknown); replace or remove it."
        ) from error
    except FileNotFoundError as error:
        raise DatasetError(f"expected an image at {file}, found nothing; take the released files.") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"expected a whole image in {file}, found one that cannot be decoded ({reason}); replace or remove it."
        ) from error


def _check_size(width: int, height: int) -> None:
    """Refuse a decompression bomb before it goes off."""
    if width * height > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise Image.DecompressionBombError(f"{width} x {height} pixels")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Mode L or RGB with 8 bits a channel, without transparency: 16-bit grey is scaled, see-through parts turn black."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(values, 0, 65535) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")
