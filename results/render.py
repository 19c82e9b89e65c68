"""A table of plain values as text: for terminals, Markdown, LaTeX, CSV and JSON."""

import base64
import csv
import datetime
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

FORMATS = ("table", "csv", "json", "md", "latex")


@dataclass(frozen=True)
class Table:
    """Columns and rows of plain values, for CSV and JSON, and what people are shown of them in the other formats.

    `shown` is a header and rows of text; None shows the values, floats rounded. The caption is for people, too.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    caption: str = ""
    shown: tuple[tuple[str, ...], list[tuple[str, ...]]] | None = None

    def for_people(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and rows as text."""
        return self.shown or (self.columns, [tuple(text(value) for value in row) for row in self.rows])


def render(table: Table, format: str) -> str:  # noqa: A002 - the name of the command's option
    """The table as text in one of FORMATS, ending in a newline.

    Raises:
        KeyError: there is no such format.

    """
    renderers: dict[str, Callable[[Table], str]] = {
        "table": _terminal, "csv": _csv, "json": _json, "md": _markdown, "latex": _latex,
    }  # fmt: skip
    return renderers[format](table)


def text(value: Any) -> str:
    """A value as people read it: 4 digits of a float, a list in brackets, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(f"{item:g}" if isinstance(item, float) else text(item) for item in value) + "]"
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
    return str(value)


def number(value: float) -> str:
    """A float in 4 decimals where that says enough, else in 4 significant digits."""
    if not math.isfinite(value) or (value == int(value) and abs(value) < 1e15):
        return f"{value:.0f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.4g}" if abs(value) < 1 else f"{value:.1f}"


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers, text, lists, ISO 8601 for times, base64 for bytes; null for what is not a number."""
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (str, int)) else str(value)


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        cells = [plain(value) for value in row]
        writer.writerow([json.dumps(c) if isinstance(c, (list, dict, bool)) else c for c in cells])
    return out.getvalue()


def _json(table: Table) -> str:
    names = table.columns
    records = [dict(zip(names, (plain(value) for value in row), strict=True)) for row in table.rows]
    return json.dumps(records, indent=2, ensure_ascii=False) + "\n"


def _numeric(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column is aligned as numbers: every cell is empty or starts like one."""
    cells = [row[column] for row in rows if row[column]]
    return bool(cells) and all(cell.lstrip("+-−<[")[:1].isdigit() for cell in cells)


def _markdown(table: Table) -> str:
    header, rows = table.for_people()

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", "<br>") for c in cells) + " |\n"

    rule = "|" + "|".join("---:" if _numeric(rows, i) else "---" for i in range(len(header))) + "|\n"
    return line(header) + rule + "".join(map(line, rows)) + (f"\n{table.caption}\n" if table.caption else "")


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "†": r"\dag{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "\n": " ",
}  # fmt: skip


def _latex(table: Table) -> str:
    header, rows = table.for_people()

    def line(cells: Sequence[str]) -> str:
        # Braces keep a cell that begins with a bracket from being read as the option of the line break before it.
        escaped = ("".join(LATEX.get(character, character) for character in cell) for cell in cells)
        return " & ".join("{" + c + "}" if c.startswith("[") else c for c in escaped) + " \\\\\n"

    columns = "".join("r" if _numeric(rows, i) else "l" for i in range(len(header)))
    body = f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{line(header)}\\midrule\n"
    body += "".join(map(line, rows)) + "\\bottomrule\n\\end{tabular}\n"
    if not table.caption:
        return body
    caption = "".join(LATEX.get(character, character) for character in table.caption)
    return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{body}\\end{{table}}\n"


def _terminal(table: Table) -> str:
    from rich.console import Console  # here, as no other format needs it
    from rich.table import Table as RichTable
    from rich.text import Text

    header, rows = table.for_people()
    grid = RichTable(
        header_style="bold", caption=Text(table.caption) if table.caption else None, caption_justify="left"
    )
    for index, name in enumerate(header):
        grid.add_column(Text(name), justify="right" if _numeric(rows, index) else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    out = io.StringIO()
    real = Console()
    # A pipe has no width: there, every column gets the room that it needs.
    width = real.width if real.is_terminal else max(80, Console(width=100_000).measure(grid).maximum)
    Console(file=out, width=width, force_terminal=real.is_terminal, no_color=not real.is_terminal).print(grid)
    return out.getvalue()
