"""Take a study from one store to another in one file, with a checksum of everything in it.

python results/archive.py export STUDY FILE [storage.root=FOLDER]
python results/archive.py import FILE [storage.root=FOLDER]

The file is a zip of one Parquet file a table, and `manifest.json` with the study, the schema version, and name, rows,
bytes and sha256 of each. Equal studies give equal files. An import reads and checks all of it before it writes a byte,
commits each trial as if it had just been trained, so that a row that stands in the store is not touched, and writes the
study's own rows last. Nothing is unpacked to the disk, and nothing in the file is run.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # run as a file, Python would look for modules in results/

import argparse  # noqa: E402 - the path comes first
import hashlib  # noqa: E402
import json  # noqa: E402
import zipfile  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from typing import Any  # noqa: E402

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from results.errors import StoreError  # noqa: E402
from results.files import conform, publish, temporary  # noqa: E402
from results.layout import NAME  # noqa: E402
from results.query import SETTINGS, Parser  # noqa: E402
from results.schema import SCHEMA_VERSION, TABLES  # noqa: E402
from results.standing import STATUSES  # noqa: E402
from results.store import Store  # noqa: E402

MANIFEST = "manifest.json"
FORMAT = "mul-dml-studies archive 1"
MAX_MANIFEST = 1 << 20
MAX_BYTES = 4 << 30  # of all rows in memory: far above any study, far below what a bomb claims
SEARCHED = "{study}-{index}"  # as study/conduct.py names the part of a proposed trial
STAMP = (1980, 1, 1, 0, 0, 0)


def export_study(store: Store, study: str, path: Path) -> dict[str, int]:
    """Write the archive of a study; returns the rows of each table in it.

    Raises:
        StoreError: there is no such study, or the file cannot be written.

    """
    if not store.read("studies", ["study"], study).num_rows:
        raise StoreError(f"There is no study {study} in {store.root}.")
    tables = {name: store.read(name, study=study) for name in TABLES}
    files: list[dict[str, Any]] = []
    aside = temporary(path)
    try:
        with zipfile.ZipFile(aside, "x", zipfile.ZIP_STORED) as archive:
            for name, rows in tables.items():
                if rows.num_rows:
                    data = _parquet(_sorted(rows))
                    archive.writestr(zipfile.ZipInfo(f"{name}.parquet", STAMP), data)
                    digest = hashlib.sha256(data).hexdigest()
                    files.append({"table": name, "rows": rows.num_rows, "bytes": len(data), "sha256": digest})
            about = {"format": FORMAT, "study": study, "schema_version": SCHEMA_VERSION, "files": files}
            archive.writestr(zipfile.ZipInfo(MANIFEST, STAMP), json.dumps(about, indent=1))
        publish(aside, path)
    except OSError as error:
        raise StoreError(f"Expected a file that can be written, found {path}: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)
    return {file["table"]: file["rows"] for file in files}


def import_study(store: Store, path: Path) -> tuple[str, int, int]:
    """Take the study in an archive into the store; returns its name, its trials, and how many of them were new.

    Raises:
        StoreError: the archive is not what its manifest says, or not of this schema; nothing was written then.

    """
    study, tables = read_archive(path)
    store.check_writable()
    lacking = {name: _lacking(store, study, name, tables, path) for name in ("audits", "members", "studies")}
    trials = _by(tables, "trial_key", [name for name, spec in TABLES.items() if spec.per_trial])
    new = sum(store.commit(key, rows) for key, rows in sorted(trials.items()))
    for name, rows in lacking.items():
        for part, found in parts_of(name, study, rows).items():
            store.write(name, part, found)
    return study, len(trials), new


def parts_of(table: str, study: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The rows by the names of the parts under which a study that is gone on with will write them again."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        name = study
        if table == "audits":
            name = "import-" + hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()[:32]
        elif table == "members" and row["parameters"] is not None:
            name = SEARCHED.format(study=study, index=row["index"])
        found.setdefault(name, []).append(row)
    return found


def _lacking(store: Store, study: str, name: str, tables: Mapping[str, pa.Table], path: Path) -> list[Any]:
    """The rows of a table written by name that the store does not have."""
    there = store.read(name, study=study)
    found = tables.get(name, there.slice(0, 0))
    if name == "audits":
        known = {repr(row) for row in there.to_pylist()}
        return [row for row in found.to_pylist() if repr(row) not in known]
    if not there.num_rows:
        return found.to_pylist()
    if not _same(there, found):
        raise StoreError(
            f"Expected no study {study} in {store.root}, or the same one, found one whose {name} differ from those in "
            f"{path}: import it into another storage.root."
        )
    return []


def read_archive(path: Path) -> tuple[str, dict[str, pa.Table]]:
    """The study and the tables of an archive, every byte and row of which has been checked.

    Raises:
        StoreError: it is not what its manifest says.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path)
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise _refusal(path, str(getattr(error, "strerror", None) or error)) from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise _refusal(path, f"a manifest that cannot be read ({type(error).__name__}: {error})") from error
    except (pa.ArrowException, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise _refusal(path, f"a table that cannot be read ({error})") from error


def _read(archive: zipfile.ZipFile, path: Path) -> tuple[str, dict[str, pa.Table]]:
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()) or MANIFEST not in members:
        raise _refusal(path, f"no single {MANIFEST} and one file a table")
    if members[MANIFEST].file_size > MAX_MANIFEST:
        raise _refusal(path, f"a manifest of {members[MANIFEST].file_size} bytes")
    about = json.loads(_bytes(archive, members[MANIFEST], MAX_MANIFEST, path))
    if about["format"] != FORMAT:
        raise _refusal(path, f"the format {about['format']!r}")
    if not isinstance(about["schema_version"], int) or about["schema_version"] > SCHEMA_VERSION:
        raise _refusal(path, f"schema version {about['schema_version']}, later than {SCHEMA_VERSION}: update this one")
    study = about["study"]
    if not isinstance(study, str) or not NAME.fullmatch(study):
        raise _refusal(path, f"the study name {study!r}")
    listed = {f"{file['table']}.parquet": file for file in about["files"]}
    if strange := sorted(set(members) ^ {MANIFEST, *listed}):
        raise _refusal(path, f"{strange[0]!r}, which is in the manifest and not in the file, or the other way round")
    if unknown := sorted({file["table"] for file in about["files"]} - set(TABLES)):
        raise _refusal(path, f"the table {unknown[0]!r}, which this version does not know")
    if len(listed) != len(about["files"]):
        raise _refusal(path, "a table twice")
    left, tables = MAX_BYTES, {}
    for name, file in listed.items():
        data = _bytes(archive, members[name], int(file["bytes"]), path)
        if hashlib.sha256(data).hexdigest() != file["sha256"]:
            raise _refusal(path, f"other bytes in {name} than its checksum says")
        rows, left = _table(file["table"], data, left, path)
        if rows.num_rows != file["rows"]:
            raise _refusal(path, f"{rows.num_rows} rows in {name} in place of {file['rows']}")
        tables[file["table"]] = rows
    _check(study, tables, path)
    return study, tables


