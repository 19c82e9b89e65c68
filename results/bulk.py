"""Many small Parquet files read as one table."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from results.compacted import ORIGIN
from results.files import check_known, conform
from results.layout import ATTEMPT, Layout

MANY = 64  # from as many files on, DuckDB reads them faster
AT_ONCE = 1024
_connection: Any = None


def read_parts(
    layout: Layout, table: str, names: Sequence[str], schema: pa.Schema, *, origin: bool = False, strict: bool = False
) -> pa.Table:
    """The rows of parts, in the order of `names`; with `origin` a column ORIGIN says which part a row came from.

    Raises:
        FileNotFoundError: one of them is not there (any more).
        StoreError: one of them cannot be read, or `strict` found columns of a later version.

    """
    wanted = schema.append(pa.field(ORIGIN, pa.string())) if origin else schema
    found = [wanted.empty_table()]
    if len(names) >= MANY and layout.readable_in_bulk:
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            if (rows := _in_bulk(layout, table, some, wanted, strict)) is None:
                return read_parts_singly(layout, table, names, wanted, strict)
            found.append(rows)
        return pa.concat_tables(found)
    return read_parts_singly(layout, table, names, wanted, strict)


def read_parts_singly(layout: Layout, table: str, names: Sequence[str], wanted: pa.Schema, strict: bool) -> pa.Table:
    """The same, file by file, so that one that cannot be read is named."""
    found = [wanted.empty_table()]
    schema = pa.schema([field for field in wanted if field.name != ORIGIN])
    for name, part in zip(names, layout.read_several(table, names, schema, strict=strict), strict=True):
        for rows in part:
            if ORIGIN in wanted.names:
                origin = name.partition(ATTEMPT)[0]
                rows = rows.append_column(ORIGIN, pa.array([origin] * rows.num_rows, pa.string()))
            found.append(rows)
    return pa.concat_tables(found)


def _in_bulk(layout: Layout, table: str, names: Sequence[str], wanted: pa.Schema, strict: bool) -> pa.Table | None:
    """None when a file is not there or damaged."""
    import duckdb  # here, as a worker that only commits needs none of it

    global _connection
    if _connection is None:  # one a process, as it takes longer to make than to read a hundred parts
        _connection = duckdb.connect(":memory:", config={"autoload_known_extensions": False})
        _connection.execute("SET TimeZone = 'UTC'")
    paths = [str(layout.part(table, name)) for name in names]
    origin = ", parse_filename(filename, true) AS " + ORIGIN if ORIGIN in wanted.names else ""
    with _connection.cursor() as connection:
        for by_name in (True,) if strict else (False, True):  # to unite the columns, every footer is read once more
            try:
                rows = connection.read_parquet(paths, union_by_name=by_name, filename=bool(origin))
                present = [name for name in rows.columns if name != "filename"]
                if strict:
                    check_known(layout.part(table, names[0]).parent, present, wanted)
                chosen = [f'"{name}"' for name in wanted.names if name in present]
                if by_name or len(chosen) + bool(origin) == len(wanted):
                    found = rows.project(", ".join(chosen or ["NULL AS nothing"]) + origin)
                    return conform(found.to_arrow_table().combine_chunks(), wanted)  # DuckDB gives a chunk a file
            except (duckdb.Error, pa.ArrowException):
                continue
    return None
