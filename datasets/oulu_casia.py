"""Oulu-CASIA NIR&VIS: sequences from the neutral face to the peak of a posed expression, under three lights and by two cameras.

Public code reads OriginalImg/VL/Strong/P001/Anger/000.jpeg (320 x 240) and, cut to the face, PreProcess_Img/VL_Acropped/Strong/... [W].
The field takes visible light, strong, and the last three frames of each of the 480 sequences.
"""

from __future__ import annotations

import re
from pathlib import Path

from datasets.card import Card
from datasets.expressions import canonical
from datasets.layout import contents, home, nested, require_faces, root_folder, subfolder, visible
from datasets.listing import Face, LeftOut, Listing
from datasets.options import at_least, one_of
from datasets.sources import ImageFile

CARD = Card(
    name="oulu_casia",
    title="Oulu-CASIA",
    description=(
        "Posed expressions of 80 people from Finland and China, each a film from the neutral face to the peak, "
        "by a visible-light and an infrared camera under strong, weak and dark light."
    ),
    classes=("anger", "disgust", "fear", "happiness", "sadness", "surprise"),
    images=1440,
    subjects=80,
    people="oulu_casia",
    fold_rule="contiguous",
    folds=10,
    metric="test_accuracy",
    layout=(
        "OriginalImg/VL/Strong/P001/Anger/000.jpeg",
        "PreProcess_Img/VL_Acropped/Strong/P001/Anger/000.jpeg (for version=cropped)",
    ),
    terms="Research only; signed form.",
    obtain="Form of the University of Oulu, Center for Machine Vision and Signal Analysis: ask there for Oulu-CASIA NIR&VIS.",
    source=(
        "G. Zhao, X. Huang, M. Taini, S. Z. Li, M. Pietikainen: Facial expression recognition from near-infrared videos. "
        "Image and Vision Computing 2011."
    ),
)

# Spellings of the outer folders in public code [W].
_VERSIONS = {"original": ("OriginalImg", "B_OriginalImg"), "cropped": ("PreProcess_Img", "PreProcessImg", "PreProcess")}
_SUBJECTS = {f"P{number:03d}" for number in range(1, 81)}


def scan(
    root: str | Path, *, light: str = "Strong", camera: str = "VL", version: str = "original", frames: int = 3
) -> Listing:
    """Find the last frames of every sequence of one light and camera.

    Args:
        root: the folder that holds `OriginalImg` or `PreProcess_Img`.
        light: Strong, Weak or Dark.
        camera: VL, visible light, or NI, near infrared.
        version: original, or cropped, the faces that the authors cut out.
        frames: how many of the last frames of a sequence.

    Raises:
        DatasetError: a folder is missing, there is no sequence, or an option is out of its range.

    """
    one_of("light", light, ("Strong", "Weak", "Dark"))
    one_of("camera", camera, ("VL", "NI"))
    one_of("version", version, tuple(_VERSIONS))
    at_least("frames", frames, 1)
    root = root_folder(root, CARD.title, _VERSIONS[version][0])
    spellings = _VERSIONS[version]
    outer = nested(subfolder(home(root, *spellings), *spellings, holds=f"version={version}"), *spellings)
    inner = subfolder(outer, camera if version == "original" else f"{camera}_Acropped", holds=f"camera={camera}")
    folder = subfolder(inner, light, holds=f"light={light}")

    faces: list[Face] = []
    left_out: list[LeftOut] = []
    taken: set[tuple[str, str]] = set()
    for subject in visible(folder, root):
        if not subject.is_dir() or subject.name.upper() not in _SUBJECTS:
            left_out.append(LeftOut(subject.relative_to(root).as_posix(), "not a folder of a subject, P001 to P080"))
            continue
        for sequence in visible(subject, root):
            word, place = canonical(sequence.name), sequence.relative_to(root).as_posix()
            if not sequence.is_dir() or word not in CARD.classes:
                left_out.append(LeftOut(place, "not a folder of one of the six expressions"))
                continue
            images = _last(sequence, frames, root, left_out)
            if len(images) < frames or (subject.name.upper(), word) in taken:
                reason = "fewer frames than asked for" if len(images) < frames else "two folders of one sequence"
                left_out.append(LeftOut(place, reason))
                continue
            person = subject.name.upper()
            taken.add((person, word))
            faces += [Face(ImageFile(image), CARD.classes.index(word), person, f"{person}_{word}") for image in images]
    require_faces(faces, left_out, root, CARD.title)
    known = (light, camera) == ("Strong", "VL")
    expected = {"": dict.fromkeys(CARD.classes, 80 * frames)} if known else {}
    return Listing(root, CARD.classes, faces, [], left_out, expected)


def _last(sequence: Path, frames: int, root: Path, left_out: list[LeftOut]) -> list[Path]:
    """The last frames by number; fewer where there are not so many."""
    found: dict[int, Path] = {}
    images, others = contents(sequence, root)
    left_out += [LeftOut((sequence / name).relative_to(root).as_posix(), "not an image file") for name in others]
    for name in images:
        match = re.fullmatch(r"(\d{1,4})\.[a-z]+", name, re.IGNORECASE)
        if match and int(match[1]) not in found:
            found[int(match[1])] = sequence / name
        else:
            reason = "two files of one frame" if match else "not named as a frame, 000.jpeg"
            left_out.append(LeftOut((sequence / name).relative_to(root).as_posix(), reason))
    return [found[number] for number in sorted(found)[-frames:]]
