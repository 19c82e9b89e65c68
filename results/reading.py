"""What the store holds at one moment, each row counted once.

Parts are read before the manifest: what a compaction moves meanwhile is then seen twice, never not at all. Compact
files are held open from when the manifest was read, so that nothing which happens later is seen.
"""

import bisect
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc

from results.bulk import read_parts
from results.compacted import ORIGIN, CompactFile
from results.layout import Generation, Layout
from results.schema import TABLES
from results.standing import Standings

TRIES = 20
KEY = pa.schema([("trial_key", pa.string())])


class Snapshot:
    """The tables `wanted` at one moment.

    Args:
        layout: where the store is.
        standings: what is remembered of it.
        wanted: names of tables.
        keys: of the parts of trials only these are read; all by default.

    Raises:
        FileNotFoundError: a trial was committed anew, or compacted, meanwhile; try again.

    """

    def __init__(
        self, layout: Layout, standings: Standings, wanted: Iterable[str], keys: Collection[str] | None = None
    ) -> None:
        self._standings = standings
        self.files: dict[str, list[CompactFile | None]] = {}
        self._loose: dict[str, pa.Table] = {}
        names = list(dict.fromkeys(wanted))
        per_trial = [name for name in names if TABLES[name].per_trial]
        listed = layout.parts("trials") if per_trial else {}
        if keys is not None:
            listed = {key: signature for key, signature in listed.items() if key in keys}
        if "trials" in names:
            stems = [layout.stem(key, signature) for key, signature in listed.items()]
            self._loose["trials"] = read_parts(layout, "trials", stems, TABLES["trials"].schema)
        parts = standings.parts(listed, self._loose.get("trials"))
        for name in names:
            schema = TABLES[name].schema
            if name == "trials":
                continue
            if TABLES[name].per_trial:
                present = layout.names(name) if listed else ()
                stems = [stem for key, sign in listed.items() if (stem := layout.stem(key, sign)) in present]
                self._loose[name] = read_parts(layout, name, stems, schema)
            else:
                self._loose[name] = read_parts(layout, name, sorted(layout.names(name)), schema, origin=True)
        self.generations: list[Generation] = layout.generations()
        try:
            for name in names:
                held = self.files.setdefault(name, [])
                for generation in self.generations:
                    file = generation.files.get(name)
                    held.append(
                        CompactFile(layout.hold(layout.compact(file)), standings.footers) if file is not None else None
                    )
            self._hidden = standings.hidden(self.generations) if per_trial else []
            fresh = standings.fresh(self.generations, parts)
            now = layout.parts("trials") if fresh else {}
            if any(now.get(key) != listed[key] for key in fresh):
                raise FileNotFoundError
            self._fresh = fresh
            if len(fresh) < len(parts):
                stand = pa.array(sorted(fresh), pa.string())
                for name in per_trial:
                    rows = self._loose[name]
                    self._loose[name] = rows.filter(pc.is_in(rows["trial_key"], value_set=stand))
        except BaseException:
            self.close()
            raise

    def loose(self, table: str) -> pa.Table:
        """The rows of a table that are not compacted."""
        rows = self._loose[table]
        return rows.select(TABLES[table].schema.names)

    def hidden(self, table: str) -> list[tuple[str, set[str]]]:
        """For each generation, the column and the values there by which rows of its file no longer count."""
        if TABLES[table].per_trial:
            return [("trial_key", keys | self._fresh) for keys in self._hidden]
        newer = set(self._loose[table][ORIGIN].to_pylist())
        found = []
        for file in reversed(self.files[table]):
            found.append((ORIGIN, set(newer)))
            if file is not None:
                newer |= set(_names(file) if file.replaces is None else file.replaces)
        return found[::-1]

    def rows(
        self,
        table: str,
        schema: pa.Schema,
        *,
        keys: Collection[str] | None = None,
        studies: Collection[str] | None = None,
    ) -> pa.Table:
        """The rows of a table in the columns of `schema`: all, or those of the trials `keys` of some studies.

        For the trials of studies the snapshot must have the table of trials, too. A table with a column `study` that is
        written by name has the studies' rows.
        """
        spec = TABLES[table]
        chosen = None if keys is None else pa.array(sorted(keys), pa.string())
        own = studies if not spec.per_trial and "study" in spec.schema.names else None
        wanted = spec.per_trial and any(file is not None for file in self.files[table])
        places = self._locate(keys, studies or ()) if wanted and keys is not None else None
        loose = self.loose(table)
        keep: tuple[str, pa.Array] | None
        if own is not None:
            keep = ("study", pa.array(sorted(own), pa.string()))
            loose = loose.filter(pc.is_in(loose["study"], value_set=keep[1]))
        else:
            keep = None if chosen is None else ("trial_key", chosen)
            loose = loose if chosen is None else loose.filter(pc.is_in(loose["trial_key"], value_set=chosen))
        found = [schema.empty_table()]
        for number, (file, (column, gone)) in enumerate(zip(self.files[table], self.hidden(table), strict=True)):
            if file is None:
                continue
            groups = None
            if places is not None:
                groups = _groups(file, places[number], is_trials=table == "trials")
            elif own is not None:
                groups = file.groups_with("study", own)
            drop = (column, pa.array(sorted(gone), pa.string())) if gone else None
            found += file.read(schema, groups, keep, drop)
        return pa.concat_tables([*found, loose.select(schema.names)])

    def _locate(self, keys: Collection[str], studies: Collection[str]) -> list[set[int]]:
        """For each generation, the numbers of the rows of trials that stand and have one of `keys`."""
        places: list[set[int]] = [set() for _ in self.generations]
        missing = set(keys) - self._fresh
        files = self.files["trials"]
        if studies:  # most of their trials bear their names, and the rows are sorted by these
            for number, file in enumerate(files):
                if file is None or not missing:
                    continue
                starts = file.starts()
                for group in file.groups_with("study", studies):
                    [found] = file.read(KEY, [group])
                    wanted = pa.array(sorted(missing - self._hidden[number]), pa.string())
                    rows = pc.indices_nonzero(pc.is_in(found["trial_key"], value_set=wanted))
                    places[number].update(starts[group] + row for row in rows.to_pylist())
                    missing -= set(found["trial_key"].take(rows).to_pylist())
        if missing:
            for number in range(len(self.generations)):
                index = self._standings.index(self.generations, number)
                if index is not None:
                    there = index.find(missing - self._hidden[number])
                    places[number].update(row for _, row in there.values())
        return places

    def close(self) -> None:
        """Let the files go."""
        for files in self.files.values():
            for file in files:
                if file is not None:
                    file.close()
        self.files = {}

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self.close()


def _groups(file: CompactFile, rows: Collection[int], *, is_trials: bool) -> list[int]:
    """The row groups of a table in which these trials, given by their rows in the file of trials, have rows."""
    if not rows:
        return []
    if not is_trials:
        return file.groups_of(rows)
    starts = file.starts()
    return sorted({bisect.bisect_right(starts, row) - 1 for row in rows})


def _names(file: CompactFile) -> Mapping[str, None]:
    """The parts that went into a file written by an earlier version."""
    schema = pa.schema([(ORIGIN, pa.string())])
    return dict.fromkeys(name for rows in file.read(schema) for name in rows[ORIGIN].unique().to_pylist())
