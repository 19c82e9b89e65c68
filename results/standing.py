"""Which row of a trial stands, when there is more than one."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from results.bulk import read_parts
from results.compacted import CompactFile
from results.index import Index, Standing, index_bytes
from results.layout import INDEX, Generation, Layout, Signature
from results.schema import TRIALS

STATUSES = ("failed", "stopped", "done")
PART = -1  # in place of a generation's index: the row stands in a part
MARK = pa.schema([TRIALS.schema.field(name) for name in ("trial_key", "status", "ended_at", "retrained", "study")])


def standing_of(trials: pa.Table) -> dict[str, Standing]:
    """The standing of each row of `trials` by key: of two rows of one trial the greater stands, of equals the first."""
    found = {}
    ended = trials["ended_at"].cast(pa.int64()).to_pylist()
    columns = (trials[name].to_pylist() for name in ("trial_key", "status", "retrained"))
    for key, status, retrained, end in zip(*columns, ended, strict=True):
        if status not in STATUSES:
            raise ValueError(f"The status of a trial is one of {', '.join(STATUSES)}, found {status!r}")
        found[key] = (STATUSES.index(status), retrained or 0, (end or 0) if status == "failed" else 0)
    return found


def as_arrays(standings: Mapping[str, Standing]) -> dict[str, Any]:
    """What `index_bytes` takes, the rows numbered in this order."""
    values = np.array(list(standings.values()), np.int64).reshape(-1, 3)
    width = max(map(len, standings), default=1)
    return {
        "trial_key": np.array(list(standings), f"S{width}"),
        "status": values[:, 0].astype(np.int8),
        "retrained": values[:, 1].astype(np.int32),
        "ended": values[:, 2],
        "row": np.arange(len(values)),
    }


class Standings:
    """The standings of a store's trials, remembered for every file that has been read."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._parts: dict[str, tuple[Signature, Standing, str | None]] = {}
        self._indexes: dict[str, Index] = {}
        self._statuses: tuple[list[Generation], dict[str, int]] = ([], {})
        self.footers: dict[str, pq.FileMetaData] = {}

    def parts(self, listed: Mapping[str, Signature], rows: pa.Table | None = None) -> dict[str, Standing]:
        """The standings of these parts of `trials`; `rows` are all of theirs, where they have been read."""
        new = [key for key, sign in listed.items() if key not in self._parts or self._parts[key][0] != sign]
        if new:
            stems = [self._layout.stem(key, listed[key]) for key in new]
            rows = read_parts(self._layout, "trials", stems, MARK) if rows is None else rows
            found = standing_of(rows)
            studies = dict(zip(rows["trial_key"].to_pylist(), rows["study"].to_pylist(), strict=True))
            self._parts |= {key: (listed[key], found[key], studies[key]) for key in new}
        return {key: self._parts[key][1] for key in listed}

    def studies(self, keys: Iterable[str]) -> list[str | None]:
        """The study of each of these parts, whose standings have been asked for."""
        return [self._parts[key][2] for key in keys]

    def index(self, generations: Sequence[Generation], number: int) -> Index | None:
        """The index of a generation; None where it has no trials.

        For generations of earlier versions, which have none, it is made from their rows.
        """
        generation = generations[number]
        file = generation.files.get(INDEX, generation.files.get("trials"))
        if file is None:
            return None
        if file not in self._indexes:
            held = self._layout.hold(self._layout.compact(file))
            if INDEX in generation.files:
                self._indexes[file] = Index(held.open(mapped=True))
                held.close()
            else:
                trials = CompactFile(held, self.footers)
                found = standing_of(pa.concat_tables([MARK.empty_table(), *trials.read(MARK)]))
                trials.close()
                replaces = self.compacted(generations[:number], found)
                self._indexes[file] = Index(pa.BufferReader(index_bytes(as_arrays(found), replaces)))
        return self._indexes[file]

    def compacted(self, generations: Sequence[Generation], keys: Collection[str]) -> dict[str, tuple[Standing, int]]:
        """The best compacted standing of those of `keys` that have one, and the number of its generation."""
        best: dict[str, tuple[Standing, int]] = {}
        for number in range(len(generations)):
            index = self.index(generations, number)
            for key, (standing, _) in (index.find(keys) if index else {}).items():
                if key not in best or standing > best[key][0]:
                    best[key] = (standing, number)
        return best

    def fresh(self, generations: Sequence[Generation], parts: Mapping[str, Standing]) -> set[str]:
        """The keys of those parts that stand over what is compacted."""
        best = self.compacted(generations, parts)
        return {key for key, standing in parts.items() if key not in best or standing > best[key][0]}

    def hidden(self, generations: Sequence[Generation]) -> list[set[str]]:
        """For each generation, keys whose rows in it no longer count (among them some that it does not have)."""
        kept = {file for generation in generations for file in generation.files.values()}
        self._indexes = {file: index for file, index in self._indexes.items() if file in kept}
        found, newer = [], set[str]()
        for number in reversed(range(len(generations))):
            found.append(set(newer))
            if index := self.index(generations, number):
                newer |= index.replaces
        return found[::-1]

    def statuses(self, generations: list[Generation], keys: Iterable[str] | None = None) -> dict[str, int]:
        """The place in STATUSES of all compacted trials, or of `keys`."""
        if keys is not None:
            return {key: standing[0] for key, (standing, _) in self.compacted(generations, list(keys)).items()}
        if self._statuses[0] != generations:
            found: dict[str, int] = {}
            for number in range(len(generations)):
                if index := self.index(generations, number):
                    found.update(index.statuses())  # what a later generation has stands
            self._statuses = (generations, found)
        return dict(self._statuses[1])
