"""What lies beside a built data set for people to read: a summary, the list of images that were not taken, and a contact sheet."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from datasets.card import Card
from datasets.faceset import Strings
from datasets.listing import Face, Listing

SKIPPED, LEFT_OUT = "skipped", "left out"
SUBJECTS = 300  # Sets of more people are not listed person by person.
EXAMPLES = 10
_WARNINGS = "## Warnings\n"
COLUMNS, THUMBNAIL = 8, 96  # of the contact sheet: faces a class, and the greatest size of one in pixels


@dataclass(frozen=True, eq=False)
class Built:
    """Everything that a summary tells; arrays are those of the FaceSet, `skipped` holds reasons by the place in the listing."""

    card: Card
    listing: Listing
    options: Mapping[str, Any]
    path: Path
    skipped: Mapping[int, str]
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    subjects: Strings
    sequences: Strings
    official: Strings
    fingerprint: str


def write_summary(built: Built) -> None:
    """Write the .csv, .png and .md beside the Arrow file.

    Raises:
        OSError: they cannot be written.

    """
    with built.path.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("image", "what", "reason"))
        for row, reason in built.skipped.items():
            table.writerow((image_name(built.listing.faces[row], built.listing.root), SKIPPED, reason))
        table.writerows((item.name, LEFT_OUT, item.reason) for item in built.listing.left_out)
    contact_sheet(built).save(built.path.with_suffix(".png"), compress_level=1)  # a tenth of the usual time
    text = "\n".join([*_head(built), *_classes(built), *_warnings(built), *_not_taken(built), *_people(built)])
    built.path.with_suffix(".md").write_text(text + "\n", "utf-8")


def skipped_images(path: Path) -> list[tuple[str, str]]:
    """Name and reason of every image that was skipped when an Arrow file was built; () where nothing tells."""
    try:
        with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
            return [(row[0], row[2]) for row in csv.reader(file) if row[1:2] == [SKIPPED]]
    except OSError:
        return []


def warnings(path: Path) -> list[str]:
    """What the summary beside an Arrow file warns of, a line each and without examples; [] where there is none."""
    try:
        text = path.with_suffix(".md").read_text("utf-8", "replace")
    except OSError:
        return []
    lines = text.partition(_WARNINGS)[2].partition("\n## ")[0].splitlines()
    return [line.removeprefix("- ").rstrip(":") for line in lines if line.startswith("- ")]


def image_name(face: Face, root: Path) -> str:
    """The file of a face relative to the root, with what of it is meant."""
    name = str(face.source.file).removeprefix(os.path.join(root, ""))  # noqa: PTH118  # may lie elsewhere in tests of bad input
    return f"{name}, {face.source.part}" if face.source.part else name


def contact_sheet(built: Built) -> Image.Image:
    """A labelled picture: a row per class, faces of as many people as it has, spread over the set."""
    size = min(THUMBNAIL, built.images.shape[1])
    gap, left, step = 4, 90, size + 4
    sheet = Image.new("RGB", (left + COLUMNS * step, len(built.listing.classes) * step + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, name in enumerate(built.listing.classes):
        pen.text((gap, gap + row * step + size / 2), name[:14], fill=(40, 40, 40), font=font, anchor="lm")
        members = np.flatnonzero(built.labels == row)
        firsts = members[np.unique(built.subjects[members], return_index=True)[1]]
        chosen = firsts if len(firsts) >= min(COLUMNS, len(members)) else members
        for column, index in enumerate(chosen[np.linspace(0, len(chosen) - 1, min(COLUMNS, len(chosen))).astype(int)]):
            pixels = built.images[index]
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            sheet.paste(image.resize((size, size)), (left + column * step, gap + row * step))
    return sheet


def _head(built: Built) -> Iterator[str]:
    count, size, _, channels = built.images.shape
    people = f"{len(set(built.subjects.tolist()))} people" if built.card.identities else "nobody knows how many people"
    yield f"# {built.card.title}\n"
    yield f"{count} images of {people}, {size} x {size} pixels, {'grey' if channels == 1 else 'RGB'}.\n"
    yield "| | |\n|---|---|"
    yield f"| root | {built.listing.root.resolve()} |"
    yield f"| options | {', '.join(f'{name}={value}' for name, value in built.options.items())} |"
    yield f"| fingerprint | {built.fingerprint} |"
    yield f"| skipped | {len(built.skipped)} of {len(built.listing.faces)} images |"
    yield f"| terms | {built.card.terms} |"
    yield f"| cite | {built.card.source} |\n"


def _classes(built: Built) -> Iterator[str]:
    classes, expected = built.listing.classes, built.listing.expected
    found = Counter(zip(built.official.tolist(), built.labels.tolist(), strict=True))
    parts = sorted({part for part, _ in found} | set(expected), key=["train", "val", "test", ""].index)
    yield "## Images by class\n"
    yield "As found; in parentheses what the literature counts, where it differs.\n" if expected else ""
    yield f"| part | {' | '.join(classes)} | all |\n|---|{'---:|' * (len(classes) + 1)}"
    for part in parts:
        cells, wanted = [found[part, label] for label in range(len(classes))], expected.get(part)
        known = [wanted.get(name, 0) for name in classes] if wanted is not None else cells
        pairs = zip([*cells, sum(cells)], [*known, sum(known)], strict=True)
        yield f"| {part or 'all'} | {' | '.join(str(a) if a == b else f'{a} ({b})' for a, b in pairs)} |"
    yield ""


def _warnings(built: Built) -> Iterator[str]:
    lines = [
        f"- No image of the class {name!r}."
        for label, name in enumerate(built.listing.classes)
        if label not in built.labels
    ]
    lines += _twins(built)
    if lines:
        yield _WARNINGS
        yield from lines
        yield ""


def _twins(built: Built) -> Iterator[str]:
    """Images whose pixels are the same to the last bit though their labels, subjects or official parts differ."""
    images = np.asarray(built.images)  # A mapping itself is slow to index.
    middle = images.shape[1] // 2
    # One line of pixels tells nearly all images apart.
    alike = _alike(np.arange(len(images)), lambda index: images[index, middle])
    groups = [group for suspects in alike for group in _alike(suspects, lambda index: images[index])]
    groups.sort(key=lambda group: int(group[0]))
    kept = [face for row, face in enumerate(built.listing.faces) if row not in built.skipped]
    columns = [(built.labels, "labels"), (built.subjects, "subjects"), (built.official, "official parts")]
    for values, what in columns if built.card.identities else (columns[0], columns[2]):
        differing = [group for group in groups if len(set(values[group].tolist())) > 1]
        if differing:
            yield f"- {len(differing)} images occur more than once with different {what}:"
        for group in differing[:EXAMPLES]:
            names = [f"`{image_name(kept[index], built.listing.root)}`" for index in group[:4]]
            yield f"  - {' = '.join(names)}{' = ...' if len(group) > 4 else ''}"
        if len(differing) > EXAMPLES:
            yield "  - ..."


def _alike(rows: npt.NDArray[np.intp], piece: Callable[[int], npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.intp]]:
    """Groups of ascending rows, of two or more, whose pieces are the same."""
    digests = np.fromiter(
        (int.from_bytes(hashlib.sha256(piece(row).data).digest()[:8], "big") for row in rows), np.uint64, len(rows)
    )
    order = np.argsort(digests, kind="stable")
    starts = np.flatnonzero(np.diff(digests[order])) + 1
    return [rows[group] for group in np.split(order, starts) if len(group) > 1]


def _not_taken(built: Built) -> Iterator[str]:
    csv_name = built.path.with_suffix(".csv").name
    if built.skipped:
        yield f"## Skipped\n\nThese images cannot be read; all of them are in `{csv_name}`.\n"
        for row, reason in list(built.skipped.items())[:EXAMPLES]:
            yield f"- `{image_name(built.listing.faces[row], built.listing.root)}`: {reason}"
        yield "- ...\n" if len(built.skipped) > EXAMPLES else ""
    if built.listing.left_out:
        reasons = Counter(item.reason for item in built.listing.left_out)
        first = {item.reason: item.name for item in reversed(built.listing.left_out)}
        yield f"## Left out\n\nThese do not belong to the set; all of them are in `{csv_name}`.\n"
        yield "| reason | how many | first |\n|---|---:|---|"
        for reason, count in reasons.most_common():
            yield f"| {reason} | {count} | `{first[reason]}` |"
        yield ""


def _people(built: Built) -> Iterator[str]:
    classes = built.listing.classes
    by_subject: dict[str, Counter[int]] = defaultdict(Counter)
    sequences: dict[str, set[str]] = defaultdict(set)
    for subject, sequence, label in zip(
        built.subjects.tolist(), built.sequences.tolist(), built.labels.tolist(), strict=True
    ):
        by_subject[subject][label] += 1
        sequences[subject].add(sequence)
    if not built.card.identities:
        yield "## Subjects\n\nNobody knows who is shown: every image counts as a subject of its own."
        return
    yield "## Images by subject\n"
    if len(by_subject) > SUBJECTS:
        counts = [sum(found.values()) for found in by_subject.values()]
        yield f"{len(counts)} subjects with {min(counts)} to {max(counts)} images, {np.median(counts):g} in the middle."
        return
    yield f"| subject | {' | '.join(classes)} | images | sequences |\n|---|{'---:|' * (len(classes) + 2)}"
    for subject, found in sorted(by_subject.items()):
        cells = [found[label] for label in range(len(classes))]
        yield f"| {subject} | {' | '.join(map(str, cells))} | {sum(cells)} | {len(sequences[subject])} |"
