"""Synthetic faces, the embedded data set: drawn people who show seven expressions, so that nothing need be downloaded.

Expressions are built from facial action units; who is shown, the pose, the light and the noise are nuisances. The same
options give the same pixels on any machine. `python -m datasets.synthetic --contact-sheet faces.png` shows them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from datasets.card import Card
from datasets.drawn.action_units import CLASSES, UNITS, sample
from datasets.drawn.face import draw
from datasets.drawn.people import sample_people, sample_shots, standard_shot
from datasets.errors import DatasetError
from datasets.faceset import FORMAT, write_faceset

DRAWING = 1  # Raised whenever the same options give other pixels.
PIXELS = 1 << 15  # Drawn at once: few enough that a plane of them stays in the processor's cache.
LUMA = np.array([299, 587, 114])  # Thousandths, so that rounding is exact.

CARD = Card(
    name="synthetic",
    title="Synthetic faces",
    description="Drawn people who show seven expressions, built from facial action units; needs no files.",
    classes=CLASSES,
    images=840,
    subjects=40,
    people="",
    fold_rule="contiguous",
    folds=5,
    metric="test_accuracy",
    layout=(),
    terms="Part of this project.",
    obtain="Drawn when first opened.",
    source="None: drawn by this project, after the action units of Ekman and Friesen.",
)


def prepare(
    *,
    image_size: int,
    channels: int,
    cache: Path,
    subjects: int = 40,
    per_class: int = 3,
    identity: float = 1.0,
    seed: int = 0,
) -> Path:
    """Draw the data set, or find the one that was drawn with the same options before.

    Args:
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        cache: folder of the Arrow files.
        subjects: number of people; those of a smaller set are the first of a larger one.
        per_class: images of each person with each of the seven expressions.
        identity: how strongly people differ: 0 not at all, 1 as in the street, above 1 exaggerated.
        seed: of everything that is left to chance.

    Raises:
        DatasetError: an option is out of its range, the images cannot fit, or the cache cannot be written.

    """
    _check(identity, subjects=(subjects, 1), per_class=(per_class, 1), seed=(seed, 0))
    options = [FORMAT, DRAWING, image_size, channels, subjects, per_class, float(identity), seed]
    path = cache / f"synthetic-{hashlib.sha256(json.dumps(options).encode()).hexdigest()[:24]}.arrow"
    if path.is_file():
        return path
    _check_room(len(CLASSES) * per_class * subjects, image_size, channels, cache)
    images, labels, people = draw_people(image_size, subjects, per_class, identity, seed)
    if channels == 1:
        images = _grey(images)
    names = [f"P{person:04d}" for person in people]
    takes = [
        f"{name}_{CLASSES[label]}_{index % per_class}"
        for index, (name, label) in enumerate(zip(names, labels, strict=True))
    ]
    return write_faceset(
        path, name="synthetic", images=images, labels=labels, subjects=names, sequences=takes, classes=CLASSES
    )


def true_neutrals(
    *, image_size: int, channels: int, subjects: int = 40, identity: float = 1.0, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """The true neutral face of every person of a set: no action unit, frontal, standard light, no noise.

    What a generator of neutral faces is judged against. It is in no set: a set's own neutral images have a pose, a light and
    strays of the action units. The options are those of `prepare`, and the same options give the same people.

    Args:
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        subjects: number of people.
        identity: how strongly people differ.
        seed: of everything that is left to chance.

    Returns:
        uint8 (subjects, image_size, image_size, channels); row k is the person P000k of the set.

    Raises:
        DatasetError: an option is out of its range.

    """
    _check(identity, subjects=(subjects, 1), image_size=(image_size, 1), seed=(seed, 0))
    if channels not in (1, 3):
        raise DatasetError(f"expected channels to be 1 or 3, found {channels!r}.")
    faces = np.empty((subjects, image_size, image_size, 3), np.uint8)
    for number, face in enumerate(faces):
        person = sample_people(np.random.default_rng([seed, number]), 1, identity)
        picture = draw(person, np.zeros((1, len(UNITS))), standard_shot(1), image_size)
        face[:] = np.rint(np.clip(picture[0], 0, 1) * 255)
    return _grey(faces) if channels == 1 else faces


def draw_people(
    image_size: int,
    subjects: int,
    per_class: int,
    identity: float,
    seed: int,
    weakest: float = 0.7,
    stray: float = 0.15,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """RGB images (N, size, size, 3), labels (N,) and people (N,), N = subjects * 7 * per_class, person by person.

    `weakest` and `stray` are those of `action_units.sample`.
    """
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    images = np.empty((subjects * len(labels), image_size, image_size, 3), np.uint8)
    for person in range(subjects):
        random = np.random.default_rng([seed, person])
        images[person * len(labels) :][: len(labels)] = _draw_person(
            random, labels, identity, image_size, weakest, stray
        )
    people = np.repeat(np.arange(subjects), len(labels))
    return images, np.tile(labels, subjects), people


def _draw_person(
    random: np.random.Generator, labels: npt.NDArray[np.int64], identity: float, size: int, weakest: float, stray: float
) -> npt.NDArray[np.uint8]:
    """All images (len(labels), size, size, 3) of one person."""
    person = sample_people(random, 1, identity)
    units = sample(random, labels, weakest, stray)
    shots = sample_shots(random, len(labels))
    pictures = np.empty((len(labels), size, size, 3), np.uint8)
    step = max(1, PIXELS // size**2)
    for part in np.split(np.arange(len(labels)), range(step, len(labels), step)):
        shot = _rows(shots, part)
        picture = draw(_rows(person, 0 * part), units[part], shot, size)
        picture += shot.noise[:, None, None, None] * random.standard_normal((*picture.shape[:3], 1))
        pictures[part] = np.rint(np.clip(picture, 0, 1) * 255)
    return pictures


def _grey(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RGB (N, ..., 3) to grey (N, ..., 1)."""
    grey = np.empty((*images.shape[:-1], 1), np.uint8)
    for target, image in zip(grey, images, strict=True):
        target[..., 0] = (image @ LUMA + 500) // 1000
    return grey


