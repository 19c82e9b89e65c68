"""Numbers that others have published: results/published.csv, each with where it stands.

They were measured by other code on other folds, and by most on the epoch that was best on the test fold. Tables have them in a column of
their own and compute nothing from them.
"""

import csv
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("published.csv")


class Published(NamedTuple):
    """One number.

    Attributes:
        id: SOURCE-TABLE-DATASET-METHOD-METRIC, unlike any other.
        source: authors and year.
        table: of the source, "" where it stands in the text.
        page: "" where it is not known.
        dataset: as in `dataset=`.
        classes: of the data set's option `classes`, "" where it has none.
        metric: the column of `trials` that comes nearest.
        method: as the source calls it.
        arm: names of our arms that it is about, separated by spaces; "" for none.
        value: as printed: percent of a fraction, else the number in the unit of the column.
        note: what a reader must know.

    """

    id: str
    source: str
    table: str
    page: str
    dataset: str
    classes: str
    metric: str
    method: str
    arm: str
    value: float
    note: str

    @property
    def in_our_unit(self) -> float:
        """The value in the unit of its column: percent become a fraction."""
        return self.value / 100 if self.metric.startswith("test_") else self.value


COLUMNS = Published._fields


@lru_cache(maxsize=1)
def published() -> tuple[Published, ...]:
    """All of them, in the order of the file."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(Published(**{**row, "value": float(row["value"])}) for row in rows)  # type: ignore[arg-type]


def select(wanted: Mapping[str, Any]) -> list[Published]:
    """The numbers whose columns have the values that are wanted; a list stands for any of its values."""

    def fits(number: Published) -> bool:
        for column, values in wanted.items():
            known = str(getattr(number, column)).split() if column == "arm" else [str(getattr(number, column))]
            if not {str(value) for value in (values if isinstance(values, list) else [values])} & set(known):
                return False
        return True

    return [number for number in published() if fits(number)]


def beside(ids: Iterable[str], dataset: str, classes: str, metric: str) -> list[Published]:
    """Of the numbers with these ids those of a data set and a metric."""
    wanted = set(ids)
    return [
        number
        for number in published()
        if number.id in wanted
        and (number.dataset, number.metric) == (dataset, metric)
        and number.classes in ("", classes)
    ]
