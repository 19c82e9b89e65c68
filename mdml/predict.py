"""Class probabilities of images, by an exported model.

    python study/run.py --export KEY --output DIR
    python -m mdml.predict --model DIR IMAGE... [--format table|json] [--device cpu|cuda]

An image is turned as its EXIF orientation says, scaled so that its short side fits and cut to the central square, as in
dataset=folder: show it faces that are cut out as those were that the model was trained on. Exit status: 0 done, 2 bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from mdml.description import Description
from mdml.errors import MethodError
from mdml.exported import Exported, load
from mdml.methods import method_class
from mdml.picture import read_picture
from mdml.train import NUMERICS

BATCH = 64  # images decoded at a time


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise MethodError(f"{message[0].upper()}{message[1:]}. See python -m mdml.predict --help.")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    try:
        given = _parse(sys.argv[1:] if arguments is None else arguments)
        model = load(given.model, given.device)
        _warn(model.description)
        rows = predict(model, given.images, given.device)
    except MethodError as error:
        print(_printable(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    print(json.dumps(rows, indent=1) if given.format == "json" else _table(rows, model.description.classes))
    return 0


def predict(model: Exported, images: Sequence[Path], device: str = "cpu") -> list[dict[str, Any]]:
    """One row an image: `image`, its `prediction`, and the `probabilities` by class, which sum to 1.

    Of classes that are equally probable, the first is the prediction.

    Raises:
        MethodError: for the first image that cannot be read.

    """
    what, rows = model.description, []
    for start in range(0, len(images), BATCH):
        files = images[start : start + BATCH]
        pixels = torch.stack([read_picture(file, what.image_size, what.channels) for file in files])
        scores = model.probabilities(pixels.to(device))
        for file, best, row in zip(files, scores.argmax(1).tolist(), scores.tolist(), strict=True):
            named = dict(zip(what.classes, row, strict=True))
            rows.append({"image": str(file), "prediction": what.classes[best], "probabilities": named})
    return rows


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m mdml.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="folder of an exported model")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="of what is printed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    parser.add_argument("images", nargs="+", metavar="IMAGE", type=Path, help="PNG, JPEG, TIFF, BMP or WEBP")
    given = parser.parse_intermixed_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise MethodError("Expected a GPU for --device cuda, found none: leave --device out.")
    return given


def _warn(what: Description) -> None:
    if what.aligned:
        print(
            "The model was trained on aligned faces: images are not aligned here, so show it aligned ones.",
            file=sys.stderr,
        )
    now = f"{NUMERICS}.{method_class(what.method).numerics}"
    if now != what.numerics:
        print(
            f"The model was trained by numerics {what.numerics} and this code has {now}: probabilities may differ from the trial's.",
            file=sys.stderr,
        )


def _table(rows: Sequence[dict[str, Any]], classes: Sequence[str]) -> str:
    cells = [["image", "prediction", *map(_printable, classes)]]
    for row in rows:
        words = [_printable(row["image"]), _printable(row["prediction"])]
        cells.append(words + [f"{row['probabilities'][name]:.3f}" for name in classes])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            word.ljust(w) if i < 2 else word.rjust(w) for i, (word, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def _printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


if __name__ == "__main__":
    sys.exit(main())
