"""Where the store keeps what: parts, compact files, the manifest and the locks."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from results.errors import StoreError, StoreUnavailable, passes
from results.files import locked, make_folder, publish, read_parquet, remove, temporary, write_file
from results.index import Standing
from results.schema import SCHEMA_VERSION, TABLES, TRIAL_TABLES

Signature = tuple[Any, ...]
Listing = Mapping[str, Mapping[str, Signature]]
LAYOUT = 1
INDEX = "index"
NAME = re.compile(r"[\w=+-][\w.=+-]{0,199}", re.ASCII)
SUFFIX = ".parquet"
ATTEMPT = "~"  # in S3, where no part is ever replaced, between a part's name and what tells its versions apart


@dataclass(frozen=True)
class Generation:
    """What one compaction wrote: the number of parts that went into it, and one file for each table that had rows.

    The file INDEX says where its trials are; files of earlier versions lack it.
    """

    parts: int
    files: dict[str, str] = field(default_factory=dict)


class Layout:
    """The folders of a store. Listing reads only names and inodes, never contents.

    Args:
        root: the folder of them all.

    Attributes:
        address: what the store is called where something is wrong with it.
        replaces_parts: whether a new attempt at a trial takes the place of the parts of the old one.

    """

    replaces_parts = True

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

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

    def stem(self, key: str, signature: Signature) -> str:
        """The name of the parts of the rows of a trial whose part in `trials` has this signature."""
        return key

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

    def read_several(
        self, table: str, names: Sequence[str], schema: pa.Schema, *, strict: bool = False
    ) -> Iterator[Iterator[pa.Table]]:
        """`read_part` of each."""
        for name in names:
            yield self.read_part(table, name, schema, strict=strict)

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
        try:
            return self.parsed(self.manifest())
        except FileNotFoundError:
            return []
        except OSError as error:
            kind = StoreUnavailable if passes(error) else StoreError
            raise kind(f"Expected to read {self.address}/MANIFEST.json, found: {error.strerror}.") from error

    def parsed(self, manifest: bytes) -> list[Generation]:
        """The generations of a manifest.

        Raises:
            StoreError: as for `generations`.

        """
        path = f"{self.address}/MANIFEST.json"
        try:
            content: dict[str, Any] = json.loads(manifest)
            if content["layout"] != LAYOUT:
                raise StoreError(
                    f"{path} was written by a later version (layout {content['layout']}): update this one."
                )
            return [Generation(**generation) for generation in content["generations"]]
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise StoreError(f"Expected the store's manifest, found {path}, which cannot be read: {error}.") from error

    def write_manifest(self, generations: list[Generation], before: list[Generation] | None = None) -> None:
        """Replace the manifest, which had the generations `before`: from here on these compact files count and no others."""
        content = {"layout": LAYOUT, "schema_version": SCHEMA_VERSION, "generations": [vars(g) for g in generations]}
        write_file(self.root / "MANIFEST.json", json.dumps(content, indent=1).encode())

    def write(self, table: str, name: str, data: bytes) -> None:
        """Write, or replace, a part of a table that is written by name; under the lock `writing`."""
        write_file(self.part(table, name), data)

    def commit(self, key: str, standing: Standing, tables: Mapping[str, bytes]) -> None:
        """Write the parts of a trial instead of those that are there; under the lock `writing`."""
        # The mark goes first and comes last: between the two the trial is not committed.
        remove(self.part("trials", key))
        for table in reversed(TRIAL_TABLES):
            if table in tables:
                write_file(self.part(table, key), tables[table])
            else:
                remove(self.part(table, key))

    def aside(self, name: str) -> Path:
        """A new file on this machine for what becomes a compact file; under the lock `compacting`."""
        folder = self.compact("")
        make_folder(folder)
        return temporary(folder / name)

    def keep(self, aside: Path, name: str) -> str:
        """Make a finished file a compact one, not yet named by the manifest; returns what to name it by."""
        publish(aside, self.compact(name))
        return name

    def remove_parts(self, listed: Listing) -> None:
        """Remove the parts that were listed, even half commits, and not replaced since; the commit marks first.

        The lock is taken for a few at a time, so that no commit waits long.
        """
        trial_tables = [table for table, spec in TABLES.items() if spec.per_trial]
        names = sorted({name for table in trial_tables for name in listed[table]})
        groups = [(trial_tables, name) for name in names]
        groups += [([table], name) for table, spec in TABLES.items() if not spec.per_trial for name in listed[table]]
        for start in range(0, len(groups), 32):
            with self.writing():
                for tables, name in groups[start : start + 32]:
                    if self.signature(tables[0], name) == listed[tables[0]].get(name):
                        for table in tables:
                            if name in listed[table]:
                                remove(self.part(table, name))

    def check_writable(self) -> None:
        """Find out by trying whether results can be written here, and leave nothing behind.

        Raises:
            OSError: they cannot.

        """
        missing = [folder for folder in (self.root, *self.root.parents) if not os.path.lexists(folder)]
        made: list[Path] = []
        trial = temporary(self.root / "writable")
        try:
            for folder in reversed(missing):
                folder.mkdir()
                made.append(folder)
            trial.write_bytes(b"written to see whether it can be")
        finally:
            if trial.parent.is_dir():
                trial.unlink(missing_ok=True)
            # Another study may have put something there meanwhile.
            with suppress(OSError):
                for folder in reversed(made):
                    folder.rmdir()

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
        self.name, self._handle = str(name), handle
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
