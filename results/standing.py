"""Which row of a trial stands, when there is more than one."""

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from results.files import read_parquet
from results.layout import Generation, Layout, Signature
from results.schema import TRIALS

# Place in STATUSES, how often it was retrained, and the microseconds since 1970 at which a failed trial ended, else 0.
Standing = tuple[int, int, int]
STATUSES = ("failed", "stopped", "done")
PART = -1  # in place of a generation's index: the row stands in a part
MARK = pa.schema([TRIALS.schema.field(name) for name in ("trial_key", "status", "ended_at", "retrained")])


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


class Standings:
    """The standings of a store's trials, remembered for every file that has been read."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._parts: dict[str, tuple[Signature, Standing]] = {}
        self._files: dict[str, dict[str, Standing]] = {}

    def parts(self, listed: Mapping[str, Signature]) -> dict[str, Standing]:
        """The standings of these parts of `trials`."""
        for key, signature in listed.items():
            if key not in self._parts or self._parts[key][0] != signature:
                row = pa.concat_tables(read_parquet(self._layout.part("trials", key), MARK))
                self._parts[key] = (signature, standing_of(row)[key])
        return {key: self._parts[key][1] for key in listed}

    def compacted(self, generations: Sequence[Generation]) -> dict[str, tuple[Standing, int]]:
        """The best compacted standing of each trial, and the index of its generation."""
        best: dict[str, tuple[Standing, int]] = {}
        for index, generation in enumerate(generations):
            for key, standing in self._read(generation).items():
                if key not in best or standing > best[key][0]:
                    best[key] = (standing, index)
        return best

    def best(self, generations: Sequence[Generation], parts: Mapping[str, Standing]) -> dict[str, tuple[Standing, int]]:
        """The standing of every trial, and the index of the generation in which its row stands, or PART."""
        best = self.compacted(generations)
        for key, standing in parts.items():
            if key not in best or standing > best[key][0]:
                best[key] = (standing, PART)
        return best

    def _read(self, generation: Generation) -> Mapping[str, Standing]:
        file = generation.files.get("trials")
        if file is None:
            return {}
        if file not in self._files:
            tables: Iterable[pa.Table] = read_parquet(self._layout.compact(file), MARK)
            self._files[file] = standing_of(pa.concat_tables([MARK.empty_table(), *tables]))
        return self._files[file]
