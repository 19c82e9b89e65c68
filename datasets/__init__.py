"""The faces: one module per data set, and the splits.

Adding a data set is adding one module to this folder: its `CARD` says what it is, and its `scan` finds the faces below a root that the
user names (or its `prepare` makes them itself, as `synthetic` does).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache as cached
from pathlib import Path
from typing import Any

from datasets.errors import DatasetError
from datasets.faceset import FaceSet, write_faceset
from datasets.options import truth

__all__ = [
    "DatasetError",
    "FaceSet",
    "build_dataset",
    "dataset_names",
    "dataset_options",
    "open_dataset",
    "write_faceset",
]

# What every data set of files takes besides the options of its own `scan`.
COMMON = {"align": False, "allow_skips": False}
_NOT_OPTIONS = ("image_size", "channels", "cache")


@cached
def dataset_names() -> tuple[str, ...]:
    """Names of the data sets, sorted: the modules of this folder that have a `CARD`."""
    modules = [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]
    return tuple(sorted(name for name in modules if hasattr(importlib.import_module(f"datasets.{name}"), "CARD")))


def open_dataset(name: str, *, image_size: int, channels: int, cache: str | Path, **options: Any) -> FaceSet:
    """Open a data set, after building its Arrow file where `cache` does not hold it yet.

    Args:
        name: one of `dataset_names()`.
        image_size: height and width of the images in pixels.
        channels: 1 for grey, 3 for RGB.
        cache: folder of the Arrow files.
        **options: those of `dataset_options(name)`.

    Raises:
        DatasetError: no such data set, no such option, or one of the data set's own errors.

    """
    return FaceSet.open(build_dataset(name, options, image_size=image_size, channels=channels, cache=cache))


def build_dataset(
    name: str,
    options: Mapping[str, Any],
    *,
    image_size: int,
    channels: int,
    cache: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The Arrow file of a data set, built where `cache` does not hold it yet.

    Args:
        name: as in `open_dataset`, and so are the others.
        options: those of `dataset_options(name)`.
        image_size: height and width of the images in pixels.
        channels: 1 for grey, 3 for RGB.
        cache: folder of the Arrow files.
        progress: is told how many of how many images are done.

    Raises:
        DatasetError: as `open_dataset`.

    """
    known = dataset_options(name)
    if type(channels) is not int or channels not in (1, 3):
        raise DatasetError(f"expected channels to be 1 (grey) or 3 (RGB), found {channels!r}.")
    if type(image_size) is not int or not 8 <= image_size <= 1024:
        raise DatasetError(f"expected image_size to be 8 to 1024 pixels, found {image_size!r}.")
    for option in options:
        if option not in known:
            raise DatasetError(
                f"expected the options of the data set {name} to be among {', '.join(known)}, "
                f"found {option!r}{nearest(option, list(known))}."
            )
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in options:
            raise DatasetError(
                f"expected the option {option!r} of the data set {name}, found none; set dataset.{option}."
            )
    module = importlib.import_module(f"datasets.{name}")
    values = {**known, **options}
    if hasattr(module, "prepare"):
        path: Path = module.prepare(image_size=image_size, channels=channels, cache=Path(cache), **values)
        return path
    from datasets.building import build

    common = {option: values.pop(option) for option in COMMON}
    for option, value in common.items():
        truth(option, value)
    listing = module.scan(**values)
    del values["root"]
    return build(
        module.CARD,
        listing,
        values,
        image_size=image_size,
        channels=channels,
        cache=Path(cache),
        progress=progress,
        **common,
    )


def dataset_options(name: str) -> dict[str, Any]:
    """Default of every option of a data set, `inspect.Parameter.empty` for one that must be given.

    Raises:
        DatasetError: no such data set.

    """
    names = dataset_names()
    if name not in names:
        raise DatasetError(f"expected dataset to be one of {', '.join(names)}, found {name!r}{nearest(name, names)}.")
    module = importlib.import_module(f"datasets.{name}")
    made = hasattr(module, "prepare")
    parameters = inspect.signature(module.prepare if made else module.scan).parameters
    options = {option: value.default for option, value in parameters.items() if option not in _NOT_OPTIONS}
    return options if made else {**options, **COMMON}


def nearest(word: str, words: tuple[str, ...] | list[str]) -> str:
    """The end of a sentence that offers the word of `words` most like `word`, or nothing where none is like it."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}" if close else ""
