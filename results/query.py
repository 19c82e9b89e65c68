"""Ask the results: SQL over the tables of a store, and the table of a study. Nothing is ever written to the store.

python results/query.py "SELECT arm, avg(test_accuracy) FROM trials GROUP BY arm" [storage.root=FOLDER or s3://BUCKET/PREFIX]
python results/query.py --table NAME [study=STUDY] [--format table|csv|json|md|latex|html|parquet|svg] [--output FILE]
python results/query.py --saved [NAME [study=STUDY]]
python results/query.py --tables
python results/query.py --columns TABLE
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Needless:
    """An importer that refuses pandas, which pyarrow takes up wherever it is installed: a fifth of a second for nothing."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Say nothing of other modules."""
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is of no use here", name=name)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # run as a file, Python would look for modules in results/
    sys.meta_path.insert(0, Needless)
    # Before NumPy comes: its products are small here, and OpenBLAS's threads wait for the next by turning round.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse  # noqa: E402 - the path comes first
import re  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from typing import NoReturn  # noqa: E402

from results import StoreError  # noqa: E402
from results.asking import nearest, query  # noqa: E402
from results.render import FORMATS, Table, encode, render  # noqa: E402
from results.schema import TABLES  # noqa: E402
from results.store import Store  # noqa: E402

SETTINGS = {"storage.root": str(ROOT / "results" / "tables"), "study": ""}
OPTIONS = ("--table", "--saved", "--tables", "--columns", "--format", "--output", "--help")
QUERIES = ROOT / "results" / "queries"
HOW = """\
The columns:  python results/query.py --columns trials
To ask:       python results/query.py "SELECT arm, avg(test_accuracy) FROM trials GROUP BY arm"
Questions:    python results/query.py --saved
A study:      python results/query.py --table STUDY --format md
"""


def tables(store: Store) -> Table:
    """The tables of the store with their row counts."""
    counts = ", ".join(f"(SELECT count(*) FROM {name})" for name in TABLES)  # noqa: S608 - names of ours
    [found] = query(store, f"SELECT {counts}").rows
    rows = zip(TABLES, found, (spec.meaning for spec in TABLES.values()), strict=True)
    return Table(("table", "rows", "meaning"), list(rows))


def columns_of(name: str) -> Table:
    """The columns of a table with type, unit and meaning."""
    if name not in TABLES:
        raise StoreError(f"There is no table {name}{nearest(name, TABLES)}.")
    rows = [(column.name, str(column.type), column.unit, column.meaning) for column in TABLES[name].columns]
    return Table(("column", "type", "unit", "meaning"), rows)


def saved() -> dict[str, str]:
    """The saved queries by name; each begins with a comment that says what it answers."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(QUERIES.glob("*.sql"))}


def question(sql: str) -> str:
    """What a saved query answers, by the comment that it begins with."""
    lines = [line for line in sql.splitlines() if line.strip()]
    count = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return " ".join(line.removeprefix("--").strip() for line in lines[:count])


def overview(store: Store) -> str:
    """The tables of the store with their row counts, and how to ask."""
    studies = ", ".join(sorted(set(store.read("studies", ["study"])["study"].to_pylist()))) or "none yet"
    return f"{render(tables(store), 'table')}Studies: {studies}\n{HOW}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 2 for what cannot be answered."""
    try:
        output = _answer(given := _arguments(sys.argv[1:] if arguments is None else arguments))
        if given.output is None:
            sys.stdout.buffer.write(output)
            sys.stdout.flush()
        else:
            _save(given.output, output)
    except StoreError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, such as head, has seen enough
    return 0


def _answer(given: argparse.Namespace) -> bytes:
    study = given.settings["study"]
    if given.columns is not None:
        return encode(columns_of(given.columns), given.format)
    known = saved() if given.saved is not None else {}
    if given.saved == "":
        return encode(
            Table(("saved", "question"), [(name, question(sql)) for name, sql in known.items()]), given.format
        )
    if given.saved is not None and given.saved not in known:
        raise StoreError(f"There is no saved query {given.saved}{nearest(given.saved, known)}.")
    store = Store(given.settings["storage.root"])
    if store.is_empty():
        raise StoreError(f"There are no results in {store.root}: run a study first, or set storage.root=FOLDER.")
    if given.saved is not None:
        if study:
            from results.tables import find_study  # here, as SciPy takes its time

            study = find_study(store, study)
        return encode(query(store, known[given.saved], study or None), given.format)
    if given.sql is not None:
        return encode(query(store, given.sql, study or None), given.format)
    if given.tables:
        return encode(tables(store), given.format)
    if given.table is None:
        return overview(store).encode()
    from results.tables import named_table

    table = named_table(store, given.table, study)
    return drawing(table, given.table) if given.format == "svg" else encode(table, given.format)


def drawing(table: Table, name: str) -> bytes:
    """The picture of a table as a file of SVG."""
    if table.picture is None:
        raise StoreError(f"The table {name} has no picture: expected --format {' or '.join(FORMATS)}; ranks has one.")
    from results.page.ranked import alone

    return alone(table.picture()).encode()


class Parser(argparse.ArgumentParser):
    """A parser whose errors are sentences."""

    def error(self, message: str) -> NoReturn:
        """Raise StoreError."""
        raise StoreError(f"{message[:1].upper()}{message[1:]}.")


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="results/query.py", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="*", metavar="SQL or SETTING=VALUE", help="storage.root=FOLDER, study=STUDY")
    parser.add_argument(
        "--table",
        metavar="NAME",
        help="the table of an ablation or a study; optimism, winners_curse or ranks; mcnemar with study=STUDY",
    )
    parser.add_argument(
        "--saved", metavar="NAME", nargs="?", const="", help="a saved query; without a name, all of them"
    )
    parser.add_argument("--tables", action="store_true", help="the tables and how many rows they have")
    parser.add_argument("--columns", metavar="TABLE", help="the columns of a table, with type, unit and meaning")
    parser.add_argument(
        "--format", choices=(*FORMATS, "svg"), default="table", help="svg: of --table ranks its diagram"
    )
    parser.add_argument("--output", type=Path, metavar="FILE")
    given, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise StoreError(f"There is no option {unknown[0]}{nearest(unknown[0].split('=')[0], OPTIONS)}.")
    if given.saved and "=" in given.saved:  # `--saved storage.root=FOLDER` asks for all of them
        given.words.append(given.saved)
        given.saved = ""
    given.settings, queries = dict(SETTINGS), []
    for word in given.words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[\w.]+", name):
            queries.append(word)
        elif name in SETTINGS:
            given.settings[name] = value
        else:
            raise StoreError(f"There is no setting {name}{nearest(name, SETTINGS)}.")
    asked = [
        option for option in ("table", "saved", "tables", "columns") if getattr(given, option) not in (None, False)
    ]
    if given.format == "svg" and not given.table:
        raise StoreError("Only --table NAME has a picture, as --table ranks: leave out --format svg.")
    if len(queries) + len(asked) > 1:
        found = " and ".join([*queries, *(f"--{option}" for option in asked)][:2])
        raise StoreError(
            f"Expected one query, in quotes, or one of --table, --saved, --tables, --columns, found {found}."
        )
    given.sql = queries[0] if queries else None
    return given


def _save(path: Path, output: bytes) -> None:
    try:
        path.write_bytes(output)
    except OSError as error:
        raise StoreError(f"Expected a file that can be written, found --output {path}: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
