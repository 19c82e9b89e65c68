"""Checks of the options that several data sets take."""

from __future__ import annotations

from collections.abc import Sequence

from datasets.errors import DatasetError


def one_of(option: str, value: object, allowed: Sequence[str | int]) -> None:
    """Refuse a value that is none of those that are allowed.

    Raises:
        DatasetError: it is another, or of another type, as True where 1 is allowed.

    """
    if type(value) is not type(allowed[0]) or value not in allowed:
        words = ", ".join(str(word) for word in allowed)
        raise DatasetError(f"expected dataset.{option} to be one of {words}, found {value!r}; set one of them.")


def truth(option: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        DatasetError: it is something else, as 1 or "yes".

    """
    if not isinstance(value, bool):
        raise DatasetError(f"expected dataset.{option} to be true or false, found {value!r}; set one of them.")


def at_least(option: str, value: object, least: int) -> None:
    """Refuse what is not a whole number from `least` on.

    Raises:
        DatasetError: it is smaller, or no whole number.

    """
    if type(value) is not int or value < least:
        raise DatasetError(f"expected dataset.{option} to be a whole number from {least} on, found {value!r}; set one.")
