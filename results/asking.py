"""One SELECT over the tables of a store, by DuckDB, which is let near nothing else."""

import difflib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from results.errors import StoreError
from results.reading import Snapshot
from results.render import Table
from results.schema import TABLES
from results.store import Store

if TYPE_CHECKING:
    import duckdb

MEMORY = "600MB"
CELLS = 10_000_000
LOCKED = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "memory_limit": MEMORY,
    "threads": min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
    "max_temp_directory_size": "20GB",
}
# The functions that give tables and read nothing but the query itself, or the catalogue.
FUNCTIONS = {
    "range", "generate_series", "unnest", "repeat", "json_each", "json_tree", "histogram", "histogram_values",
    "icu_calendar_names", "duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_tables", "duckdb_types",
    "duckdb_views", "pg_timezone_names", "pragma_version", "pragma_table_info", "summary",
}  # fmt: skip
# What lists tables, and so has to see those that the statement does not name.
CATALOGUE = re.compile(r"\b(duckdb|pragma|pg|sqlite)_|\b(information_schema|show|describe)\b", re.IGNORECASE)
EXPLAIN = re.compile(r"\s*EXPLAIN(\s+ANALYZE)?\b", re.IGNORECASE)


def query(store: Store, sql: str, study: str | None = None) -> Table:
    """The answer to one SELECT over the tables of a store as it stands at one moment.

    In the statement, `getvariable('study')` is `study`.

    The statement is parsed and refused if it is anything but one SELECT (or EXPLAIN of one) or uses a function that
    gives a table and is not among FUNCTIONS. What it is let near are views of the store's own files; files, extensions
    and settings are locked. Memory is bounded, and so is the answer.

    Raises:
        StoreError: the statement cannot be answered; the message is DuckDB's, condensed.

    """
    import duckdb  # here, as most tables need no SQL

    words = set(re.findall(r"\w+", sql.lower()))
    with ExitStack() as stack:
        spill = stack.enter_context(tempfile.TemporaryDirectory(prefix="query-"))
        connection = stack.enter_context(duckdb.connect(":memory:", config={**LOCKED, "temp_directory": spill}))
        try:
            _check(connection, sql)
            snapshot = stack.enter_context(store.snapshot(name for name in TABLES if name in words))
            connection.execute(f"SET VARIABLE study = {_literal(study)}")
            _show(connection, snapshot, TABLES if CATALOGUE.search(sql) else snapshot.files)
            return _answer(connection, sql)
        except duckdb.OutOfMemoryException as error:
            raise StoreError(f"The query needs more than {MEMORY} of memory: ask for fewer rows or columns.") from error
        except duckdb.Error as error:
            raise StoreError(_condensed(str(error))) from error


def _check(connection: "duckdb.DuckDBPyConnection", sql: str) -> None:
    kinds = [statement.type.name for statement in connection.extract_statements(sql)]
    # PIVOT is the one query that DuckDB takes apart into several.
    if len(kinds) != 1 or kinds[0] not in ("SELECT", "EXPLAIN", "MULTI"):
        raise StoreError(f"Expected a single SELECT, found {' and '.join(kinds) or 'no statement'}.")
    if kinds[0] == "MULTI":  # it has no syntax tree to show: be content with its words
        known = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('table', 'table_macro', 'pragma')"
        )
        used = {name for (name,) in known.fetchall()} & set(re.findall(r"\w+", sql.lower()))
    else:
        [(text,)] = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [EXPLAIN.sub("", sql, 1)]).fetchall()
        tree = json.loads(text)
        if tree["error"]:
            raise StoreError(f"Expected a SELECT: {tree['error_message'].rstrip('!.')}.")
        used = set(_table_functions(tree)) if "TABLE_FUNCTION" in text else set()
    if strange := sorted(used - FUNCTIONS):
        raise StoreError(
            f"A query may not use {' or '.join(strange)}, only the tables of the store; there are {', '.join(TABLES)}."
        )


