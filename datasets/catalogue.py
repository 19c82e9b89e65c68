"""Catalogue: what README.md of this folder says of each data set, written from the cards, so that the two cannot part.

python -m datasets.catalogue    writes the README anew where a card, a class or an option has changed
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from datasets import COMMON, dataset_names, dataset_options
from datasets.card import Card, card_of

README = Path(__file__).resolve().parent / "README.md"
_COUNTED = {"contiguous": "{} folds of people", "balanced": "{} folds of people, classes even"}
_RULES = {"official": "the official parts", "leave_one_out": "a fold a person"}


def filled(text: str) -> str:
    """The README with everything between its marks as the cards have it."""
    for part, lines in (("table", table()), ("sets", sets())):
        begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
        before, _, rest = text.partition(begin)
        inside = "\n".join(lines).rstrip("\n")
        text = f"{before}{begin}\n{inside}\n{end}{rest.partition(end)[2]}"
    return text


def table() -> Iterator[str]:
    """A row for each data set."""
    yield "| `dataset=` | name | classes | images | people | protocol | terms | how to get it |"
    yield "|---|---|---:|---:|---:|---|---|---|"
    for name in dataset_names():
        card = card_of(name)
        people = "unknown" if not card.identities else _count(card.subjects)
        cells = (f"[`{name}`](#{name})", card.title, _count(len(card.classes) or None), _count(card.images), people)
        yield f"| {' | '.join((*cells, protocol(card), _phrase(card.terms), _phrase(card.obtain)))} |"


def protocol(card: Card) -> str:
    """How the field splits a data set, and what it reports where that is not the accuracy of images."""
    words = _RULES.get(card.fold_rule) or _COUNTED[card.fold_rule].format(card.folds)
    return words if card.metric == "test_accuracy" else f"{words}; `{card.metric}`"


def sets() -> Iterator[str]:
    """A section for each data set: what it is, its classes in their order, its layout, its options."""
    for name in dataset_names():
        card = card_of(name)
        yield f"### {name}\n"
        yield f"{card.title}. {card.description}"
        yield f"Classes, in the order of their labels: {', '.join(card.classes)}.\n" if card.classes else ""
        if card.layout:
            yield "\n".join(("```text", *card.layout, "```\n"))
        yield from _options(name)
        if card.people:  # Else nobody has published it.
            yield f"Cite: {card.source.rstrip('.')}.\n"


def _options(name: str) -> Iterator[str]:
    """A line for each option of its own, in the words of its module."""
    module = importlib.import_module(f"datasets.{name}")
    meanings = _arguments(getattr(module, "scan", None) or module.prepare)
    own = {option: value for option, value in dataset_options(name).items() if option not in ("root", *COMMON)}
    for option, value in own.items():
        yield f"- `{option}={str(value).lower() if isinstance(value, bool) else value}`: {meanings[option]}"
    if own:
        yield ""


def _arguments(function: object) -> dict[str, str]:
    """The words after each name below "Args:" in a docstring, without the tags that say where a count comes from."""
    text = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    found = re.findall(r"(?m)^    (\w+): (.*(?:\n {8}.*)*)", text)
    return {argument: re.sub(r" \[[A-Z](: [^]]*)?]", "", " ".join(words.split())) for argument, words in found}


def _phrase(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")


def _count(number: int | None) -> str:
    return "open" if number is None else f"{number:,}"


def main() -> None:
    """Write the README anew."""
    README.write_text(filled(README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
