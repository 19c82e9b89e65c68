"""A store in S3, where no lock is and no object changes once it is written, but for the manifest.

Parts bear what tells their versions apart, so that workers which commit one trial at a time, or beside a compaction,
never mix rows: the parts of an attempt are KEY~STATUS-RETRAINED-ENDED-DIGEST, written before the part of `trials`, and
the name of that one says which attempt stands, of equals the first; what is written by name is NAME~VERSION, of which
the latest counts. An attempt committed twice gives the same objects.

A compaction reads all that, uploads its files, and replaces the manifest if that is still the one it began with; else it
begins anew. What it merged is removed afterwards, and the compact files that no longer count hours later, when nobody
reads them any more; so is what writers left that died.
"""

import hashlib
import json
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from results.errors import StoreError
from results.files import read_parquet, readable
from results.index import Standing
from results.layout import ATTEMPT, LAYOUT, NAME, SUFFIX, Generation, Held, Layout, Listing, Signature
from results.remote import ABSENT, Remote
from results.schema import SCHEMA_VERSION, TABLES, TRIAL_TABLES

ENDS = 100  # of files that are remembered, 64 kB each
HOURS = 6 * 3600.0  # seconds: no reader, commit or compaction takes as long
MANIFEST = "MANIFEST.json"
VERSIONS = {
    True: re.compile(r"~\d+-\d+-\d+-[0-9a-f]{16}|"),
    False: re.compile(r"~\d{20}-[0-9a-f]{12}|"),
}  # by per_trial


class Part(NamedTuple):
    """An object below parts.

    Attributes:
        name: of the part.
        version: with ATTEMPT before it; none where the part was copied here from a folder.
        place: among the versions of the part the greatest counts.
        etag, age: as of `Entry`.

    """

    name: str
    version: str
    place: tuple[Any, ...]
    etag: str
    age: float

    @property
    def stem(self) -> str:
        """Name and version, as in the object's name."""
        return self.name + self.version


