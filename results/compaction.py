"""Merging the parts into large files, without a moment in which a row is missing or double.

Each compaction appends a generation of files and absorbs the latest generations that are no larger, as a binary
counter carries: N trials leave about log2(N) generations, each row rewritten about log2(N) times. The manifest is
replaced when the new files are safe, and only then are parts removed; whatever a crash leaves over is named by the
manifest, or seen twice and counted once, or swept by the next compaction.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from results.files import make_folder, publish, read_parquet, remove, temporary, write_parquet
from results.layout import Generation, Layout, Signature
from results.reading import ORIGIN, Best, compacted_rows, named_rows
from results.schema import TABLES
from results.standing import PART, Standings

Listing = Mapping[str, Mapping[str, Signature]]


def compact(layout: Layout, standings: Standings) -> bool:
    """Merge what is there, under the lock `compacting`.

    Returns:
        Whether it was done; False, with nothing changed, when a trial was committed anew meanwhile.

    Raises:
        FileNotFoundError: as for False.

    """
    with layout.writing():
        layout.sweep_parts()
        listed = {table: layout.parts(table) for table in TABLES}
    generations = layout.generations()
    best = standings.best(generations, standings.parts(listed["trials"]))
    fresh = [key for key in listed["trials"] if best[key][1] == PART]
    parts = len(fresh) + sum(len(listed[table]) for table, spec in TABLES.items() if not spec.per_trial)
    kept = list(generations)
    while kept and kept[-1].parts <= parts:
        parts += kept.pop().parts
    absorbed = {len(kept) + index: generation for index, generation in enumerate(generations[len(kept) :])}
    files = {}
    for table, spec in TABLES.items():
        if spec.per_trial:
            rows = _trial_tables(layout, table, absorbed, best, [key for key in fresh if key in listed[table]])
            schema = spec.schema
        else:
            rows = iter([named_rows(layout, table, list(absorbed.values()), listed[table], strict=True)])
            schema = spec.schema.append(pa.field(ORIGIN, pa.string()))
        if file := _write(layout, table, schema, rows):
            files[table] = file
    after = [*kept, Generation(parts, files)] if files else kept
    with layout.writing():
        if any(layout.signature("trials", key) != listed["trials"][key] for key in fresh):
            return False
        if after != generations:
            layout.write_manifest(after)
    _remove_parts(layout, listed)
    layout.sweep_compact(after)
    return True


def _trial_tables(
    layout: Layout, table: str, absorbed: Mapping[int, Generation], best: Best, fresh: list[str]
) -> Iterator[pa.Table]:
    schema = TABLES[table].schema
    for index, generation in absorbed.items():
        yield from compacted_rows(layout, table, schema, (generation, index), best, strict=True)
    for key in fresh:
        yield from read_parquet(layout.part(table, key), schema, strict=True)


def _write(layout: Layout, table: str, schema: pa.Schema, rows: Iterator[pa.Table]) -> str | None:
    """Write a compact file, named after its content; None when there are no rows."""
    folder = layout.compact("")
    make_folder(folder)
    aside = temporary(folder / table)
    if not write_parquet(aside, schema, rows):
        remove(aside)
        return None
    path = folder / f"{table}-{_digest(aside)}.parquet"
    publish(aside, path)
    return path.name


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _remove_parts(layout: Layout, listed: Listing) -> None:
    """Remove the parts that were listed, even half commits, and not replaced since; the commit marks first.

    The lock is taken for a few at a time, so that no commit waits long.
    """
    trial_tables = [table for table, spec in TABLES.items() if spec.per_trial]
    names = sorted({name for table in trial_tables for name in listed[table]})
    groups = [(trial_tables, name) for name in names]
    groups += [([table], name) for table, spec in TABLES.items() if not spec.per_trial for name in listed[table]]
    for start in range(0, len(groups), 32):
        with layout.writing():
            for tables, name in groups[start : start + 32]:
                if layout.signature(tables[0], name) == listed[tables[0]].get(name):
                    for table in tables:
                        remove(layout.part(table, name))
