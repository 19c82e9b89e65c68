"""A table of plain values for terminals, Markdown, LaTeX, HTML, CSV, JSON and Parquet."""

import base64
import csv
import datetime
import html
import io
import json
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

FORMATS = ("table", "csv", "json", "md", "latex", "html", "parquet")
Place = tuple[int, int]  # line and column of what people are shown, without the header


@dataclass(frozen=True)
class Table:
    """Columns and rows of plain values, for CSV and JSON, and what people are shown of them in the other formats.

    `shown` is a header and rows of text; None shows the values, floats rounded. The caption is for people, too. Cells that are `marked`
    stand out: bold, or with a star in plain text. `keys` are the trials that a cell was computed from; HTML has them in `data-trials`, and
    the values in a column of their own. `types` are those of columns that may be empty, for Parquet: str, float, or [str] for lists.
    `picture` draws what the table says as SVG, where it can be drawn.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    caption: str = ""
    shown: tuple[tuple[str, ...], list[tuple[str, ...]]] | None = None
    marked: frozenset[Place] = frozenset()
    keys: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    picture: Callable[[], str] | None = field(default=None, compare=False)

    def for_people(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and rows as text."""
        return self.shown or (self.columns, [tuple(text(value) for value in row) for row in self.rows])


def render(table: Table, format: str) -> str:  # noqa: A002 - the name of the command's option
    """The table as text in one of FORMATS, parquet apart, ending in a newline.

    Raises:
        KeyError: there is no such format.

    """
    renderers: dict[str, Callable[[Table], str]] = {
        "table": _terminal, "csv": _csv, "json": _json, "md": _markdown, "latex": _latex, "html": _html,
    }  # fmt: skip
    return renderers[format](table)


def encode(table: Table, format: str) -> bytes:  # noqa: A002 - the name of the command's option
    """The table as the bytes of a file in one of FORMATS.

    Raises:
        KeyError: there is no such format.

    """
    return _parquet(table) if format == "parquet" else render(table, format).encode()


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


def _parquet(table: Table) -> bytes:
    """Columns of the types of their values; JSON where these have no common one, and for mappings."""
    import pyarrow as pa
    from pyarrow import parquet

    known = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    arrays = []
    for place, name in enumerate(table.columns):
        values = [row[place] for row in table.rows]
        kind: Any = table.types.get(name)
        try:
            array = pa.array(values, pa.list_(known[kind[0]]) if isinstance(kind, list) else known.get(kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            array = None
        if array is None or pa.types.is_struct(array.type):
            array = pa.array([None if value is None else json.dumps(plain(value)) for value in values], pa.string())
        arrays.append(array)
    found = pa.Table.from_arrays(arrays, names=list(table.columns))
    out = io.BytesIO()
    parquet.write_table(found.replace_schema_metadata({"caption": table.caption}), out)
    return out.getvalue()


def _html(table: Table) -> str:
    """A table element, to be put into any page; numbers are of the class n."""
    header, rows = table.for_people()
    kinds = [' class="n"' if _numeric(rows, i) else "" for i in range(len(header))]

    def cell(line: int, column: int, value: str) -> str:
        text = html.escape(value).replace("\n", "<br>")
        if (line, column) in table.marked:
            text = f"<strong>{text}</strong>"
        keys = table.keys.get((line, column))
        trials = f' data-trials="{html.escape(" ".join(keys))}"' if keys else ""
        return f'<th scope="row">{text}</th>' if column == 0 else f"<td{kinds[column]}{trials}>{text}</td>"

    names = [f'<th scope="col"{kind}>{html.escape(name)}</th>' for name, kind in zip(header, kinds, strict=True)]
    head = f"<thead><tr>{''.join(names)}</tr></thead>\n"
    body = [
        f"<tr>{''.join(cell(line, column, value) for column, value in enumerate(row))}</tr>\n"
        for line, row in enumerate(rows)
    ]
    caption = f"<caption>{html.escape(table.caption)}</caption>\n" if table.caption else ""
    return f"<table>\n{caption}{head}<tbody>\n{''.join(body)}</tbody>\n</table>\n"


def _numeric(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column is aligned as numbers: every cell is empty or starts like one."""
    cells = [row[column] for row in rows if row[column]]
    return bool(cells) and all(cell.lstrip("+-−<[")[:1].isdigit() for cell in cells)


def _markdown(table: Table) -> str:
    header, rows = table.for_people()

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", "<br>") for c in cells) + " |\n"

    rule = "|" + "|".join("---:" if _numeric(rows, i) else "---" for i in range(len(header))) + "|\n"
    bold = _with_marks(table, rows, lambda cell: f"**{cell}**")
    return line(header) + rule + "".join(map(line, bold)) + (f"\n{table.caption}\n" if table.caption else "")


def _with_marks(table: Table, rows: Sequence[Sequence[str]], mark: Callable[[str], str]) -> list[list[str]]:
    """The rows with what stands out marked."""
    return [
        [mark(cell) if cell and (place, column) in table.marked else cell for column, cell in enumerate(row)]
        for place, row in enumerate(rows)
    ]


_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi - pi rho - sigma tau upsilon phi chi psi omega"
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "†": r"\dag{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$", "|": r"\textbar{}",
    "–": "--", "—": "---", "…": r"\ldots{}", "‘": "`", "’": "'", "“": "``", "”": "''", "\n": " ", "\t": " ",
    **{chr(0x3B1 + i): rf"$\{name}$" for i, name in enumerate(_GREEK.split()) if name != "-"},
}  # fmt: skip


# Accents and letters that LaTeX's first fonts have.
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
_LETTERS = "ßæÆøØœŒłŁ"


def _escaped(text: str) -> str:
    """Text that pdfLaTeX takes as it stands; a letter that its fonts lack is named by its number, as in U+5E74."""

    def known(character: str) -> bool:
        parts = unicodedata.normalize("NFD", character)
        accented = character < "\u0180" and len(parts) == 2 and parts[1] in _ACCENTS
        return " " <= character <= "~" or accented or character in _LETTERS

    return "".join(LATEX.get(c) or (c if known(c) else rf"\texttt{{U+{ord(c):04X}}}") for c in text)


def _latex(table: Table) -> str:
    header, rows = table.for_people()

    def line(cells: Sequence[str], place: int = -1) -> str:
        # Braces keep a cell that begins with a bracket from being read as the option of the line break before it.
        escaped = map(_escaped, cells)
        braced = ["{" + c + "}" if c.startswith("[") else c for c in escaped]
        bold = [f"\\textbf{{{c}}}" if (place, i) in table.marked else c for i, c in enumerate(braced)]
        return " & ".join(bold) + " \\\\\n"

    columns = "".join("r" if _numeric(rows, i) else "l" for i in range(len(header)))
    body = f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{line(header)}\\midrule\n"
    body += "".join(line(row, place) for place, row in enumerate(rows)) + "\\bottomrule\n\\end{tabular}\n"
    if not table.caption:
        return body
    caption = _escaped(table.caption)
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
    for row in _with_marks(table, rows, lambda cell: f"{cell}*"):
        grid.add_row(*(Text(cell) for cell in row))
    out = io.StringIO()
    real = Console()
    # A pipe has no width: there, every column gets the room that it needs.
    width = real.width if real.is_terminal else max(80, Console(width=100_000).measure(grid).maximum)
    Console(file=out, width=width, force_terminal=real.is_terminal, no_color=not real.is_terminal).print(grid)
    return out.getvalue()
