"""Building: the faces that a data set lists, decoded into one Arrow file with a summary beside it.

Pixels gather in a scratch file, so that a build that was interrupted goes on where it stopped; the Arrow file comes last and says that
all is there. Decoding takes threads, as Pillow and PyAV decode outside Python's lock.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.faceset import Fingerprint, Strings, cannot_write, content_fingerprint, pixel_offset, write_faceset
from datasets.listing import Face, Listing
from datasets.recipe import recipe_digits
from datasets.scratch import Scratch
from datasets.sources import Source
from datasets.summary import Built, image_name, skipped_images, write_summary

if TYPE_CHECKING:
    from datasets.alignment import Aligner

SKIPS = 0.01  # The share of images that may be skipped without leave.
CHUNK = 16  # Images that a thread takes at once: few enough to stop soon, enough to share a video.
CHECKPOINT = 0.5  # Seconds of work that a crash may cost, and whose pixels are still to be synced at the end.

Progress = Callable[[int, int], None]
Shape = tuple[int, int, int]  # of an image: height, width, channels
_log = logging.getLogger("datasets")


def build(
    card: Card,
    listing: Listing,
    options: Mapping[str, Any],
    *,
    image_size: int,
    channels: int,
    cache: Path,
    align: bool = False,
    allow_skips: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Build the Arrow file of a data set, or find the one that was built of the same files before.

    Images are turned and cut as their data set says, then scaled so that their short side fits, and cut to the central square; or, to
    be aligned, turned level by the eyes and cut around the face.

    Args:
        card: the data set.
        listing: what its `scan` found.
        options: those that `scan` was called with.
        image_size: height and width to scale to, in pixels.
        channels: 1 for grey, 3 for RGB.
        cache: folder of the Arrow files and summaries.
        align: whether to align the faces.
        allow_skips: whether to go on when more than 1 % of the images cannot be read.
        progress: is told how many of how many images are done.

    Raises:
        DatasetError: too many images cannot be read, or all of a class; a file lies outside the root; the cache cannot be written;
            packages for alignment are missing.

    """
    key = recipe_digits(card, listing, options, image_size, channels, align)
    path = cache / f"{card.name}-{key}.arrow"
    try:
        if not path.is_file():
            aligner = _aligner(listing) if align else None
            cache.mkdir(parents=True, exist_ok=True)
            shape = (image_size, image_size, channels)
            offset = pixel_offset(card.name, listing.classes, shape)
            with Scratch(cache / f".{path.stem}", len(listing.faces), math.prod(shape), offset) as scratch:
                try:
                    if not path.is_file():  # Another process may have built it meanwhile.
                        skipped, fingerprint = _decode_all(
                            card, listing, scratch, shape, aligner, allow_skips, progress
                        )
                        options = {**options, "align": align}
                        _finish(card, listing, options, path, scratch, skipped, shape, fingerprint)
                except Exception:
                    scratch.remove()
                    raise
                scratch.remove()
    except OSError as error:
        raise cannot_write(cache, error) from error
    if not allow_skips:
        # It may have been built with leave to skip, which is not given now.
        names = skipped_images(path)
        if len(names) > SKIPS * len(listing.faces):
            raise _too_many(card, len(listing.faces), names, len(listing.faces))
    return path


def _finish(
    card: Card,
    listing: Listing,
    options: Mapping[str, Any],
    path: Path,
    scratch: Scratch,
    skipped: Mapping[int, str],
    shape: Shape,
    fingerprint: str,
) -> None:
    """Write the summary, and then make the scratch file the Arrow file; `fingerprint` is that of all faces, if none was skipped."""
    kept = [face for row, face in enumerate(listing.faces) if row not in skipped]
    lost = {face.label for face in listing.faces} - {face.label for face in kept}
    if lost:
        first = next(row for row in skipped if listing.faces[row].label in lost)
        raise DatasetError(
            f"expected images of every class, found that none of {listing.classes[listing.faces[first].label]!r} can be "
            f"read ({skipped[first].rstrip('.')}); mend them, or remove the class."
        )
    scratch.compact([row for row in range(len(listing.faces)) if row not in skipped])
    images = scratch.images((len(kept), *shape))
    labels, subjects, sequences, official = columns = _columns(kept)
    if skipped:
        fingerprint = content_fingerprint(images, *columns, listing.classes)
    write_summary(Built(card, listing, options, path, skipped, images, *columns, fingerprint))
    write_faceset(
        path,
        name=card.name,
        images=images,
        labels=labels,
        subjects=subjects,
        sequences=sequences,
        classes=listing.classes,
        official=official,
        fingerprint=fingerprint,
        inside=scratch.pixels,
    )
    if skipped:
        _log.warning(
            "Skipped %d of %d images of %s; they are listed in %s.",
            len(skipped),
            len(listing.faces),
            card.title,
            path.with_suffix(".csv"),
        )


