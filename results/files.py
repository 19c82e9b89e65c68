"""Files that are there whole or not at all, and the Parquet in them."""

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.errors import StoreError, StoreUnavailable, passes

ROWS_AT_ONCE = 65_536
BYTES_AT_ONCE = 64 << 20
RANK, FIRST_TRIALS = "__rank", "first_trials"


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents, such that they survive a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the renames and removals in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary(path: Path) -> Path:
    """A name beside `path` that readers overlook and no other writer uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def publish(aside: Path, path: Path) -> None:
    """Rename the finished file `aside` to `path`, in the same folder, durably."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def write_file(path: Path, data: bytes) -> None:
    """Write `data` aside, then rename: a reader finds the old file or the new one, whole."""
    make_folder(path.parent)
    aside = temporary(path)
    try:
        aside.write_bytes(data)
        publish(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def digest(path: Path) -> str:
    """The SHA-256 of a file's content in hexadecimal digits."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def remove(path: Path) -> None:
    """Remove a file that may already be gone."""
    path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone, among threads as among processes; the system frees it when its holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def parquet_bytes(table: pa.Table) -> bytes:
    """Encode a small table; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False, store_schema=False)
    return sink.getvalue().to_pybytes()


def write_parquet(
    path: Path,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    *,
    rows: int = ROWS_AT_ONCE,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write many tables to one file, in row groups of at most `rows` rows; returns the number of rows.

    What is in memory at a time is bounded. A column RANK of the tables, the number of the trial that a row belongs to,
    is not written; its first value in each row group goes into the metadata FIRST_TRIALS instead.
    """
    total, firsts = 0, list[int]()
    waiting: list[pa.Table] = []
    count = size = 0

    def flush(writer: pq.ParquetWriter, *, last: bool) -> list[pa.Table]:
        table = pa.concat_tables(waiting)
        while table.num_rows and (last or table.num_rows >= rows or table.nbytes >= BYTES_AT_ONCE):
            group = table.slice(0, max(1, min(rows, table.num_rows * BYTES_AT_ONCE // max(table.nbytes, 1))))
            if RANK in group.column_names:
                firsts.append(group[RANK][0].as_py())
            writer.write_table(group.select(schema.names), row_group_size=rows)
            table = table.slice(group.num_rows)
        return [table] if table.num_rows else []

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            total += table.num_rows
            waiting.append(table)
            count, size = count + table.num_rows, size + table.nbytes
            if count >= rows or size >= BYTES_AT_ONCE:
                waiting = flush(writer, last=False)
                count, size = sum(t.num_rows for t in waiting), sum(t.nbytes for t in waiting)
        if waiting:
            flush(writer, last=True)
        writer.add_key_value_metadata(dict(metadata or {}) | ({FIRST_TRIALS: json.dumps(firsts)} if firsts else {}))
    return total


def read_parquet(
    source: Path | pq.ParquetFile,
    schema: pa.Schema,
    *,
    name: object = None,
    groups: Sequence[int] | None = None,
    keep: tuple[str, pa.Array] | None = None,
    drop: tuple[str, pa.Array] | None = None,
    strict: bool = False,
) -> Iterator[pa.Table]:
    """Yield a file's rows as tables of `schema`; columns that an earlier version did not write are null.

    Args:
        source: the Parquet file, or its path.
        schema: the columns that are wanted.
        name: what the file is called where it cannot be read.
        groups: only these row groups.
        keep: (column, values): only the rows that have one of them there.
        drop: (column, values): not the rows that have one of them there.
        strict: refuse a file with columns outside of `schema`, which rewriting it would lose.

    Raises:
        FileNotFoundError: there is no such file (any more).
        StoreError: the file cannot be read, or `strict` found columns of a later version.

    """
    name = name or source
    with ExitStack() as opened, readable(name):
        file = opened.enter_context(pq.ParquetFile(source)) if isinstance(source, Path) else source
        present = file.schema_arrow.names
        if strict:
            check_known(name, present, schema)
        tests = [(test, wanted) for test, wanted in ((keep, True), (drop, False)) if test is not None]
        columns = [n for n in dict.fromkeys([*schema.names, *(test[0] for test, _ in tests)]) if n in present]
        columns = columns or present[:1]
        for group in range(file.num_row_groups) if groups is None else groups:
            found = file.read_row_group(group, columns, use_threads=False)
            for (column, values), wanted in tests:
                mask = pc.is_in(found[column], value_set=values)
                found = found.filter(mask if wanted else pc.invert(mask))
            yield conform(found, schema)


def conform(found: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in the columns and types of `schema`, null where it has none."""
    present = set(found.column_names)
    columns = [found[f.name].cast(f.type) if f.name in present else pa.nulls(found.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def check_known(name: object, present: Iterable[str], schema: pa.Schema) -> None:
    """Refuse columns that are not in `schema`."""
    if extra := sorted(set(present) - set(schema.names)):
        raise StoreError(f"{name} has columns that this version does not know ({', '.join(extra)}): update it.")


@contextmanager
def readable(name: object) -> Iterator[None]:
    """Turn what goes wrong with a file, other than that it is not there, into a StoreError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        if passes(error):
            raise StoreUnavailable(
                f"Expected to read {name}, found for now: {reason}; mend that, and try again."
            ) from error
        raise StoreError(
            f"Expected a readable Parquet file, found {name}, which is damaged ({reason}): restore it from a "
            "copy, or, if it lies under parts, remove it and resume the study to train its trial again."
        ) from error
