"""Methods by name: the module mdml/methods/NAME.py defines METHOD, a dataclass whose fields are the method's options."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import typing
from collections.abc import Mapping
from typing import Any

from mdml.errors import MethodError
from mdml.methods.base import ClassifierMethod, Layout, Method, MetricMethod, StepLoss

__all__ = [
    "ClassifierMethod",
    "Layout",
    "Method",
    "MetricMethod",
    "StepLoss",
    "make_method",
    "method_class",
    "method_names",
]


def method_names() -> list[str]:
    """Names of all methods, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        MethodError: where there is none of that name; names the nearest.

    """
    if name not in method_names():
        raise MethodError(
            f"Expected a method out of {', '.join(method_names())}, found {name!r}.{_nearest(name, method_names())}"
        )
    cls: type[Method] = importlib.import_module(f"{__name__}.{name}").METHOD
    return cls


def make_method(name: str, options: Mapping[str, Any]) -> Method:
    """Make a method from its options; lists become tuples.

    Raises:
        MethodError: for an unknown method, an unknown option, a value of the wrong type or out of range.

    """
    cls = method_class(name)
    fields = {field.name for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for option, value in options.items():
        if option not in fields:
            raise MethodError(
                f"The method {name} has no option {option!r}: it has {', '.join(sorted(fields))}.{_nearest(option, fields)}"
            )
        if not _fits(value, hints[option]):
            raise MethodError(f"method.{option} of {name} must be {_words(hints[option])}, found {value!r}.")
    values: dict[str, Any] = {
        option: tuple(map(float, value)) if isinstance(value, (list, tuple)) else value
        for option, value in options.items()
    }
    return cls(**values)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value read from a configuration can stand for a field of this type."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(item, float) for item in value)
    if origin is not None:
        return any(_fits(value, part) for part in typing.get_args(hint))
    if isinstance(value, bool | str):
        return hint is type(value)
    return isinstance(value, (int, float) if hint is float else hint)


def _words(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if origin is tuple:
        return "a list of numbers"
    if origin is not None:
        return " or ".join(_words(part) for part in typing.get_args(hint))
    return {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "null"}[hint]


def _nearest(word: str, words: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean {close[0]}?" if close else ""
