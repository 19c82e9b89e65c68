"""Walking a root that a user named: what is missing, hidden, unreadable or outside of it is told in one sentence."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets.errors import DatasetError
from datasets.expressions import canonical
from datasets.listing import Face, LeftOut

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def root_folder(root: str | Path | None, title: str, layout: str) -> Path:
    """The folder that the user named.

    Raises:
        DatasetError: none is named, or there is no folder there (an archive is to be unpacked first).

    """
    if not str(root or ""):
        raise DatasetError(f"expected the folder of {title} ({layout}), found none; set dataset.root=PATH.")
    try:
        folder = Path(str(root)).expanduser()
        folder.stat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError) as error:
        # Too long, behind a closed folder, or of a user whom nobody knows.
        raise DatasetError(
            f"expected the folder of {title}, found that {str(root)[:100]!r} cannot be opened "
            f"({getattr(error, 'strerror', None) or str(error).rstrip('.')}); set dataset.root=PATH."
        ) from error
    if folder.is_file():
        raise DatasetError(
            f"expected the folder of {title} at {folder}, found a file; unpack it and name the folder that holds {layout}."
        )
    if not folder.is_dir():
        raise DatasetError(f"expected the folder of {title} at {folder}, found nothing; set dataset.root=PATH.")
    return folder


def visible(folder: Path, root: Path) -> list[Path]:
    """Entries of a folder sorted by name, without hidden ones and macOS's and Windows' own files.

    Raises:
        DatasetError: it cannot be read, a name is not UTF-8, an entry is a pipe or the like, or a link that leaves the root or leads
            nowhere.

    """
    return [folder / name for name in sorted(entry.name for entry in _entries(folder, root))]


def contents(folder: Path, root: Path) -> tuple[list[str], list[str]]:
    """Names of the images and of the other entries right in a folder, each sorted, from one listing: no file is looked at.

    Raises:
        DatasetError: as `visible`.

    """
    images: list[str] = []
    others: list[str] = []
    for entry in _entries(folder, root):
        image = entry.name.lower().endswith(SUFFIXES) and not entry.is_dir()
        (images if image else others).append(entry.name)
    return sorted(images), sorted(others)


def innermost(folder: Path, root: Path) -> tuple[Path, list[str], list[str]]:
    """A folder and its `contents`, or those of the folder in it while it holds nothing else, as unpacking into it leaves it."""
    images, others = contents(folder, root)
    while not images and len(others) == 1 and (folder / others[0]).is_dir():
        folder = folder / others[0]
        images, others = contents(folder, root)
    return folder, images, others


def home(root: Path, *markers: str) -> Path:
    """The folder that holds one of the markers, whatever the case: the root, or the one at most two levels below it.

    Unpacking an archive often puts a folder into a folder.

    Returns:
        The folder; the root where none holds a marker.

    Raises:
        DatasetError: two folders of the same level do.

    """
    wanted = {marker.casefold() for marker in markers}
    level = [root]
    for _ in range(3):
        entries = {folder: visible(folder, root) for folder in level}
        found = [folder for folder in level if any(entry.name.casefold() in wanted for entry in entries[folder])]
        if len(found) > 1:
            raise DatasetError(
                f"expected one folder that holds {' or '.join(markers)} below {root}, found {found[0]} and {found[1]}; "
                "set dataset.root to one of them."
            )
        if found:
            return found[0]
        level = [entry for folder in level for entry in entries[folder] if entry.is_dir()]
    return root


def images_below(folder: Path, root: Path) -> list[Path]:
    """Image files in a folder and in the folders in it at any depth; other files are passed over, and links that lead back up.

    Raises:
        DatasetError: as `visible`.

    """
    found: list[Path] = []
    left = [(folder, {folder.resolve()})]
    while left:
        inner, above = left.pop()
        images, others = contents(inner, root)
        found += [inner / name for name in images]
        for name in reversed(others):  # The last of the list is the next.
            entry = inner / name
            if entry.is_dir() and (there := entry.resolve()) not in above:
                left.append((entry, above | {there}))
    return found


def nested(folder: Path, *spellings: str) -> Path:
    """The folder itself, or the one in it with one of the spellings: Emotion_labels/Emotion.

    Raises:
        DatasetError: there are two.

    """
    inner = optional(folder, *spellings)
    return inner if inner is not None and inner.is_dir() else folder


def labelled_images(folder: Path, classes: Sequence[str], root: Path) -> tuple[list[tuple[int, Path]], list[LeftOut]]:
    """Label and file of the images in a folder of class folders, whose names are read by `canonical`; and what else lies there.

    Raises:
        DatasetError: a class has no folder, or two.

    """
    found: dict[str, Path] = {}
    left_out: list[LeftOut] = []
    for entry in visible(folder, root):
        word = canonical(entry.name)
        if word not in classes or not entry.is_dir():
            left_out.append(LeftOut(entry.relative_to(root).as_posix(), "not a folder of one of the classes"))
        elif word in found:
            raise DatasetError(
                f"expected one folder for {word} in {folder}, found {found[word].name} and {entry.name}; keep one."
            )
        else:
            found[word] = entry
    missing = [word for word in classes if word not in found]
    if missing:
        raise DatasetError(
            f"expected a folder for each of {', '.join(classes)} in {folder}, found none for {' and '.join(missing)} "
            f"but {_some([entry.name for entry in visible(folder, root)])}; unpack the whole release."
        )
    images: list[tuple[int, Path]] = []
    for label, word in enumerate(classes):
        inner, names, others = innermost(found[word], root)
        images += [(label, inner / name) for name in names]
        left_out += [LeftOut((inner / name).relative_to(root).as_posix(), "not an image file") for name in others]
    return images, left_out


def columns(file: Path, cells: Sequence[str], *needed: str) -> dict[str, int]:
    """Place of every column by its name in lower case, from the first row of a table.

    Raises:
        DatasetError: one that is needed is missing, or two bear one name.

    """
    places = {cell.strip().casefold(): place for place, cell in enumerate(cells)}
    missing = [name for name in needed if name.casefold() not in places]
    if missing:
        found = ", ".join(cell[:40] for cell in cells[:5]) or "nothing"
        raise DatasetError(
            f"expected the columns {', '.join(needed)} in the first line of {file}, found {found}; take the released file."
        )
    if len(places) < len(cells):
        raise DatasetError(
            f"expected every column once in the first line of {file}, found two of one name; rename one."
        )
    return places


def require_faces(
    faces: Sequence[Face], left_out: Sequence[LeftOut], root: Path, title: str, parts: Sequence[str] = ("",)
) -> None:
    """Refuse a root of which nothing, or nothing of an official part, can be taken.

    Raises:
        DatasetError: there is no face of a part ("": at all); it names an example of a missing image, or of the most frequent reason.

    """
    there = {"", *(face.official for face in faces)} if faces else set()
    for part in parts:
        if part in there:
            continue
        reasons = Counter(item.reason for item in left_out)
        reason = (
            "image is missing" if "image is missing" in reasons else max(reasons, key=reasons.__getitem__, default="")
        )
        example = next((f", as {item.name}: {reason}" for item in left_out if item.reason == reason), "")
        raise DatasetError(
            f"expected labelled images of {title}{part and f', part {part},'} in {root}, found none "
            f"({len(left_out)} left out{example}); check dataset.root and that everything is unpacked."
        )


def subfolder(parent: Path, *spellings: str, holds: str) -> Path:
    """The folder of `parent` with one of the spellings, whatever the case; `holds` says what it is for.

    Raises:
        DatasetError: it is missing, or there are two.

    """
    found = optional(parent, *spellings)
    if found is None or not found.is_dir():
        raise DatasetError(
            f"expected the folder {' or '.join(spellings)} ({holds}) in {parent}, found "
            f"{_some([entry.name for entry in parent.iterdir() if not _is_litter(entry.name)])}; "
            "set dataset.root to the folder that holds it."
        )
    return found


def optional(parent: Path, *spellings: str) -> Path | None:
    """The entry of `parent` with one of the spellings, whatever the case; None where there is none.

    Raises:
        DatasetError: there are two, or the folder cannot be read.

    """
    wanted = {spelling.casefold() for spelling in spellings}
    found = [entry for entry in visible(parent, parent) if entry.name.casefold() in wanted]
    if len(found) > 1:
        raise DatasetError(
            f"expected one of {' or '.join(spellings)} in {parent}, found {' and '.join(entry.name for entry in found)}; keep one."
        )
    return found[0] if found else None


def rows(file: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row of a text table: UTF-8 with or without BOM, any line ends, empty lines passed over.

    Raises:
        DatasetError: the file cannot be read, or is no such text.

    """
    try:
        # newline="" leaves line ends to csv, which takes all of them.
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"expected a text table in UTF-8 at {file}, but {error}; take the released file.") from error


def _entries(folder: Path, root: Path) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder in any order, without litter; their kind comes with the listing and costs no look at the file."""
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                if not _is_litter(entry.name):
                    _check_entry(entry, root)
                    yield entry
    except OSError as error:
        raise DatasetError(
            f"expected a readable folder at {folder}, found: {error.strerror}; check its rights."
        ) from error


def _check_entry(entry: os.DirEntry[str], root: Path) -> None:
    try:
        entry.path.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"expected file names in UTF-8, found {entry.path!r}; rename it.") from error
    if entry.is_symlink():
        target = Path(os.path.realpath(entry.path))  # Unlike resolve, it takes a link to itself.
        if not target.is_relative_to(root.resolve()) or not target.exists():
            raise DatasetError(
                f"expected everything within {root}, found that {entry.path} is a link to {target}; put a copy in its place, "
                "or set dataset.root to a folder that holds the data set alone."
            )
    elif not (entry.is_file() or entry.is_dir()):
        # Reading a pipe would wait for ever.
        raise DatasetError(
            f"expected files and folders only below {root}, found something else at {entry.path}; move it away, "
            "or set dataset.root to a folder that holds the data set alone."
        )


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _some(names: list[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "") if names else "nothing"
