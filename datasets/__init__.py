"""The faces: one module per data set, each with a `prepare` that builds its Arrow file, and the splits.

Adding a data set is adding one module to this folder.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

from datasets.errors import DatasetError
from datasets.faceset import FaceSet, write_faceset

__all__ = ["DatasetError", "FaceSet", "dataset_names", "open_dataset", "write_faceset"]


def dataset_names() -> tuple[str, ...]:
    """Names of the data sets, sorted: the modules of this folder that define a function `prepare`."""
    modules = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return tuple(sorted(name for name in modules if hasattr(importlib.import_module(f"datasets.{name}"), "prepare")))


def open_dataset(name: str, *, image_size: int, channels: int, cache: str | Path, **options: Any) -> FaceSet:
    """Open a data set, after building its Arrow file where `cache` does not hold it yet.

    Args:
        name: one of `dataset_names()`.
        image_size: height and width of the images in pixels.
        channels: 1 for grey, 3 for RGB.
        cache: folder of the Arrow files.
        **options: what the data set's own `prepare` takes.

    Raises:
        DatasetError: no such data set, no such option, or one of the data set's own errors.

    """
    names = dataset_names()
    if name not in names:
        raise DatasetError(f"expected dataset to be one of {', '.join(names)}, found {name!r}{nearest(name, names)}.")
    if channels not in (1, 3):
        raise DatasetError(f"expected channels to be 1 (grey) or 3 (RGB), found {channels!r}.")
    if not isinstance(image_size, int) or not 8 <= image_size <= 1024:
        raise DatasetError(f"expected image_size to be 8 to 1024 pixels, found {image_size!r}.")
    prepare = importlib.import_module(f"datasets.{name}").prepare
    parameters = inspect.signature(prepare).parameters
    known = [parameter for parameter in parameters if parameter not in ("image_size", "channels", "cache")]
    for option in options:
        if option not in known:
            raise DatasetError(
                f"expected the options of the data set {name} to be among {', '.join(known)}, "
                f"found {option!r}{nearest(option, known)}."
            )
    for option in known:
        if parameters[option].default is inspect.Parameter.empty and option not in options:
            raise DatasetError(
                f"expected the option {option!r} of the data set {name}, found none; set dataset.{option}."
            )
    return FaceSet.open(prepare(image_size=image_size, channels=channels, cache=Path(cache), **options))


def nearest(word: str, words: tuple[str, ...] | list[str]) -> str:
    """The end of a sentence that offers the word of `words` most like `word`, or nothing where none is like it."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}" if close else ""
