"""Rows that the store cannot take for a while: kept on this machine, and caught up when it can.

python -m study.spool    name the studies of which this machine keeps some
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from results import Store
from results.errors import StoreError, StoreUnavailable
from results.layout import Layout
from results.schema import TABLES, TRIAL_TABLES
from results.store import Row

Tables = Mapping[str, Sequence[Row]]
# What a line begins with that names a study.
WAITING = "Rows that wait for their store: "
# Seconds between two attempts: doubled after each, up to the second one.
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0


class Spool:
    """Commits to a store; what that cannot take now is kept in a store of this machine's disk, and in memory where that is full too.

    Committing is idempotent, so that rows that were taken although the answer was lost are not doubled.

    Args:
        store: where rows belong.
        study: whose rows they are; two studies that run at a time keep theirs apart.
        clock: seconds that never go back.

    """

    def __init__(self, store: Store, study: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self._clock = store, clock
        self.folder = _folder(store, study)
        self._near, self._layout = Store(self.folder), Layout(self.folder)
        self._held: list[tuple[str, str, Tables]] = []  # (what, name, rows): neither store would take them
        self._wait, self._next = FIRST_WAIT, 0.0
        self.reason: str | None = None if self._near.is_empty() else "rows of an earlier run are still on this machine"

    @property
    def full(self) -> bool:
        """Whether rows are in memory alone: nothing new must begin before they are written."""
        return bool(self._held)

    def commit(self, key: str, tables: Tables) -> None:
        """Write the rows of a trial, now or as soon as the store takes them.

        Raises:
            StoreError: where the store will never take them.

        """
        self._put("trials", key, tables)

    def write(self, table: str, name: str, rows: Sequence[Row]) -> None:
        """Write the part `name` of a table that is written by name, likewise."""
        self._put(table, name, {table: rows})

    def _put(self, table: str, name: str, rows: Tables) -> None:
        if self.reason is None:
            try:
                _write(self.store, table, name, rows)
                return
            except StoreUnavailable as error:
                self._delay(error)
            except StoreError:
                self._keep(table, name, rows)  # for the next run, by when somebody may have let it write there
                raise
        self._keep(table, name, rows)

    def catch_up(self, *, now: bool = False) -> bool:
        """Bring to the store what was kept, unless an attempt failed a moment ago and `now` is not asked for.

        Returns:
            Whether nothing is left.

        Raises:
            StoreError: where the store will never take them.

        """
        if self.reason is None or (not now and self._clock() < self._next):
            return self.reason is None
        try:
            while self._held:
                _write(self.store, *self._held[0])
                self._held.pop(0)
            self._bring()
        except StoreUnavailable as error:
            self._delay(error)
            return False
        self.reason, self._wait = None, FIRST_WAIT
        return True

    def _bring(self) -> None:
        for table in [name for name in TABLES if name not in TRIAL_TABLES] + ["trials"]:
            for name in self._layout.names(table):
                tables = TRIAL_TABLES if table == "trials" else [table]
                _write(self.store, table, name, {one: self._rows(one, name) for one in tables})
                self._layout.part(table, name).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _rows(self, table: str, name: str) -> list[Row]:
        try:
            parts = self._layout.read_part(table, name, TABLES[table].schema)
            return [row for part in parts for row in part.to_pylist()]
        except FileNotFoundError:
            return []

    def _keep(self, table: str, name: str, rows: Tables) -> None:
        try:
            _write(self._near, table, name, rows)
        except StoreError:  # full, or such that nothing may be written there
            self._held.append((table, name, rows))

    def _delay(self, error: StoreUnavailable) -> None:
        self.reason = str(error)
        self._next, self._wait = self._clock() + self._wait, min(2 * self._wait, LONGEST_WAIT)


def _write(store: Store, table: str, name: str, rows: Tables) -> None:
    if table == "trials":
        store.commit(name, rows)
    else:
        store.write(table, name, rows[table])


def waiting() -> list[str]:
    """Studies of which this machine keeps rows."""
    return sorted({folder.name.rpartition("-")[0] for folder in _place().glob("*") if not Store(folder).is_empty()})


def _folder(store: Store, study: str) -> Path:
    digest = hashlib.sha256(str(store.root).encode()).hexdigest()[:16]
    return _place() / f"{study}-{digest}"


def _place() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mul-dml-studies" / "spool"


if __name__ == "__main__":
    for name in waiting():
        print(f"{WAITING}{name}")
