"""Walking a root that a user named: what is missing, hidden, unreadable or outside of it is told in one sentence."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from datasets.errors import DatasetError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def root_folder(root: str | Path | None, title: str, layout: str) -> Path:
    """The folder that the user named.

    Raises:
        DatasetError: none is named, or there is no folder there (an archive is to be unpacked first).

    """
    if not str(root or ""):
        raise DatasetError(f"expected the folder of {title} ({layout}), found none; set dataset.root=PATH.")
    folder = Path(str(root)).expanduser()
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
        DatasetError: it cannot be read, a name is not UTF-8, or an entry is a link that leaves the root or leads nowhere.

    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not _is_litter(entry.name))
    except OSError as error:
        raise DatasetError(
            f"expected a readable folder at {folder}, found: {error.strerror}; check its rights."
        ) from error
    inside = root.resolve()
    for entry in entries:
        try:
            str(entry).encode()
        except UnicodeEncodeError as error:
            raise DatasetError(f"expected file names in UTF-8, found {str(entry)!r}; rename it.") from error
        if entry.is_symlink():
            target = entry.resolve()
            if not target.is_relative_to(inside) or not target.exists():
                raise DatasetError(
                    f"expected everything within {root}, found that {entry} is a link to {target}; put a copy in its place."
                )
    return entries


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
        DatasetError: there are two.

    """
    wanted = {spelling.casefold() for spelling in spellings}
    found = sorted(entry for entry in parent.iterdir() if entry.name.casefold() in wanted)
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


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _some(names: list[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "") if names else "nothing"