class FarLayout(Layout):
    """The objects of a store under s3://BUCKET/PREFIX.

    Args:
        address: s3://BUCKET/PREFIX.

    Raises:
        StoreError: as `Remote`.

    """

    replaces_parts = False
    readable_in_bulk = False

    def __init__(self, address: str) -> None:
        super().__init__(Path())
        self.remote = Remote(address)
        self.address = self.remote.address
        self._compacting = threading.Lock()
        self._scratch, self._replaced = Path(), False
        self._ends: dict[
            str, tuple[bytes, int]
        ] = {}  # of the compact files that this process has opened, and their sizes

    def part(self, table: str, name: str) -> Path:
        """The object of one part, below the address."""
        if not NAME.fullmatch(name.partition(ATTEMPT)[0]):
            raise StoreError(f"Expected a name of at most 200 letters, digits and _ - . = +, found {name!r}.")
        return Path("parts", table, f"{name}{SUFFIX}")

    def _versions(self, table: str, prefix: str = "") -> Iterator[Part]:
        """All versions of the parts of a table whose names begin so."""
        for entry in self.remote.entries(f"parts/{table}/{prefix}"):
            file = entry.name.removeprefix(f"parts/{table}/")
            if not file.endswith(SUFFIX) or file.startswith(".") or "/" in file:
                continue
            name, attempt, version = file.removesuffix(SUFFIX).partition(ATTEMPT)
            version = attempt + version
            if VERSIONS[TABLES[table].per_trial].fullmatch(version):
                place = (_standing(version), -entry.modified) if TABLES[table].per_trial else ()
                yield Part(name, version, (*place, version), entry.etag, entry.age)

    def _best(self, table: str, prefix: str = "") -> dict[str, Part]:
        """The version that counts of each part."""
        best: dict[str, Part] = {}
        for part in self._versions(table, prefix):
            if part.name not in best or part.place > best[part.name].place:
                best[part.name] = part
        return best

    def parts(self, table: str) -> dict[str, Signature]:
        """The parts of `trials` that stand, by key; of other tables by name and version, those of every attempt included."""
        if table == "trials":
            return {part.name: (part.version, part.etag) for part in self._best(table).values()}
        found = self._versions(table) if TABLES[table].per_trial else self._best(table).values()
        return {part.stem: (part.version, part.etag) for part in found}

    def names(self, table: str) -> set[str]:
        """The names and versions of the parts of a table."""
        return set(self.parts(table))

    def signature(self, table: str, name: str) -> Signature | None:
        """What changes when another attempt at a trial stands; None when there is no such part."""
        part = self._best(table, name).get(name)
        return part and (part.version, part.etag)

    def stem(self, key: str, signature: Signature) -> str:
        """The name of the parts of the attempt that stands."""
        return f"{key}{signature[0]}"

    def read_part(self, table: str, name: str, schema: pa.Schema, *, strict: bool = False) -> Iterator[pa.Table]:
        """The rows of one part, as `read_parquet` has them."""
        [rows] = self.read_several(table, [name], schema, strict=strict)
        return rows

    def read_several(
        self, table: str, names: Sequence[str], schema: pa.Schema, *, strict: bool = False
    ) -> Iterator[Iterator[pa.Table]]:
        """`read_part` of each, many of them fetched at a time."""
        paths = [str(self.part(table, name)) for name in names]
        for path, data in zip(paths, self.remote.map(self.remote.get, paths), strict=True):
            name = f"{self.address}/{path}"
            with readable(name):
                file = pq.ParquetFile(pa.BufferReader(data))
            yield read_parquet(file, schema, name=name, strict=strict)

    def hold(self, path: Path) -> Held:
        """Open a file. What no longer counts is kept for some hours."""
        if len(self._ends) > ENDS:
            self._ends.clear()
        return FarHeld(self.remote, path, self._ends)

    def manifest(self) -> bytes:
        """The manifest as it is now."""
        return self.remote.get(MANIFEST)

    def write_manifest(self, generations: list[Generation], before: list[Generation] | None = None) -> None:
        """Replace the manifest, if its generations are still those `before`.

        Raises:
            FileNotFoundError: they are others, as another compaction was faster.

        """
        old: dict[str, Any] = {}
        etag, there = ABSENT, list[Generation]()
        try:
            data, etag = self.remote.get_with_etag(MANIFEST)
            old, there = json.loads(data), self.parsed(data)
        except FileNotFoundError:
            pass
        now = time.time()
        counting = {file for generation in generations for file in generation.files.values()}
        retired = {file: at for file, at in old.get("retired", {}).items() if now - at < HOURS}
        retired |= {file: now for generation in there for file in generation.files.values() if file not in counting}
        content = {
            "layout": LAYOUT,
            "schema_version": SCHEMA_VERSION,
            "generations": [vars(generation) for generation in generations],
            "retired": retired,  # since when, in seconds since 1970, files do not count that may still be read
        }
        if there != (before or []) or not self.remote.put(
            MANIFEST, json.dumps(content, indent=1).encode(), replaces=etag
        ):
            raise FileNotFoundError(f"{self.address}/{MANIFEST} was replaced by another compaction")
        self._replaced = True

    def write(self, table: str, name: str, data: bytes) -> None:
        """Write a part of a table that is written by name; from then on it is the one that counts."""
        there = self._best(table, name).get(name)
        last = int(there.version[1:].partition("-")[0]) if there and there.version else 0
        version = max(time.time_ns(), last + 1)  # also where the clock of whoever wrote last is ahead
        self.remote.put(str(self.part(table, f"{name}{ATTEMPT}{version:020}-{uuid.uuid4().hex[:12]}")), data)

    def commit(self, key: str, standing: Standing, tables: Mapping[str, bytes]) -> None:
        """Write the parts of an attempt, that of `trials` last."""
        digest = hashlib.sha256()
        for table in TRIAL_TABLES:
            data = tables.get(table, b"")
            digest.update(len(data).to_bytes(8, "big") + data)
        stem = f"{key}{ATTEMPT}{'-'.join(map(str, standing))}-{digest.hexdigest()[:16]}"
        paths = {table: str(self.part(table, stem)) for table in tables}
        others = [table for table in tables if table != "trials"]
        for _ in self.remote.map(lambda table: self.remote.put(paths[table], tables[table]), others):
            pass
        self.remote.put(paths["trials"], tables["trials"])

    def writing(self) -> AbstractContextManager[None]:
        """No lock: no two writers write the same object."""
        return nullcontext()

    @contextmanager
    def compacting(self) -> Iterator[None]:
        """A folder on this machine for what is to be uploaded; of several compactions one succeeds, see `write_manifest`."""
        with self._compacting, tempfile.TemporaryDirectory(prefix="compaction-") as folder:
            self._scratch, self._replaced = Path(folder), False
            yield

    def aside(self, name: str) -> Path:
        """A new file on this machine for what becomes a compact file."""
        return self._scratch / f"{name}-{uuid.uuid4().hex}"

    def keep(self, aside: Path, name: str) -> str:
        """Upload a finished file; its name is one that no other compaction uses, and so may remove."""
        name = f"{name.partition('.')[0]}-{uuid.uuid4().hex[:12]}.{name.partition('.')[2]}"
        self.remote.upload(aside, f"compact/{name}")
        aside.unlink()
        return name

    def remove_parts(self, listed: Listing) -> None:
        """Remove what was listed and is in the manifest now, whatever that hides, and what writers left that died."""
        marks = {part.stem: part for part in self._versions("trials")}
        merged = {key: _standing(version) for key, (version, _) in listed["trials"].items()}
        first = [f"parts/trials/{m.stem}" for m in marks.values() if _standing(m.version) <= merged.get(m.name, ())]
        last = []
        for table, spec in TABLES.items():
            if not spec.per_trial:
                latest = {stem.partition(ATTEMPT)[0]: stem for stem in listed[table]}
                found = [part for part in self._versions(table) if part.stem <= latest.get(part.name, "")]
                # An older version must not outlive the latest.
                first += [f"parts/{table}/{part.stem}" for part in found if part.stem != latest[part.name]]
                last += [f"parts/{table}/{part.stem}" for part in found if part.stem == latest[part.name]]
            elif table != "trials":
                for part in self._versions(table):
                    left = part.stem not in marks and part.age > HOURS
                    if left or _standing(part.version) <= merged.get(part.name, ()):
                        last.append(f"parts/{table}/{part.stem}")
        for some in (first, last):
            self.remote.delete(name + SUFFIX for name in some)

    def sweep_parts(self) -> None:
        """Nothing is temporary here."""

    def sweep_compact(self, generations: list[Generation]) -> None:
        """Remove the compact files that have not counted for hours, and those of compactions that died.

        Only after this one replaced the manifest: a compaction that began before cannot do so any more, however long it
        took, and so no file is removed that it would name.
        """
        if not self._replaced:
            return
        content = json.loads(self.manifest())
        kept = {*content["retired"], *(file for one in content["generations"] for file in one["files"].values())}
        old = [entry.name for entry in self.remote.entries("compact/") if entry.age > HOURS]
        self.remote.delete(name for name in old if name.removeprefix("compact/") not in kept)

    def check_writable(self) -> None:
        """Find out by trying whether results can be written and removed, and a manifest safely replaced."""
        name = f"writable-{uuid.uuid4().hex}"
        self.remote.put(name, b"written to see whether it can be", replaces=ABSENT)
        again = self.remote.put(name, b"this must be refused", replaces=ABSENT)
        self.remote.delete([name])
        if again:
            raise StoreError(
                f"Expected an S3 server that knows conditional writes (If-None-Match) at {self.address}, found one that "
                "writes regardless: update it, or use another."
            )


def _standing(version: str) -> tuple[int, ...]:
    """The standing of an attempt, from its version; that of a part without one is below all."""
    return tuple(map(int, version[1:].split("-")[:3])) if version else (-1,)


class FarHeld(Held):
    """An object of a store."""

    def __init__(self, remote: Remote, path: Path, ends: dict[str, tuple[bytes, int]]) -> None:
        self._remote, self._path, self._ends = remote, path, ends
        self.name = f"{remote.address}/{path}"
        self.path = None

    def open(self, *, mapped: bool = False) -> pa.NativeFile:
        """The file, to be read at any place."""
        return pa.PythonFile(self._remote.open(str(self._path), self._ends), mode="r")

    def dataset(self, schema: pa.Schema) -> Any:
        """The file as a dataset, whose columns and row groups are fetched when they are asked for."""
        kind = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
        return ds.FileSystemDataset([kind.make_fragment(self.open())], schema, kind)

    def close(self) -> None:
        """Nothing is held."""