def _table_functions(tree: Any) -> Iterator[str]:
    """The functions in FROM, wherever they are in the syntax tree."""
    if isinstance(tree, dict):
        if tree.get("type") == "TABLE_FUNCTION":
            yield str(tree["function"].get("function_name", "a table function")).lower()
        for value in tree.values():
            yield from _table_functions(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _table_functions(value)


def _show(connection: "duckdb.DuckDBPyConnection", snapshot: Snapshot, names: Iterable[str]) -> None:
    """Make views of tables, empty where the snapshot was not asked for them, then lock all else."""
    files = [file for held in snapshot.files.values() for file in held if file is not None]
    paths = [file.held.path for file in files if file.held.path is not None]
    connection.execute(f"SET allowed_paths = {paths!r}")
    for name in names:
        spec = TABLES[name]
        if name not in snapshot.files:
            connection.register(name, spec.schema.empty_table())
            continue
        loose = snapshot.loose(name)
        connection.register(f"loose_{name}", loose)
        found = [f"SELECT * FROM loose_{name}"]  # noqa: S608 - names of ours
        for number, (file, (column, gone)) in enumerate(zip(snapshot.files[name], snapshot.hidden(name), strict=True)):
            if file is None:
                continue
            if file.held.path is None:  # not on this machine: Arrow fetches the columns and row groups
                source = f"far_{name}_{number}"
                connection.register(source, file.dataset(spec.schema))
            else:
                source = f"read_parquet('{file.held.path}')"
            columns = ", ".join(
                f'"{f.name}"' if f.name in file.columns else f'NULL::{_type(connection, f.type)} AS "{f.name}"'
                for f in spec.schema
            )
            rows = f"SELECT {columns} FROM {source}"  # noqa: S608 - names of ours
            if gone:
                connection.register(f"gone_{name}_{number}", pa.table({column: pa.array(sorted(gone), pa.string())}))
                rows += f" ANTI JOIN gone_{name}_{number} USING ({column})"
            found.append(rows)
        if len(found) > 1 and not loose.num_rows:
            del found[0]
        connection.execute(f"CREATE VIEW {name} AS {' UNION ALL '.join(found[::-1])}")
    for setting in ("TimeZone = 'UTC'", "enable_external_access = false", "lock_configuration = true"):
        connection.execute(f"SET {setting}")


def _type(connection: "duckdb.DuckDBPyConnection", kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type."""
    return str(connection.from_arrow(pa.table({"a": pa.nulls(0, kind)})).types[0])


def _answer(connection: "duckdb.DuckDBPyConnection", sql: str) -> Table:
    answer = connection.sql(sql)
    if answer is None:
        return Table((), [])
    batches, rows = [], 0
    with answer.to_arrow_reader(65_536) as reader:
        schema = reader.schema
        for batch in reader:
            batches.append(batch)
            rows += batch.num_rows
            if rows * len(schema) > CELLS:
                raise StoreError(
                    f"The answer has more than {CELLS:,} cells: aggregate, name fewer columns, or add a LIMIT."
                )
    columns = schema.names
    names = tuple(f"{n}_{columns[:i].count(n) + 1}" if n in columns[:i] else n for i, n in enumerate(columns))
    values = [row for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]
    return Table(names, values)


def _literal(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def nearest(name: str, names: Iterable[str]) -> str:
    """What to say of a name that is not among `names`."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _condensed(message: str) -> str:
    """DuckDB's message without its drawing of the place; for a table that it does not know, the nearest of ours."""
    message = " ".join(message.split("\nLINE ")[0].split()).removesuffix('Did you mean "pg_tables"?').strip()
    if missing := re.search(r"Table with name (\S+) does not exist", message):
        return f"There is no table {missing[1]}{nearest(missing[1].lower(), TABLES)}."
    return message if message.endswith((".", "?", "!")) else f"{message}."
