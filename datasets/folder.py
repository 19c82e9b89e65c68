"""A folder of one's own face images, laid out as CLASS/SUBJECT_rest.png.

Every folder right under the root is a class, named as the folder; every image right in it is a still of one person,
whom the file name tells. Hidden files and files that do not end in one of `SUFFIXES` are passed over. An image is
turned as its EXIF orientation says, scaled so that its short side fits, and cut to the central square.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from datasets.errors import DatasetError
from datasets.faceset import FORMAT, cannot_write, write_faceset

DECODING = 1  # Raised whenever the same files give other pixels.
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def prepare(
    *, root: str | Path, image_size: int, channels: int, cache: Path, subject_pattern: str = r"^([^_]+)_"
) -> Path:
    """Build the Arrow file of a folder, or find the one that was built of the same files before.

    Args:
        root: the folder of class folders.
        image_size: height and width to scale to, in pixels.
        channels: 1 for grey, 3 for RGB.
        cache: folder of the Arrow files.
        subject_pattern: regular expression searched in the file name; its first group is the subject.

    Raises:
        DatasetError: the folder is not laid out so, an image cannot be read, or the cache cannot be written.

    """
    folder = _root(root)
    classes, files = _scan(folder)
    subjects = _subjects(folder, files, subject_pattern)
    relative = [file.relative_to(folder).as_posix() for file in files]
    stats = [file.stat() for file in files]
    known = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in zip(relative, stats, strict=True)]
    options = [FORMAT, DECODING, str(folder.resolve()), image_size, channels, subject_pattern, known]
    path = cache / f"folder-{hashlib.sha256(json.dumps(options).encode()).hexdigest()[:24]}.arrow"
    if path.is_file():
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Pixels gather in a nameless file, not in memory: they may not fit there, and an error leaves nothing behind.
        with tempfile.TemporaryFile(dir=cache) as scratch:
            _decode_all(files, image_size, channels, scratch.fileno())
            images = np.memmap(scratch, np.uint8, "r", shape=(len(files), image_size, image_size, channels))
            labels = [classes.index(file.parent.name) for file in files]
            return write_faceset(
                path,
                name="folder",
                images=images,
                labels=labels,
                subjects=subjects,
                sequences=relative,
                classes=classes,
            )
    except OSError as error:
        raise cannot_write(cache, error) from error


def _root(root: str | Path) -> Path:
    if not str(root or ""):
        raise DatasetError(
            "expected a folder CLASS/SUBJECT_rest.png of face images, found none; set dataset.root=PATH."
        )
    folder = Path(root).expanduser()
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise DatasetError(f"expected a folder of class folders at {folder}, found {found}; set dataset.root=PATH.")
    return folder


def _scan(root: Path) -> tuple[list[str], list[Path]]:
    """Class names and image files, both sorted by name."""
    folders = sorted(entry for entry in _visible(root) if entry.is_dir())
    if not folders:
        raise DatasetError(f"expected class folders in {root}, found none; lay images out as CLASS/SUBJECT_rest.png.")
    if len(folders) == 1:
        raise DatasetError(
            f"expected at least 2 class folders in {root}, found {folders[0].name!r} only; add a folder per expression."
        )
    files: list[Path] = []
    for folder in folders:
        entries = _visible(folder)
        nested = [entry for entry in entries if entry.is_dir()]
        if nested:
            raise DatasetError(
                f"expected image files only in the class folder {folder}, found the folder {nested[0].name!r}; "
                "move its images up, or remove it."
            )
        images = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
        if not images:
            raise DatasetError(
                f"expected images in the class folder {folder}, found none that ends in {' '.join(SUFFIXES)}; "
                "put images right into it, or remove it."
            )
        files += images
    inside = root.resolve()
    for entry in [*folders, *files]:
        target = entry.resolve()
        if not target.is_relative_to(inside) or not target.exists():
            raise DatasetError(
                f"expected everything within {root}, found that {entry} is a link to {target}; put a copy in its place."
            )
    return [folder.name for folder in folders], files


def _visible(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DatasetError(
            f"expected a readable folder at {folder}, found: {error.strerror}; check its rights."
        ) from error
    for entry in entries:
        try:
            str(entry).encode()
        except UnicodeEncodeError as error:
            raise DatasetError(f"expected file names in UTF-8, found {str(entry)!r}; rename it.") from error
    return [entry for entry in entries if not entry.name.startswith(".")]


def _subjects(root: Path, files: list[Path], pattern: str) -> list[str]:
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
    subjects = []
    for file in files:
        match = expression.search(file.name)
        if match is None or not match.group(1):
            raise DatasetError(
                f"expected a subject in the file name {file.relative_to(root)}, found nothing that matches "
                f"{pattern!r}; rename the file to SUBJECT_rest, or set dataset.subject_pattern."
            )
        subjects.append(match.group(1))
    return subjects


def _decode_all(files: list[Path], size: int, channels: int, scratch: int) -> None:
    """Write uint8 (N, size, size, channels) to an open file, in threads, as Pillow decodes outside Python's lock."""

    def fill(index: int) -> None:
        pixels = _decode(files[index], size, channels)
        # Not through a writable mapping, which would answer a full disk by killing the process.
        if os.pwrite(scratch, pixels.data, index * pixels.nbytes) < pixels.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(len(files))):
            pass


def _decode(file: Path, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """One image as uint8 (size, size, channels)."""
    try:
        with Image.open(file, formats=("PNG", "JPEG", "TIFF", "BMP", "WEBP")) as opened:
            if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels")
            # Lets the JPEG decoder halve the image while it decodes, never below twice the size that is wanted.
            opened.draft(None, (2 * size, 2 * size))
            image = _eight_bits(ImageOps.exif_transpose(opened)).convert("L" if channels == 1 else "RGB")
            image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(
            f"expected an image of at most {Image.MAX_IMAGE_PIXELS} pixels, found more in {file}; scale it down first."
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files.
        raise DatasetError(
            f"expected a whole image in {file}, found one that cannot be decoded ({error}); replace or remove it."
        ) from error
    return np.ascontiguousarray(image, np.uint8).reshape(size, size, channels)


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
