"""Ask the results: SQL over the tables of a store, and the table of a study.

python results/query.py "SELECT arm, avg(test_accuracy) FROM trials GROUP BY arm" [storage.root=FOLDER]
python results/query.py --table NAME [study=STUDY] [--format table|csv|json|md|latex] [--output FILE]
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # run as a file, Python would look for modules in results/

import argparse  # noqa: E402 - the path comes first
import difflib  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
from collections.abc import Iterable, Sequence  # noqa: E402
from typing import NoReturn  # noqa: E402

import duckdb  # noqa: E402
import pyarrow as pa  # noqa: E402

from results import Store, StoreError  # noqa: E402
from results.render import FORMATS, Table, render  # noqa: E402
from results.schema import TABLES  # noqa: E402
from results.tables import find_study, study_table  # noqa: E402

SETTINGS = {"storage.root": str(ROOT / "results" / "tables"), "study": ""}
OPTIONS = ("--table", "--format", "--output", "--help")
HOW = """\
The columns:  python -m results.schema
To ask:       python results/query.py "SELECT arm, avg(test_accuracy) FROM trials GROUP BY arm"
A study:      python results/query.py --table STUDY --format md
"""
LOCKED = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
}


def query(store: Store, sql: str) -> Table:
    """The answer to one SELECT over the tables of a store; the statement can read nothing else, and write nothing.

    Raises:
        StoreError: the statement cannot be answered; the message is DuckDB's, condensed.

    """
    connection = duckdb.connect(":memory:", config=LOCKED)
    words = set(re.findall(r"\w+", sql.lower()))
    try:
        statements = connection.extract_statements(sql)
        kinds = [statement.type.name for statement in statements]
        # PIVOT is the one query that DuckDB takes apart into several.
        if len(kinds) != 1 or kinds[0] not in ("SELECT", "EXPLAIN", "MULTI"):
            raise StoreError(f"Expected a single SELECT, found {' and '.join(kinds) or 'no statement'}.")
        for name, spec in TABLES.items():
            connection.register(name, store.read(name) if name in words else spec.schema.empty_table())
        for setting in ("TimeZone = 'UTC'", "enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        answer = connection.sql(sql)
        found = answer.to_arrow_table() if answer is not None else pa.table({})
    except duckdb.Error as error:
        raise StoreError(_condensed(str(error))) from error
    finally:
        connection.close()
    columns = found.column_names
    names = tuple(f"{n}_{columns[:i].count(n) + 1}" if n in columns[:i] else n for i, n in enumerate(columns))
    rows = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
    return Table(names, rows)


def overview(store: Store) -> str:
    """The tables of the store with their row counts, and how to ask."""
    table = Table(
        ("table", "rows", "meaning"),
        [(name, store.read(name, spec.schema.names[:1]).num_rows, spec.meaning) for name, spec in TABLES.items()],
    )
    studies = ", ".join(sorted(set(store.read("studies", ["study"])["study"].to_pylist()))) or "none yet"
    return f"{render(table, 'table')}Studies: {studies}\n{HOW}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 2 for what cannot be answered."""
    try:
        given = _arguments(sys.argv[1:] if arguments is None else arguments)
        store = Store(given.settings["storage.root"])
        if store.is_empty():
            raise StoreError(f"There are no results in {store.root}: run a study first, or set storage.root=FOLDER.")
        if given.sql is not None:
            output = render(query(store, given.sql), given.format)
        elif given.table is not None:
            output = render(study_table(store, find_study(store, given.table, given.settings["study"])), given.format)
        else:
            output = overview(store)
        if given.output is None:
            sys.stdout.write(output)
            sys.stdout.flush()
        else:
            _save(given.output, output)
    except StoreError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, such as head, has seen enough
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StoreError(f"{message[:1].upper()}{message[1:]}.")


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="results/query.py", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="*", metavar="SQL or SETTING=VALUE", help="storage.root=FOLDER, study=STUDY")
    parser.add_argument("--table", metavar="NAME", help="the table of an ablation or a study")
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument("--output", type=Path, metavar="FILE")
    given, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise StoreError(f"There is no option {unknown[0]}{_nearest(unknown[0].split('=')[0], OPTIONS)}.")
    given.settings, queries = dict(SETTINGS), []
    for word in given.words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[\w.]+", name):
            queries.append(word)
        elif name in SETTINGS:
            given.settings[name] = value
        else:
            raise StoreError(f"There is no setting {name}{_nearest(name, SETTINGS)}.")
    if len(queries) + (given.table is not None) > 1:
        raise StoreError(
            f"Expected one query, in quotes, or --table NAME, found {' and '.join([*queries, '--table'][:2])}."
        )
    given.sql = queries[0] if queries else None
    return given


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"


def _condensed(message: str) -> str:
    """DuckDB's message without its drawing of the place; for a table that it does not know, the nearest of ours."""
    message = " ".join(message.split("\nLINE ")[0].split()).removesuffix('Did you mean "pg_tables"?').strip()
    if missing := re.search(r"Table with name (\S+) does not exist", message):
        return f"There is no table {missing[1]}{_nearest(missing[1].lower(), TABLES)}."
    return message if message.endswith((".", "?", "!")) else f"{message}."


def _save(path: Path, output: str) -> None:
    try:
        path.write_text(output, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"Expected a file that can be written, found --output {path}: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
