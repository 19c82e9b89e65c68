"""Where the store keeps what: parts, compact files, the manifest and the locks."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from results.errors import StoreError, StoreUnavailable, passes
from results.files import locked, make_folder, read_parquet, remove, write_file
from results.schema import SCHEMA_VERSION, TABLES

Signature = tuple[int, int, int]
LAYOUT = 1
INDEX = "index"
NAME = re.compile(r"[\w=+-][\w.=+-]{0,199}", re.ASCII)
SUFFIX = ".parquet"


@dataclass(frozen=True)
class Generation:
    """What one compaction wrote: the number of parts that went into it, and one file for each table that had rows.

    The file INDEX says where its trials are; files of earlier versions lack it.
    """

    parts: int
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """The folders of a store. Listing reads only names and inodes, never contents."""

    root: Path

    def part(self, table: str, name: str) -> Path:
        """The file of one part.

        Raises:
            StoreError: `name` cannot be a file's name.

        """
        if not NAME.fullmatch(name):
            raise StoreError(f"Expected a name of at most 200 letters, digits and _ - . = +, found {name!r}.")
        return self.root / "parts" / table / f"{name}.parquet"

    def parts(self, table: str) -> dict[str, Signature]:
        """The parts of a table by name, each with what changes when the part is replaced."""
        found = {}
        for entry in self._scan(self.root / "parts" / table):
            if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                try:
                    found[entry.name[: -len(SUFFIX)]] = _signature(entry.stat())
                except FileNotFoundError:
                    continue
        return dict(sorted(found.items()))

    def names(self, table: str) -> set[str]:
        """The names of the parts of a table; cheaper than `parts`."""
        entries = self._scan(self.root / "parts" / table)
        return {e.name[: -len(SUFFIX)] for e in entries if e.name.endswith(SUFFIX) and not e.name.startswith(".")}

    def signature(self, table: str, name: str) -> Signature | None:
        """What changes when a part is replaced; None when there is no such part."""
        try:
            return _signature(self.part(table, name).stat())
        except FileNotFoundError:
            return None

    @property
    def readable_in_bulk(self) -> bool:
        """Whether DuckDB may read the parts by their paths, where it would take some characters for a pattern."""
        return not set("*?[{") & set(str(self.root))

    def read_part(self, table: str, name: str, schema: pa.Schema, *, strict: bool = False) -> Iterator[pa.Table]:
        """The rows of one part, as `read_parquet` has them."""
        return read_parquet(self.part(table, name), schema, strict=strict)

    def compact(self, file: str) -> Path:
        """A file of the manifest."""
        return self.root / "compact" / file

    def hold(self, path: Path) -> "Held":
        """Open a file such that it can be read until it is closed, even when it is removed meanwhile.

        Raises:
            FileNotFoundError: there is no such file (any more).

        """
        return Held(os.open(path, os.O_RDONLY), path)

    def manifest(self) -> bytes:
        """The manifest as it is now.

        Raises:
            FileNotFoundError: nothing was ever compacted.

        """
        return (self.root / "MANIFEST.json").read_bytes()

    def generations(self) -> list[Generation]:
        """The compact files that count, oldest generation first.

        Raises:
            StoreError: the manifest is damaged, or of a later version.

        """
        path = f"{self.root}/MANIFEST.json"
        try:
            content: dict[str, Any] = json.loads(self.manifest())
            if content["layout"] != LAYOUT:
                raise StoreError(
                    f"{path} was written by a later version (layout {content['layout']}): update this one."
                )
            return [Generation(**generation) for generation in content["generations"]]
        except FileNotFoundError:
            return []
        except (KeyError, TypeError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            kind = StoreUnavailable if passes(error) else StoreError
            raise kind(f"Expected the store's manifest, found {path}, which cannot be read: {error}.") from error

    def write_manifest(self, generations: list[Generation]) -> None:
        """Replace the manifest: from here on these compact files count and no others."""
        content = {"layout": LAYOUT, "schema_version": SCHEMA_VERSION, "generations": [vars(g) for g in generations]}
        write_file(self.root / "MANIFEST.json", json.dumps(content, indent=1).encode())

    def check_kind(self) -> None:
        """Refuse to write where that cannot be done."""

    def writing(self) -> AbstractContextManager[None]:
        """The lock of whoever changes parts or the manifest; held for milliseconds."""
        make_folder(self.root)
        return locked(self.root / ".writing")

    def compacting(self) -> AbstractContextManager[None]:
        """The lock of whoever writes compact files; held as long as that takes."""
        make_folder(self.root)
        return locked(self.root / ".compacting")

    def sweep_parts(self) -> None:
        """Remove the temporary files of crashed writers; under the lock `writing` none is in use."""
        for folder in (self.root, *(self.root / "parts" / table for table in TABLES)):
            for entry in self._scan(folder):
                if entry.name.endswith(".tmp"):
                    remove(Path(entry.path))

    def sweep_compact(self, generations: list[Generation]) -> None:
        """Remove the compact files that the manifest does not name; under the lock `compacting`."""
        named = {file for generation in generations for file in generation.files.values()}
        for entry in self._scan(self.root / "compact"):
            if entry.name not in named:
                remove(Path(entry.path))

    @staticmethod
    def _scan(folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []
        except OSError as error:
            kind = StoreUnavailable if passes(error) else StoreError
            raise kind(f"Expected a folder of results, found {folder}: {error.strerror}.") from error


class Held:
    """A file that is held open. `path` is what another reader of this process opens it by."""

    def __init__(self, handle: int, name: Path) -> None:
        self.name, self._handle = name, handle
        self.path: str | None = f"/dev/fd/{handle}"

    def open(self, *, mapped: bool = False) -> pa.NativeFile:
        """The file, to be read at any place; `mapped` into memory where that can be done."""
        return pa.memory_map(self.path) if mapped else pa.OSFile(self.path)

    def dataset(self, schema: pa.Schema) -> Any:
        """The file as a dataset, for one that has no path here."""
        raise NotImplementedError(self.name)

    def close(self) -> None:
        """Let it go."""
        os.close(self._handle)


def close_all(held: Iterable[Held]) -> None:
    """Let them all go."""
    for file in held:
        file.close()


def _signature(status: os.stat_result) -> Signature:
    return status.st_ino, status.st_mtime_ns, status.st_size