def _columns(faces: Sequence[Face]) -> tuple[npt.NDArray[np.int64], Strings, Strings, Strings]:
    """Labels, subjects, sequences and official parts."""
    subjects, sequences, official = (np.array([face[column] for face in faces], np.str_) for column in (2, 3, 4))
    return np.array([face.label for face in faces], np.int64), subjects, sequences, official


def _decode_all(
    card: Card,
    listing: Listing,
    scratch: Scratch,
    shape: Shape,
    aligner: Aligner | None,
    allow_skips: bool,
    progress: Progress | None,
) -> tuple[dict[int, str], str]:
    """Write the pixels of every face that is not there yet.

    Returns:
        The reasons of those skipped by their place, and the fingerprint of all if none was.

    """
    faces, (size, _, channels) = listing.faces, shape
    images = scratch.images((len(faces), *shape))
    fingerprint = Fingerprint(images.shape, *_columns(faces), listing.classes)

    unsaved = deque[int]()

    def save() -> None:
        scratch.keep([unsaved.popleft() for _ in range(len(unsaved))])

    def fill(rows: list[int]) -> tuple[int, dict[int, str]]:
        bad = {}
        for row in rows:
            try:
                pixels = _decode(faces[row].source, size, channels, aligner)
            except Exception as error:  # Whatever is wrong with an image, it is named and the others are read.
                bad[row] = " ".join(str(error).split()) or type(error).__name__
                continue
            scratch.write(row, pixels)
            unsaved.append(row)
        return len(rows), bad

    missing = scratch.missing()
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    done, skipped = len(faces) - len(missing), dict[int, str]()
    saved = time.monotonic()
    # What lies before the next chunk is whole, and enters the fingerprint while that is decoded.
    ends = [*(chunk[0] for chunk in chunks[1:]), len(faces)]
    try:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for (seen, bad), end in zip(pool.map(fill, chunks), ends, strict=False):
                skipped |= bad
                if not skipped:
                    fingerprint.take(images[fingerprint.taken : end])
                done += seen
                if progress:
                    progress(done, len(faces))
                if not allow_skips and len(skipped) > SKIPS * len(faces):
                    names = [(image_name(faces[row], listing.root), reason) for row, reason in skipped.items()]
                    raise _too_many(card, len(faces), names, done)
                if time.monotonic() - saved > CHECKPOINT:
                    save()
                    saved = time.monotonic()
    finally:
        # With what was under way when the user interrupted.
        save()
    if not skipped:
        fingerprint.take(images[fingerprint.taken :])
    return skipped, fingerprint.digits()


def _decode(source: Source, size: int, channels: int, aligner: Aligner | None) -> npt.NDArray[np.uint8]:
    """One face as uint8 (size, size, channels)."""
    mode = "L" if channels == 1 else "RGB"
    if aligner is None:
        # Twice the size is left to the careful filter.
        image = source.load(2 * size)
        # To convert to the mode that it has would copy it.
        image = ImageOps.fit(
            image if image.mode == mode else image.convert(mode), (size, size), Image.Resampling.LANCZOS
        )
    else:
        found = aligner(source.load(0), size, source.landmarks())
        if found is None:
            raise DatasetError("no face was found")
        image = found.convert(mode)
    return np.ascontiguousarray(image, np.uint8).reshape(size, size, channels)


def _aligner(listing: Listing) -> Aligner:
    """The aligner, after a look for its packages where not every face comes with official landmarks."""
    from datasets.alignment import Aligner, require_detector

    if any(getattr(face.source, "points", None) is None for face in listing.faces):
        require_detector()
    return Aligner()


def _too_many(card: Card, images: int, skipped: Sequence[tuple[str, str]], seen: int) -> DatasetError:
    """The sentence for more than 1 % of images that cannot be read; `skipped` has their names and reasons."""
    first = ", ".join(f"{name} ({reason.rstrip('.')})" for name, reason in skipped[:3])
    return DatasetError(
        f"expected at most 1 % of the {images} images of {card.title} to be skipped, found {len(skipped)} among the first "
        f"{seen}: {first}{' ...' if len(skipped) > 3 else ''}; mend or remove them, or set dataset.allow_skips=true "
        "(--allow-skips) to go on without them."
    )