def _bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int, path: Path) -> bytes:
    """A member that is stored as it is, and no larger than it is said to be."""
    if info.is_dir() or info.compress_type != zipfile.ZIP_STORED or info.external_attr >> 28 not in (0, 8):
        raise _refusal(path, f"{info.filename!r}, which is no plain stored file")
    if info.filename != MANIFEST and info.file_size != size:
        raise _refusal(path, f"{info.file_size} bytes in {info.filename} in place of {size}")
    with archive.open(info) as file:
        return file.read(size + 1)


def _table(name: str, data: bytes, left: int, path: Path) -> tuple[pa.Table, int]:
    """Rows of a table, if all its columns are of the schema and they take no more than `left` bytes unpacked."""
    schema, given = TABLES[name].schema, pq.read_schema(pa.BufferReader(data))
    for field in given:
        if field.name not in schema.names:
            raise _refusal(path, f"the column {name}.{field.name}, which this version does not know")
        if not field.type.equals(schema.field(field.name).type):
            raise _refusal(path, f"{name}.{field.name} of type {field.type}, not {schema.field(field.name).type}")
    texts = [field.name for field in given if field.type in (pa.string(), pa.binary())]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    found = [schema.empty_table()]
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        sizes = [group.total_byte_size, *(8 * group.column(i).num_values for i in range(group.num_columns))]
        if min(sizes) < 0:
            raise _refusal(path, f"{name}.parquet with a negative size")  # which would pay for what is unpacked
        # Runs of equal values and dictionaries take no room in the file: count the values before they are unpacked.
        left -= sum(sizes)
        rows = file.read_row_group(number, use_threads=False) if left >= 0 else schema.empty_table()
        for column in (rows[text] for text in texts if left >= 0):
            for chunk in column.chunks:
                left -= pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices).cast(pa.int64())).as_py() or 0
        if left < 0:
            raise _refusal(path, f"more than {MAX_BYTES >> 30} GiB of rows")
        found.append(conform(rows, schema))
    rows = pa.concat_tables(found)
    rows.validate(full=True)
    return rows, left


