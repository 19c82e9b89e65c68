"""What an exported model says of itself: the file model.json, in which nothing is believed before it is checked."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from mdml.augmentation import augmentation
from mdml.errors import MethodError
from mdml.methods import Method, make_method
from mdml.models import check_images

FORMAT = "mdml-model-1"
# Bounds on what a file can make this process build: far beyond any model, far below what hurts.
MOST_BYTES = 1 << 20
MOST_CLASSES = 1_000
MOST_LETTERS = 1_000
MOST_LISTED = 10_000
MOST_NUMBER = 100_000
SIDES = range(8, 1025)

_NAMES = {str: "text", bool: "true or false", int: "an integer", dict: "an object", list: "a list"}
_TYPES = {
    "method": str,
    "options": dict,
    "backbone": str,
    "image_size": int,
    "channels": int,
    "aligned": bool,
    "augmentation": str,
    "classes": list,
    "numerics": str,
    "tensors_sha256": str,
    "origin": dict,
}


@dataclass(frozen=True)
class Description:
    """A model without its tensors.

    Args:
        method: name of the method.
        options: of the method; those that are absent have their defaults.
        backbone: name of the trunk.
        image_size: pixels a side of the images, before the augmentation crops its margin.
        channels: 1 or 3.
        aligned: whether the faces that it was trained on were turned level and cut out; what predicts does not do so.
        augmentation: whose test view the network sees.
        classes: names of the classes, by label.
        numerics: versions of the loop and of the method that the model was trained by, "LOOP.METHOD".
        tensors_sha256: 64 hexadecimal digits, of the file model.safetensors.
        origin: where the model comes from and how good it was found; not read by any code.

    Raises:
        MethodError: where a value is not one that a model can have.

    """

    method: str
    options: dict[str, Any]
    backbone: str
    image_size: int
    channels: int
    aligned: bool
    augmentation: str
    classes: list[str]
    numerics: str
    tensors_sha256: str
    origin: dict[str, Any]

    def __post_init__(self) -> None:
        for name, kind in _TYPES.items():
            value = getattr(self, name)
            _expect(type(value) is kind, f"{name} to be {_NAMES[kind]}", value)
            _expect(kind is not str or len(value) <= MOST_LETTERS, f"{name} of at most {MOST_LETTERS} letters", value)
        for option, value in self.options.items():
            _expect(len(option) <= MOST_LETTERS, f"names of options of at most {MOST_LETTERS} letters", option)
            listed = value if isinstance(value, list) else [value]
            _expect(len(listed) <= MOST_LISTED, f"at most {MOST_LISTED} numbers in options.{option}", len(listed))
            for item in listed:
                _expect(_bounded(item), f"options.{option} to be plain values within {MOST_NUMBER}", item)
        self.make_method()
        augmentation(self.augmentation)
        _expect(self.image_size in SIDES, f"image_size to be {SIDES[0]} to {SIDES[-1]}", self.image_size)
        check_images(self.backbone, self.image_size, self.channels, augmentation(self.augmentation).margin)
        _expect(2 <= len(self.classes) <= MOST_CLASSES, f"2 to {MOST_CLASSES} classes", len(self.classes))
        for name in self.classes:
            _expect(type(name) is str and 0 < len(name) <= MOST_LETTERS, "the name of a class to be text", name)
        _expect(len(set(self.classes)) == len(self.classes), "classes with names of their own", self.classes)
        _expect(bool(re.fullmatch(r"[0-9]+\.[0-9]+", self.numerics)), "numerics of the form LOOP.METHOD", self.numerics)
        digits = bool(re.fullmatch("[0-9a-f]{64}", self.tensors_sha256))
        _expect(digits, "tensors_sha256 to be 64 hexadecimal digits", self.tensors_sha256)

    def make_method(self) -> Method:
        """The method with its options."""
        return make_method(self.method, self.options)

    def json(self) -> str:
        """The text of model.json: the same for equal descriptions."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @staticmethod
    def parse(text: bytes) -> Description:
        """The description that `json` wrote.

        Raises:
            MethodError: where it is not one.

        """
        try:
            found = json.loads(text.decode(), parse_constant=_no_number, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            raise MethodError(f"Expected JSON in model.json, found none that can be read: {error}.") from error
        _expect(type(found) is dict, "an object in model.json", found)
        version = found.pop("format", None)
        _expect(version == FORMAT, f"format to be {FORMAT!r}", version)
        names = sorted(field.name for field in fields(Description))
        missing, unknown = sorted(set(names) - set(found)), sorted(set(found) - set(names))
        _expect(not missing, f"the entries {', '.join(names)}", f"none called {', '.join(missing)}", plain=True)
        _expect(not unknown, f"the entries {', '.join(names)} alone", unknown)
        return Description(**found)


def shown(value: object, most: int = 80) -> str:
    """A value for a message: on one line, printable, and not long."""
    text = ascii(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _expect(right: bool, expected: str, found: object, plain: bool = False) -> None:
    if not right:
        raise MethodError(f"Expected {expected}, found {found if plain else shown(found)}.")


def _bounded(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MOST_LETTERS
    return value is None or (isinstance(value, (int, float)) and abs(value) <= MOST_NUMBER)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names differ: which of two equal ones counts would be a guess."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found
