"""Pieces of a page as text; every piece of data goes through `esc` on its way in."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from results.render import Table

# What HTML cannot hold, and what turns the direction of the text around it.
FEW = 12  # keys that are named where the pointer rests
_STRANGE = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), 127, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd"
)


def esc(value: Any) -> str:
    """A value as text that cannot be taken for markup, inside an element or an attribute."""
    return html.escape(str(value).translate(_STRANGE), quote=True)


def short(value: Any, most: int = 40) -> str:
    """At most `most` characters of a value, escaped."""
    text = str(value)
    return esc(text if len(text) <= most else text[: most - 1] + "…")


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 trial, 2 trials."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def paragraph(text: str, kind: str = "note") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{esc(text)}</p>'


def missing(text: str) -> str:
    """The one sentence that stands where something is not there."""
    return paragraph(text, "missing")


def details(summary: str, body: str, is_open: bool = False) -> str:
    """A part that is folded away; `body` is markup."""
    return f"<details{' open' if is_open else ''}><summary>{esc(summary)}</summary>\n{body}</details>\n"


def figure(caption: str, body: str, legend: str = "") -> str:
    """A figure that the keyboard reaches; `body` and `legend` are markup."""
    return f'<figure tabindex="0" aria-label="{esc(caption)}">\n{legend}{body}<figcaption>{esc(caption)}</figcaption></figure>\n'


def panels(charts: Sequence[str], wide: bool = False) -> str:
    """Charts beside each other, as many as there is room for."""
    kind = " wide" if wide else " one" if len(charts) == 1 else ""
    return f'<div class="panels{kind}">\n{"".join(charts)}</div>\n'


def scroll(label: str, body: str) -> str:
    """A box that scrolls where it is too narrow for `body`, and that the keyboard reaches."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(label)}">{body}</div>\n'


def table(found: Table, caption: str, sortable: bool = True) -> str:
    """A table with a caption, in a box that scrolls; its first column names the row, and what is marked stands out.

    A cell that was computed from trials names them where the pointer rests on it; the first such cell of a line, and each that was
    computed from others, can be unfolded to show their keys.
    """
    header, rows = found.for_people()
    numbers = [_numeric(row[place] for row in rows) for place in range(len(header))]
    classes = [' class="n"' if numeric else "" for numeric in numbers]
    head = "".join(f'<th scope="col"{kind}>{esc(name)}</th>' for name, kind in zip(header, classes, strict=True))
    lines = []
    for line, row in enumerate(rows):
        texts = [
            f"<strong>{esc(cell)}</strong>" if (line, i) in found.marked else esc(cell) for i, cell in enumerate(row)
        ]
        told: set[tuple[str, ...]] = set()
        cells = []
        for place, (cell, kind) in enumerate(zip(texts[1:], classes[1:], strict=True), 1):
            keys = found.keys.get((line, place), ()) if cell else ()
            title = f' title="{esc(_briefly(keys))}"' if keys else ""
            if keys and keys not in told:
                listed = "<br>".join(map(esc, keys))
                cell = (
                    f'<details class="cell"><summary{title}>{cell}</summary><div class="keys">{listed}</div></details>'
                )
                title = ""
            told.add(keys)
            cells.append(f"<td{kind}{title}>{cell}</td>")
        lines.append(f'<tr><th scope="row"{classes[0]}>{texts[0]}</th>{"".join(cells)}</tr>\n')
    kind = ' class="sortable"' if sortable and len(rows) > 2 else ""
    body = f"<table{kind}><caption>{esc(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody></table>"
    return scroll(caption, body)


def _briefly(keys: Sequence[str]) -> str:
    """How many trials, and how the keys of the first ones begin."""
    begun = " ".join(key[:12] for key in keys[:FEW])
    return f"{count(len(keys), 'trial')}: {begun}{' …' if len(keys) > FEW else ''}"


def _numeric(cells: Iterable[str]) -> bool:
    found = [cell for cell in cells if cell]
    return bool(found) and all(cell.lstrip("+-−<[≥")[:1].isdigit() for cell in found)
