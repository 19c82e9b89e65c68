"""Files that are there whole or not at all, and the Parquet in them."""

import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.errors import StoreError

ROWS_AT_ONCE = 65_536


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


def write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write many tables to one file, a bounded number of rows in memory at a time; returns the number of rows."""
    total, waiting, count = 0, [], 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            waiting.append(table)
            count += table.num_rows
            if count >= ROWS_AT_ONCE:
                writer.write_table(pa.concat_tables(waiting))
                total, waiting, count = total + count, [], 0
        if count:
            writer.write_table(pa.concat_tables(waiting))
    return total + count


def read_parquet(
    path: Path, schema: pa.Schema, *, keep: tuple[str, pa.Array] | None = None, strict: bool = False
) -> Iterator[pa.Table]:
    """Yield a file's rows as tables of `schema`; columns that an earlier version did not write are null.

    Args:
        path: the Parquet file.
        schema: the columns that are wanted.
        keep: (column of the schema, values): yield only the rows that have one of them there.
        strict: refuse a file with columns outside of `schema`, which rewriting it would lose.

    Raises:
        FileNotFoundError: there is no such file (any more).
        StoreError: the file cannot be read, or `strict` found columns of a later version.

    """
    try:
        with pq.ParquetFile(path) as file:
            present = file.schema_arrow.names
            if strict and (extra := sorted(set(present) - set(schema.names))):
                raise StoreError(f"{path} has columns that this version does not know ({', '.join(extra)}): update it.")
            columns = [name for name in schema.names if name in present]
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False):
                table = pa.table(
                    [
                        batch.column(field.name).cast(field.type)
                        if field.name in present
                        else pa.nulls(batch.num_rows, field.type)
                        for field in schema
                    ],
                    schema=schema,
                )
                yield table if keep is None else table.filter(pc.is_in(table[keep[0]], value_set=keep[1]))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise StoreError(
            f"Expected a readable Parquet file, found {path}, which is damaged ({reason}): restore it from a copy, "
            "or, if it lies under parts, remove it and resume the study to train its trial again."
        ) from error