def _check(identity: object, **numbers: tuple[object, int]) -> None:
    """Raise DatasetError unless every number (value, least) is whole and large enough, and identity is within its range."""
    for option, (value, least) in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise DatasetError(f"expected {option} to be a whole number of at least {least}, found {value!r}.")
    if not isinstance(identity, (int, float)) or not 0 <= identity <= 2:
        raise DatasetError(f"expected identity to be within 0..2, found {identity!r}.")


def _check_room(count: int, size: int, channels: int, cache: Path) -> None:
    """Raise DatasetError where so many images can be neither held, drawn in RGB and then made grey, nor written."""
    folder = next(folder for folder in (cache, *cache.absolute().parents) if os.path.isdir(folder))  # noqa: PTH112  # raises nothing
    memory, disk = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), shutil.disk_usage(folder).free
    for what, room, each in (
        ("memory", memory, size**2 * (4 if channels == 1 else 3)),
        ("disk", disk, size**2 * channels),
    ):
        if count * each > room:
            raise DatasetError(
                f"expected drawn images that fit into the {room / 2**30:.1f} GiB of {what} here, found {count} of {size} x {size} pixels, "
                f"{count * each / 2**30:.1f} GiB; set dataset.subjects, dataset.per_class or image_size lower."
            )


def _rows(table: SimpleNamespace, rows: npt.NDArray[np.int64]) -> SimpleNamespace:
    return SimpleNamespace(**{name: values[rows] for name, values in vars(table).items()})


def contact_sheet(size: int = 112, people: int = 8, seed: int = 0) -> Image.Image:
    """A labelled picture: one row per person, one column per expression."""
    images, _, _ = draw_people(size, people, 1, 1.0, seed, weakest=0.85, stray=0.1)
    gap, head = 6, 30
    step = size + gap
    sheet = Image.new("RGB", (len(CLASSES) * step + gap, people * step + head), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for column, name in enumerate(CLASSES):
        pen.text((gap + column * step + size / 2, head / 2), name, fill=(40, 40, 40), font=font, anchor="mm")
    for index, image in enumerate(images):
        row, column = divmod(index, len(CLASSES))
        sheet.paste(Image.fromarray(image), (gap + column * step, head + row * step))
    return sheet


def main() -> None:
    """Write the contact sheet."""
    parser = argparse.ArgumentParser(prog="python -m datasets.synthetic", description="Show the synthetic faces.")
    parser.add_argument("--contact-sheet", metavar="PNG", type=Path, required=True, help="where to write the picture")
    parser.add_argument("--seed", type=int, default=0, help="which people (default 0)")
    arguments = parser.parse_args()
    if arguments.seed < 0:
        parser.error(f"expected a seed of at least 0, found {arguments.seed}")
    try:
        contact_sheet(seed=arguments.seed).save(arguments.contact_sheet)
    except (OSError, ValueError) as error:
        parser.error(f"expected a picture file that can be written, found {arguments.contact_sheet}: {error}")
    print(f"Wrote {arguments.contact_sheet}.")


if __name__ == "__main__":
    main()
