"""Prepare a data set: build the file that studies open, and say what is in it.

    python -m datasets.prepare ckplus --root PATH --align classes=8
    python -m datasets.prepare --list

A study with the same options finds what this has built. It can be interrupted, and goes on when it is run again.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from datasets import DatasetError, FaceSet, build_dataset, dataset_names, dataset_options
from datasets.card import card_of

CACHE = Path(__file__).resolve().parent / "cache"
_KINDS: dict[type, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", {"true": True, "false": False}.__getitem__),
    int: ("a whole number", int),
    float: ("a number", float),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        arguments = _parser().parse_intermixed_args(words)
        if arguments.list:
            _print_list()
        else:
            _prepare(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, has seen enough; nothing is left for Python to write when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what was read is kept. Run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it in one sentence, without the usage."""
        raise DatasetError(f"expected the options that --help lists, found: {message}.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m datasets.prepare",
        description="Build the file of a data set that studies open with the same size, channels and options.",
    )
    parser.add_argument("words", nargs="*", metavar="NAME [OPTION=VALUE ...]", help="data set, and options of its own")
    parser.add_argument("--list", action="store_true", help="print a table of all data sets")
    parser.add_argument("--root", metavar="PATH", help="the folder of the data set, in its official layout")
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels (default 112)")
    parser.add_argument("--channels", type=int, default=3, help="1 grey, 3 RGB (default 3)")
    parser.add_argument("--cache", metavar="DIR", type=Path, default=CACHE, help="where to (default datasets/cache)")
    parser.add_argument("--align", action="store_true", help="find the face, turn it level and cut it out")
    parser.add_argument("--allow-skips", action="store_true", help="go on where more than 1 %% of the images are bad")
    return parser


def _prepare(arguments: argparse.Namespace) -> None:
    if not arguments.words:
        raise DatasetError(f"expected the name of a data set, found none; name one of {', '.join(dataset_names())}.")
    name, *pairs = arguments.words
    known = dataset_options(name)
    options: dict[str, Any] = {option: True for option in ("align", "allow_skips") if getattr(arguments, option)}
    # A path means the same to every study, wherever it is started.
    options |= {"root": str(_absolute(arguments.root))} if arguments.root else {}
    for pair in pairs:
        option, equals, text = pair.partition("=")
        if not equals:
            raise DatasetError(f"expected options of the data set as OPTION=VALUE, found {pair!r}; write it so.")
        options[option] = _value(option, text, known.get(option))
    if known.get("root") is inspect.Parameter.empty and "root" not in options:
        raise DatasetError(f"expected the folder of {card_of(name).title}, found none; add --root PATH.")
    console = Console(stderr=True)
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Looking at {name}", total=None)
        path = build_dataset(
            name,
            options,
            image_size=arguments.size,
            channels=arguments.channels,
            cache=_absolute(arguments.cache),
            progress=lambda done, total: progress.update(
                task, description=f"Reading {name}", completed=done, total=total
            ),
        )
    faces = FaceSet.open(path)
    summary = path.with_suffix(".md")
    print(
        summary.read_text("utf-8") if summary.is_file() else f"{len(faces)} images, fingerprint {faces.fingerprint}.\n"
    )
    for suffix in (".arrow", ".md", ".csv", ".png"):
        if path.with_suffix(suffix).is_file():
            print(path.with_suffix(suffix))


def _absolute(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetError(f"expected a path, found {str(path)[:100]!r}: {str(error).rstrip('.')}; mend it.") from error


def _value(option: str, text: str, default: Any) -> Any:
    """The text of an option as a value of its default's kind."""
    words, read = _KINDS.get(type(default), ("a text", str))
    try:
        return read(text)
    except (ValueError, KeyError) as error:
        raise DatasetError(f"expected {option} to be {words}, found {text!r}; write {option}={default}.") from error


def _print_list() -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 140
    table = Table("name", "images", "subjects", "classes", "folds", "how to get it")
    for name in dataset_names():
        card = card_of(name)
        cells = (card.images, card.subjects, len(card.classes) or None)
        images, subjects, classes = ("open" if value is None else str(value) for value in cells)
        folds = "one a subject" if card.folds is None else f"{card.folds} {card.fold_rule}"
        table.add_row(name, images, subjects if card.identities else "unknown", classes, folds, card.obtain)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
