"""Merging the parts into large files, without a moment in which a row is missing or double.

Each compaction appends a generation of files and absorbs the latest generations that are no larger, as a binary
counter carries: N trials leave about log2(N) generations, each row rewritten about log2(N) times. The manifest is
replaced when the new files are safe, and only then are parts removed; whatever a crash leaves over is named by the
manifest, or seen twice and counted once, or swept by the next compaction.

The trials of a generation are sorted by study and key, and so are the rows that belong to them in the other tables:
the statistics of the row groups then lead to a study, and the index to a trial.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results.bulk import read_parts
from results.compacted import ORIGIN, REPLACES, CompactFile
from results.files import RANK, digest, remove, write_parquet
from results.index import index_bytes
from results.layout import INDEX, Generation, Layout, Listing
from results.schema import TABLES
from results.standing import Standings, as_arrays

GROUP = {"trials": 16_384, "members": 16_384}  # rows of a row group, fewer where a study is looked up
ROWS = 65_536
WINDOW = 1024  # trials merged at a time
NAMED_ORDER = {"studies": ["study"], "members": ["study", "index"], "audits": ["trial_key"]}


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
    standing = standings.parts(listed["trials"])
    fresh = standings.fresh(generations, standing)
    parts = len(fresh) + sum(len(listed[table]) for table, spec in TABLES.items() if not spec.per_trial)
    kept = list(generations)
    while kept and kept[-1].parts <= parts:
        parts += kept.pop().parts
    if kept == generations and not parts:
        files = {}
    else:
        merge = Merge(layout, standings, generations, len(kept), {key: standing[key] for key in fresh})
        files = merge.write(listed)
    after = [*kept, Generation(parts, files)] if files else kept
    with layout.writing():
        now = layout.parts("trials")
        if any(now.get(key) != listed["trials"][key] for key in fresh):
            return False
        if after != generations:
            layout.write_manifest(after, generations)
    layout.remove_parts(listed)
    layout.sweep_compact(after)
    return True


class Merge:
    """One generation made of parts and of the generations from `first` on."""

    def __init__(
        self,
        layout: Layout,
        standings: Standings,
        generations: Sequence[Generation],
        first: int,
        fresh: Mapping[str, Any],
    ) -> None:
        self.layout, self.standings, self.fresh = layout, standings, fresh
        self.generations, self.first = list(generations), first
        hidden = standings.hidden(self.generations)
        self.gone = {number: hidden[number] | set(fresh) for number in range(first, len(self.generations))}

    def write(self, listed: Listing) -> dict[str, str]:
        """Write the files of all tables and the index; returns their names by table."""
        files = {}
        self.marks = listed["trials"]
        order, values = self._order()
        keys = order["trial_key"]
        for table, spec in TABLES.items():
            if spec.per_trial:
                rows = self._ordered(table, keys, order, listed[table])
                file = _write(self.layout, table, spec.schema, rows)
            else:
                file = self._write_named(table, list(listed[table]))
            if file:
                files[table] = file
        if len(keys):
            older = self.generations[: self.first]
            replaces = self.standings.compacted(older, keys.to_pylist()) if older else ()
            files[INDEX] = _write_bytes(self.layout, INDEX, index_bytes(values, replaces))
        return files

    def _order(self) -> tuple[pa.Table, dict[str, Any]]:
        """The trials in the order in which they are written: study, key and source; and what their index holds."""
        schema = pa.schema([("trial_key", pa.string()), ("study", pa.string())])
        studies = pa.array(self.standings.studies(self.fresh), pa.string())
        tables = [pa.table([pa.array(list(self.fresh), pa.string()), studies], schema=schema)]
        values = [as_arrays(self.fresh)]
        sources = [np.full(tables[0].num_rows, -1)]
        for number in range(self.first, len(self.generations)):
            index = self.standings.index(self.generations, number)
            if index is None:
                continue
            file = self._file("trials", number)
            rows = pa.concat_tables([schema.empty_table(), *file.read(schema)])
            file.close()
            gone = pa.array(sorted(self.gone[number]), pa.string())
            stands = pc.invert(pc.is_in(rows["trial_key"], value_set=gone)).to_numpy()
            tables.append(rows.filter(pa.array(stands)))
            values.append({name: column[stands] for name, column in index.arrays().items()})
            sources.append(np.full(tables[-1].num_rows, number))
        found = pa.concat_tables(tables).append_column("source", pa.array(np.concatenate(sources)))
        places = pc.sort_indices(found, [("study", "ascending"), ("trial_key", "ascending")])
        width = max(column["trial_key"].itemsize for column in values)
        merged = {
            name: np.concatenate([v[name].astype(f"S{width}") if name == "trial_key" else v[name] for v in values])
            for name in values[0]
        }
        sorted_values = {name: column[places.to_numpy()] for name, column in merged.items()}
        sorted_values["row"] = np.arange(len(places))
        return found.take(places).combine_chunks(), sorted_values

    def _ordered(
        self, table: str, keys: pa.ChunkedArray, order: pa.Table, listed: Collection[str]
    ) -> Iterator[pa.Table]:
        """The rows of a table in the order of the trials, with the column RANK."""
        sources: list[Iterator[pa.Table]] = []
        schema = TABLES[table].schema
        for number in range(self.first, len(self.generations)):
            if table in self.generations[number].files:
                rows = self._compacted(table, number)
                if INDEX not in self.generations[number].files:  # as an earlier version wrote it, in no order
                    found = pa.concat_tables([schema.empty_table(), *rows])
                    rank = pc.index_in(found["trial_key"], value_set=keys)
                    rows = iter([found.take(pc.sort_indices(rank))])
                sources.append(rows)
        mine = order.filter(pc.equal(order["source"], -1))["trial_key"].to_pylist()
        stems = [self.layout.stem(key, self.marks[key]) for key in mine]
        sources.append(self._parts(table, [stem for stem in stems if table == "trials" or stem in listed]))
        streams = [_Stream(source) for source in sources]
        for start in range(0, len(keys), WINDOW):
            window = keys.slice(start, WINDOW).combine_chunks()
            found = [rows for stream in streams for rows in stream.while_in(window)]
            if not found:
                continue
            rows = pa.concat_tables(found)
            rank = pc.index_in(rows["trial_key"], value_set=window)
            if len(found) > 1:
                places = pc.sort_indices(rank)
                rows, rank = rows.take(places), rank.take(places)
            yield rows.append_column(RANK, pc.add(rank, start))

    def _parts(self, table: str, names: Sequence[str]) -> Iterator[pa.Table]:
        schema = TABLES[table].schema
        for start in range(0, len(names), WINDOW):
            yield read_parts(self.layout, table, names[start : start + WINDOW], schema, strict=True)

    def _compacted(self, table: str, number: int) -> Iterator[pa.Table]:
        file = self._file(table, number)
        gone = self.gone[number]
        drop = ("trial_key", pa.array(sorted(gone), pa.string())) if gone else None
        yield from file.read(TABLES[table].schema, drop=drop, strict=True)
        file.close()

    def _file(self, table: str, number: int) -> CompactFile:
        name = self.generations[number].files[table]
        return CompactFile(self.layout.hold(self.layout.compact(name)), self.standings.footers)

    def _write_named(self, table: str, names: Sequence[str]) -> str | None:
        """The rows of a table that is written by name, with the column ORIGIN; what was written last counts."""
        schema = TABLES[table].schema.append(pa.field(ORIGIN, pa.string()))
        newest = read_parts(self.layout, table, names, TABLES[table].schema, origin=True, strict=True)
        older: set[str] = set()
        for number in reversed(range(len(self.generations))):
            if table not in self.generations[number].files:
                continue
            file = self._file(table, number)
            if number >= self.first:
                there = newest[ORIGIN].combine_chunks()
                newest = pa.concat_tables([*file.read(schema, drop=(ORIGIN, there), strict=True), newest])
            else:
                only = pa.schema([(ORIGIN, pa.string())])
                for rows in file.read(only):
                    older.update(rows[ORIGIN].unique().to_pylist())
            file.close()
        newest = newest.sort_by([(name, "ascending") for name in (*NAMED_ORDER[table], ORIGIN)])
        replaces = sorted(older & set(newest[ORIGIN].unique().to_pylist()))
        return _write(self.layout, table, schema, iter([newest]), {REPLACES: json.dumps(replaces)})


class _Stream:
    """The rows of one source, taken as far as they belong to the trials that are asked for."""

    def __init__(self, source: Iterator[pa.Table]) -> None:
        self._source = source
        self._rest: pa.Table | None = None

    def while_in(self, keys: pa.Array) -> Iterator[pa.Table]:
        while True:
            if self._rest is None or not self._rest.num_rows:
                self._rest = next(self._source, None)
                if self._rest is None:
                    return
            count = pc.sum(pc.is_in(self._rest["trial_key"], value_set=keys)).as_py() or 0
            if count:
                yield self._rest.slice(0, count)
            self._rest = self._rest.slice(count)
            if self._rest.num_rows:
                return


def _write(
    layout: Layout,
    table: str,
    schema: pa.Schema,
    rows: Iterator[pa.Table],
    metadata: Mapping[str, str] | None = None,
) -> str | None:
    """Write a compact file, named after its content; None when there are no rows."""
    aside = layout.aside(table)
    if not write_parquet(aside, schema, rows, rows=GROUP.get(table, ROWS), metadata=metadata):
        remove(aside)
        return None
    return layout.keep(aside, f"{table}-{digest(aside)[:32]}.parquet")


def _write_bytes(layout: Layout, name: str, data: pa.Buffer) -> str:
    aside = layout.aside(name)
    aside.write_bytes(data)
    return layout.keep(aside, f"{name}-{digest(aside)[:32]}.arrow")
