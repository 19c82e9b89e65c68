"""The store: results that are committed once, read whole, and compacted behind a manifest.

A trial's rows are parts named after its key; the part of `trials` is written last and is the commit mark. Which of two
rows of one trial stands does not depend on who reads them: done stands over stopped and stopped over failed; of equal
status, one that was retrained on purpose stands over what it replaces; of two failed rows the one that ended later
stands; and otherwise the first.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from results.compaction import compact
from results.errors import StoreError, StoreUnavailable, passes
from results.files import parquet_bytes
from results.index import Standing
from results.layout import Layout
from results.reading import TRIES, Snapshot
from results.schema import TABLES, TRIAL_TABLES, table_of
from results.standing import STATUSES, Standings, standing_of

Row = Mapping[str, Any]
Result = TypeVar("Result")


class Store:
    """The results under one folder, which is made when something is first written, or under s3://BUCKET/PREFIX.

    Raises:
        StoreError: from every method, when the folder or a file in it cannot be read or written; StoreUnavailable where
            that will pass or can be mended, so that the same call can succeed later: whoever has rows keeps them.

    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._layout: Layout
        self.root: Any  # a Path where it is a folder
        if "://" in os.fspath(root):
            from results.far import FarLayout  # here, as most stores are near

            self._layout = FarLayout(os.fspath(root))
            self.root = self._layout.address
        else:
            self.root = Path(root).absolute()
            self._layout = Layout(self.root)
        self._standings = Standings(self._layout)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.root,)

    def commit(self, key: str, rows: Mapping[str, Sequence[Row]]) -> bool:
        """Write a trial's rows, all or nothing, unless the row that is there stands over the new one.

        A row that stands is never replaced by an equal or lesser one, so a worker that was given up for dead and comes
        back neither doubles nor damages it, and committing again changes no byte.

        Args:
            key: the trial key; every row bears it as `trial_key`.
            rows: rows by table; `trials` has exactly one, with its status.

        Returns:
            Whether the rows were written.

        """
        tables = {name: table_of(name, found) for name, found in rows.items() if found}
        if strange := sorted(set(tables) - set(TRIAL_TABLES)):
            raise KeyError(f"A trial has no rows in {', '.join(strange)}; they are written by name")
        if "trials" not in tables or tables["trials"].num_rows != 1:
            raise ValueError("A commit has exactly one row in trials")
        if any(set(table["trial_key"].to_pylist()) != {key} for table in tables.values()):
            raise ValueError(f"Every row of the commit {key} must bear it as trial_key")
        new = standing_of(tables["trials"])[key]
        if new[1] and self._layout.replaces_parts and self._layout.signature("trials", key):
            self.compact()  # what is retrained stands until its successor does: compacted rows are not removed here
        with self._writes(), self._layout.writing():
            if any(standing >= new for standing in self._retry(lambda: self._standing(key))):
                return False
            self._layout.commit(key, new, {name: parquet_bytes(table) for name, table in tables.items()})
        return True

    def write(self, table: str, name: str, rows: Sequence[Row]) -> None:
        """Write, or replace, the part `name` of a table that is written by name (studies, members, audits)."""
        if TABLES[table].per_trial or not rows:
            raise ValueError(f"Expected rows of a table that stands for itself, found {len(rows)} rows of {table}")
        data = parquet_bytes(table_of(table, rows))
        with self._writes(), self._layout.writing():
            self._layout.write(table, name, data)

    def committed_keys(self) -> set[str]:
        """The keys of all committed trials, whatever their status."""
        return set(self.statuses())

    def statuses(self, keys: Collection[str] | None = None) -> dict[str, str]:
        """The status of every committed trial by its key, or of `keys`; cheap to ask for again and again."""
        return self._retry(lambda: self._statuses(keys))

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        study: str | Collection[str] | None = None,
        members: Collection[str] | None = None,
    ) -> pa.Table:
        """Read a table as it stood at one moment; rows come in no particular order.

        Args:
            table: name of the table.
            columns: the columns that are wanted, in this order; all of them by default.
            study: only the rows of this study, or of these: their own, or those of the trials that are their members.
                Of compact files no more row groups are read than that takes.
            members: the keys of these studies' trials where they are known, or of some of them; else they are read.

        Raises:
            KeyError: there is no such table or column.

        """
        schema = TABLES[table].schema
        wanted = pa.schema([schema.field(name) for name in (schema.names if columns is None else columns)])
        per_trial = TABLES[table].per_trial
        studies = [study] if isinstance(study, str) else study
        keys = None
        if studies is not None and (per_trial or "study" not in schema.names):
            keys = self._members(studies) if members is None else members

        def rows() -> pa.Table:
            tables = [table, "trials"] if per_trial and keys is not None else [table]
            with Snapshot(self._layout, self._standings, tables, keys) as snapshot:
                return snapshot.rows(table, wanted, keys=keys, studies=studies)

        return self._retry(rows)

    def snapshot(self, tables: Iterable[str]) -> Snapshot:
        """Whole tables as they stood at one moment, not yet read; to be closed."""
        return self._retry(lambda: Snapshot(self._layout, self._standings, tables))

    def is_empty(self) -> bool:
        """Whether nothing was ever written here."""
        return not self._layout.generations() and not any(self._layout.names(table) for table in TABLES)

    def compact(self) -> None:
        """Merge the parts into large files; what can be read does not change. One at a time; commits may go on."""
        if self.is_empty():
            return
        with self._writes(), self._layout.compacting():
            for _ in range(TRIES):
                with suppress(FileNotFoundError):
                    if compact(self._layout, self._standings):
                        return
        raise StoreError(f"The results under {self.root} change faster than they can be compacted: try again later.")

    def check_writable(self) -> None:
        """Find out by trying whether results can be written here, and leave nothing behind."""
        with self._writes():
            self._layout.check_writable()

    def _standing(self, key: str) -> list[Standing]:
        """The standings of the rows that are there of a trial."""
        signature = self._layout.signature("trials", key)
        there = self._standings.parts({key: signature} if signature else {})
        compacted = self._standings.compacted(self._layout.generations(), [key])
        return [*there.values(), *(standing for standing, _ in compacted.values())]

    def _members(self, studies: Collection[str]) -> set[str]:
        return set(self.read("members", ["trial_key"], studies)["trial_key"].to_pylist())

    def _statuses(self, keys: Collection[str] | None) -> dict[str, str]:
        listed = self._layout.parts("trials")
        if keys is not None:
            listed = {key: listed[key] for key in listed.keys() & keys}
        parts = self._standings.parts(listed)
        generations = self._layout.generations()
        found = self._standings.statuses(generations, keys)
        found |= {key: parts[key][0] for key in self._standings.fresh(generations, parts)}
        return {key: STATUSES[place] for key, place in found.items()}

    def _retry(self, reading: Callable[[], Result]) -> Result:
        """Read again when a file went away meanwhile, as in a compaction."""
        for turn in range(TRIES):
            try:
                return reading()
            except FileNotFoundError:
                time.sleep(min(turn * 0.02, 0.2))  # a compaction removes thousands of parts for seconds
            except OSError as error:
                kind = StoreUnavailable if passes(error) else StoreError
                raise kind(f"Expected results that can be read under {self.root}, found: {error.strerror}.") from error
        raise StoreError(f"The results under {self.root} lack a file that they name, or change too fast to be read.")

    @contextmanager
    def _writes(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> StoreError:
        return (StoreUnavailable if passes(error) else StoreError)(
            f"Expected a folder that results can be written to, found {self.root}: {error.strerror}; "
            "set storage.root to another one."
        )
