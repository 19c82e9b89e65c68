"""An image file as a network meets it: the same pixels as those of a data set that is a folder of images."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mdml.errors import MethodError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")


def read_picture(file: Path, side: int, channels: int) -> Tensor:
    """Turn an image as its EXIF orientation says, scale it so that its short side fits, cut the central square: (C, S, S) uint8.

    Args:
        file: PNG, JPEG, TIFF, BMP or WEBP; the name says nothing.
        side: S, in pixels.
        channels: C, 1 for grey, 3 for RGB.

    Raises:
        MethodError: where there is no such file, it is no whole image, or has more pixels than Pillow allows.

    """
    if not file.is_file():
        raise MethodError(f"Expected an image file, found {'a folder' if file.is_dir() else 'nothing'} at {file}.")
    try:
        with warnings.catch_warnings():
            # What Pillow warns of is refused here.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(file, formats=FORMATS)
        with opened:
            # Lets the JPEG decoder halve the image while it decodes, never below twice the size that is wanted.
            opened.draft(None, (2 * side, 2 * side))
            image = _eight_bits(ImageOps.exif_transpose(opened)).convert("L" if channels == 1 else "RGB")
            image = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MethodError(
            f"Expected an image of at most {Image.MAX_IMAGE_PIXELS} pixels, found more in {file}: scale it down first."
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files.
        reason = str(error) or type(error).__name__
        raise MethodError(
            f"Expected a whole image ({', '.join(FORMATS)}) in {file}, found none: {reason.rstrip('.')}."
        ) from error
    return torch.tensor(np.asarray(image)).reshape(side, side, channels).permute(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel and without transparency: 16-bit grey is scaled, see-through parts turn black."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(values, 0, 65535) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image
