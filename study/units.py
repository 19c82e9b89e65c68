"""Durations and rates as people write them."""

from __future__ import annotations

import math
import re
from typing import Any

from study.errors import StudyError

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*")
_RATE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:/\s*(h|d))?\s*")


def duration(value: Any, name: str) -> float:
    """Seconds of 90, "90s", "3min", "8h" or "2d".

    Raises:
        StudyError: where it is none of these.

    """
    found = _DURATION.fullmatch(str(value))
    if not found or found[2] not in _SECONDS:
        raise StudyError(f"Expected {name} to be a duration such as 90s, 3min, 8h or 2d, found {str(value)!r}.")
    return float(found[1]) * _SECONDS[found[2]]


def rate(value: Any, name: str) -> float:
    """Times an hour of 0.05, "0.05/h" or "1/d".

    Raises:
        StudyError: where it is none of these.

    """
    found = _RATE.fullmatch(str(value))
    if not found:
        raise StudyError(f"Expected {name} to be a rate such as 0.05/h or 1/d, found {str(value)!r}.")
    return float(found[1]) / (24 if found[2] == "d" else 1)


def spoken(seconds: float) -> str:
    """A duration in its two largest units: 4.2 s, 42 s, 3 min 20 s, 5 h 7 min, 2 d 3 h; "-" where there is none."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    for unit, smaller, size, many in (("min", "s", 1, 60), ("h", "min", 60, 24), ("d", "h", 3600, math.inf)):  # noqa: B007
        large, rest = divmod(round(seconds / size), 24 if unit == "d" else 60)
        if large < many:
            break
    return f"{large} {unit} {rest} {smaller}" if rest else f"{large} {unit}"
