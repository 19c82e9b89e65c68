"""One compact file, held open while it is read, of which no more is read than is asked for."""

import bisect
import json
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from results.files import FIRST_TRIALS, read_parquet, readable
from results.layout import Held

ORIGIN = "__part"  # in files of the tables written by name: the part that a row came from
REPLACES = "replaces"


class CompactFile:
    """A table's rows of one generation.

    Args:
        held: the file.
        footers: the footers that this process has read before, by the names of the files, which never change.

    """

    def __init__(self, held: Held, footers: dict[str, pq.FileMetaData]) -> None:
        self.held, self.name = held, str(held.name)
        self._footers = footers
        self._opened: list[pa.NativeFile] = []

    @cached_property
    def file(self) -> pq.ParquetFile:
        """The file, its footer read."""
        with readable(self.name):
            self._opened.append(self.held.open())
            file = pq.ParquetFile(self._opened[0], metadata=self._footers.get(self.name), pre_buffer=True)
            self._footers[self.name] = file.metadata
            return file

    @cached_property
    def columns(self) -> list[str]:
        """The columns that it has."""
        names: list[str] = self.file.schema_arrow.names
        return names

    @property
    def replaces(self) -> list[str] | None:
        """The parts of older generations that no longer count, as it has them, too; None when it does not say."""
        found = (self.file.metadata.metadata or {}).get(REPLACES.encode())
        return None if found is None else json.loads(found)

    def read(
        self,
        schema: pa.Schema,
        groups: Collection[int] | None = None,
        keep: tuple[str, pa.Array] | None = None,
        drop: tuple[str, pa.Array] | None = None,
        strict: bool = False,
    ) -> Iterator[pa.Table]:
        """Its rows, a row group at a time, as `read_parquet` has them."""
        wanted = None if groups is None else sorted(groups)
        yield from read_parquet(self.file, schema, name=self.name, groups=wanted, keep=keep, drop=drop, strict=strict)

    def groups_with(self, column: str, values: Collection[str]) -> list[int]:
        """The row groups that may have one of `values` in a column of text, by their statistics."""
        metadata = self.file.metadata
        if column not in self.columns:
            return []
        place = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column)
        found = []
        for number in range(metadata.num_row_groups):
            bounds = metadata.row_group(number).column(place).statistics
            if bounds is None or not bounds.has_min_max or any(bounds.min <= v <= bounds.max for v in values):
                found.append(number)
        return found

    def starts(self) -> list[int]:
        """The number of the first row of each row group."""
        starts, total = [], 0
        for number in range(self.file.metadata.num_row_groups):
            starts.append(total)
            total += self.file.metadata.row_group(number).num_rows
        return starts

    def groups_of(self, trials: Collection[int]) -> list[int]:
        """The row groups with the rows of these trials, given by their rows in the file of trials."""
        stored = (self.file.metadata.metadata or {}).get(FIRST_TRIALS.encode())
        if stored is None:
            return list(range(self.file.metadata.num_row_groups))
        firsts = json.loads(stored)
        found: set[int] = set()
        for trial in trials:
            # The last group that begins before the trial does may hold its first rows.
            begin = max(0, bisect.bisect_left(firsts, trial) - 1)
            found.update(range(begin, bisect.bisect_right(firsts, trial)))
        return sorted(found)

    def dataset(self, schema: pa.Schema) -> Any:
        """A file of S3, for DuckDB to ask for columns and row groups."""
        columns = [*schema, pa.field(ORIGIN, pa.string())]
        return self.held.dataset(pa.schema([field for field in columns if field.name in self.columns]))

    def close(self) -> None:
        """Let the file go."""
        for opened in self._opened:
            opened.close()
        self.held.close()
