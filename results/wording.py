"""How tables write numbers for people."""

from collections.abc import Sequence

from results.render import number
from results.schema import TRIALS

FRACTIONS = {column.name for column in TRIALS.columns if column.unit == "fraction"}


def digits(value: float | None, metric: str, sign: str = "") -> str:
    """A number of a metric: three digits of a fraction."""
    if value is None:
        return ""
    if metric in FRACTIONS or metric.endswith("loss"):
        return format(value, f"{sign}.3f")
    return (sign if value >= 0 else "") + number(value)


def bounds(low: float | None, high: float | None, metric: str, sign: str = "") -> str:
    """The ends of an interval; nothing where one is not known."""
    return "" if low is None or high is None else f"[{digits(low, metric, sign)}, {digits(high, metric, sign)}]"


def p_value(value: float | None) -> str:
    """A p value in three digits."""
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def count(number_of: int, noun: str) -> str:
    """A number with its noun: 1 fold, 2 folds."""
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"


def listed(values: Sequence[str]) -> str:
    """Values in a sentence."""
    return " and ".join(values) or "nothing yet"