def _check(study: str, tables: Mapping[str, pa.Table], path: Path) -> None:
    """Whether the tables are one study: its row, its members, and rows of no trials but theirs."""
    for name in ("studies", "members"):
        if name in tables and set(tables[name]["study"].to_pylist()) != {study}:
            raise _refusal(path, f"rows of other studies in {name}")
    if "studies" not in tables or tables["studies"].num_rows != 1:
        raise _refusal(path, f"not one row of the study {study}")
    members = set(tables["members"]["trial_key"].to_pylist()) if "members" in tables else set()
    if strange := sorted(map(repr, (key for key in members if not isinstance(key, str) or not NAME.fullmatch(key)))):
        raise _refusal(path, f"the trial key {strange[0]}")
    trials = tables["trials"]["trial_key"].to_pylist() if "trials" in tables else []
    if len(set(trials)) != len(trials):
        raise _refusal(path, "a trial twice")
    if "trials" in tables and not set(tables["trials"]["status"].to_pylist()) <= set(STATUSES):
        raise _refusal(path, "a trial without a status")
    for name, rows in tables.items():
        if "trial_key" not in rows.column_names or name == "members":
            continue
        allowed = set(trials) if TABLES[name].per_trial and name != "trials" else members
        if not set(rows["trial_key"].to_pylist()) <= allowed:
            raise _refusal(path, f"rows in {name} of trials that are not the study's")


def _by(tables: Mapping[str, pa.Table], column: str, names: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Rows by the value of a column, then by table."""
    found: dict[str, dict[str, list[Any]]] = {}
    for name in names:
        for row in tables[name].to_pylist() if name in tables else ():
            found.setdefault(row[column], {}).setdefault(name, []).append(row)
    return found


def _parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", store_schema=False, row_group_size=65_536)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _sorted(rows: pa.Table) -> pa.Table:
    """The rows in an order that does not depend on the store."""
    columns = [field.name for field in rows.schema if not pa.types.is_list(field.type) and field.name != "png"]
    return rows.sort_by([(name, "ascending") for name in columns])


def _same(first: pa.Table, second: pa.Table) -> bool:
    return bool(_sorted(first).combine_chunks().equals(_sorted(second).combine_chunks()))


def _refusal(path: Path, found: str) -> StoreError:
    return StoreError(f"Expected an archive of a study, found in {path} {found}; nothing of it was taken.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 2 for what cannot be done."""
    parser = Parser(prog="results/archive.py", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=("export", "import"))
    parser.add_argument("names", nargs="+", metavar="STUDY FILE, or FILE")
    try:
        given = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
        roots = [name for name in given.names if name.startswith("storage.root=")]
        names = [name for name in given.names if name not in roots]
        root = roots[-1].partition("=")[2] if roots else SETTINGS["storage.root"]
        if len(names) != (2 if given.action == "export" else 1):
            wanted = "STUDY FILE" if given.action == "export" else "FILE"
            raise StoreError(f"Expected {given.action} {wanted}, found {given.action} {' '.join(names)}.")
        path = Path(names[-1]).expanduser()
        if given.action == "export":
            counts = export_study(Store(root), names[0], path)
            print(f"{names[0]}: {counts.get('trials', 0)} trials, {sum(counts.values())} rows -> {path}")
        else:
            study, trials, new = import_study(Store(root), path)
            print(f"{study}: {trials} trials, {new} of them new -> {root}")
    except StoreError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
