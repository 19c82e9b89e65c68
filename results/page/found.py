"""What the figures of a page share: the study, its trials by arm, and how to read its other tables."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from results.comparison import interval
from results.proposals import proposals, trainings
from results.schema import TRIALS
from results.stats import Interval, Place, replicates
from results.store import Store
from results.tables import StudyRows, Table, comparison_table, ranking_table, study_rows

Row = dict[str, Any]
_FRACTIONS = {column.name for column in TRIALS.columns if column.unit == "fraction"}


@dataclass
class Found:
    """A study as it stands in a store."""

    store: Store
    rows: StudyRows

    @classmethod
    def read(cls, store: Store, study: str) -> "Found":
        """Read a study.

        Raises:
            StoreError: there is no such study.

        """
        return cls(store, study_rows(store, study))

    @property
    def name(self) -> str:
        """The name of the study."""
        return str(self.rows.study["study"])

    @property
    def searches(self) -> bool:
        """Whether it is a search."""
        return bool(self.rows.study["kind"] == "search")

    @property
    def metric(self) -> str:
        """The column of trials that it is about."""
        return self.rows.metric

    @property
    def words(self) -> str:
        """The metric as people call it."""
        return words(self.metric)

    @property
    def fraction(self) -> bool:
        """Whether the metric lies between 0 and 1."""
        return self.metric in _FRACTIONS

    @cached_property
    def ratio(self) -> float | None:
        """Images measured on per training image."""
        return self.rows.ratio()

    @cached_property
    def table(self) -> Table:
        """Its table, of a search the ranking."""
        return (ranking_table if self.searches else comparison_table)(self.store, self.name)

    @cached_property
    def compared(self) -> list[Row]:
        """The rows of the comparison table that have a mean; of a search none."""
        rows = [] if self.searches else [dict(zip(self.table.columns, row, strict=True)) for row in self.table.rows]
        return [row for row in rows if row["mean"] is not None]

    @cached_property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return str(self.rows.study["baseline"] or (self.rows.members[0]["arm"] if self.rows.members else ""))

    @cached_property
    def best(self) -> Row | None:
        """Of all trials that did not fail the one with the best metric."""
        return self._best(("done", "stopped"))

    @cached_property
    def trials(self) -> list[Row]:
        """The trials that are in the store, in the order of the plan, each once."""
        keys = dict.fromkeys(member["trial_key"] for member in self.rows.members)
        return [self.rows.trials[key] for key in keys if key in self.rows.trials]

    @cached_property
    def shown(self) -> Row | None:
        """The trial of a search that its figures of one trial show: the best of those done, which were evaluated in full."""
        return self._best(("done",))

    @cached_property
    def arms(self) -> dict[str, dict[str, Place]]:
        """Fold and seed of the trials of each arm by their key, in the order of the plan; of a search, the trial shown."""
        found: dict[str, dict[str, Place]] = {}
        for member in self.rows.members:
            key = member["trial_key"]
            if not self.searches or (self.shown is not None and key == self.shown["trial_key"]):
                found.setdefault(member["arm"], {})[key] = (member["fold"], member["seed"])
        return found

    def _best(self, statuses: tuple[str, ...]) -> Row | None:
        """The first of equals, as in the table."""
        some = [row for row in self.trials if row["status"] in statuses and row[self.metric] is not None]
        sign = -1 if self.rows.less_is_better else 1
        if self.searches and trainings(self.rows) > 1:
            complete = [one.trial for one in proposals(self.rows) if one.trial["status"] == "done"]
            best = max(complete, key=lambda row: sign * row[self.metric], default=None)
            return best and self.rows.trials[best["trial_key"]]
        return max(some, key=lambda row: sign * row[self.metric], default=None)

    def read_by_trial(self, table: str, columns: Sequence[str]) -> dict[str, list[Row]]:
        """The rows of one of its tables by trial key."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.store.read(table, ["trial_key", *columns], self.name).to_pylist():
            found[row["trial_key"]].append(row)
        return found

    def interval(self, values: dict[Place, float]) -> Interval:
        """Mean and interval over folds and seeds, as in the table: without ends where one value, or equal ones, show no spread."""
        (numbers,), ratio = replicates([values], self.ratio or 0.0)
        mean, low, high = interval(numbers, ratio)
        return (mean, None, None) if self.ratio is None else (mean, low, high)


def words(column: str) -> str:
    """A column as people call it."""
    return column.replace("val_", "validation ").replace("train_", "training ").replace("_", " ")


def tally(values: Iterable[Any]) -> list[tuple[Any, int]]:
    """Each value with how often it occurs, the most frequent first."""
    found: dict[Any, int] = defaultdict(int)
    for value in values:
        found[value] += 1
    return sorted(found.items(), key=lambda item: (-item[1], str(item[0])))
