"""The metric of the arms: means with their intervals, against the threshold, and against the number of slices."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from results.page.found import Found, Row
from results.page.markup import count, details, figure, missing, panels, paragraph, short, table
from results.page.svg import MARKERS, Chart, Scale, bounds, digits, legend, marker_path, series
from results.tables import Table
from results.wording import digits as digits_of

STEP, OTHERS = 34.0, 3
Point = tuple[float, Row]  # where along x, row of the comparison table


def the_table(found: Found) -> str:
    """The table of the study, its means as a figure, and the trials that each row stands for."""
    parts = [table(found.table, f"{'The best trials' if found.searches else 'The arms'} of {found.name}")]
    parts.append(paragraph(found.table.caption))
    if found.table.keys:
        parts.append(paragraph("What is underlined unfolds to the keys of the trials that it was computed from."))
    if found.compared:
        parts.append(
            figure(
                f"Mean {found.words} and its 95 % interval, cut at the edge of the figure; the dashed line is {found.baseline}.",
                panels([_means(found)]),
            )
        )
    return "".join(parts) + _trials(found)


def against_threshold(found: Found) -> str:
    """Arms of one threshold along it, the others as levels; of a search its trials."""
    if found.searches:
        return _scattered(
            found, "threshold", lambda row: row["thresholds"][0] if len(row["thresholds"] or ()) == 1 else None
        )
    lines: dict[str, list[Point]] = defaultdict(list)
    others = []
    for row, trial in _with_trial(found):
        if len(trial["thresholds"] or ()) == 1:
            lines[_called(trial)].append((trial["thresholds"][0], row))
        else:
            others.append(row)
    lines = {name: points for name, points in lines.items() if len({x for x, _ in points}) > 1}
    if not lines:
        return missing("There are no arms that differ in a single threshold.")
    sign = -1 if found.rows.less_is_better else 1
    others.sort(key=lambda row: (row["arm"] != found.baseline, -sign * row["mean"]))
    return _lines(found, lines, "threshold", others[:OTHERS])


def against_slices(found: Found) -> str:
    """Arms along their number of slices, one line where slices are equally wide and one where the whole is."""
    if found.searches:
        return _scattered(found, "slices", lambda row: row["slices"] if row["thresholds"] else None)
    lines: dict[str, list[Point]] = defaultdict(list)
    for row, trial in _with_trial(found):
        if trial["thresholds"] and trial["slices"]:
            same = ", one threshold for all" if trial["slices"] > 1 and len(set(trial["thresholds"])) == 1 else ""
            for width, each in (("slice_dim", "a slice"), ("embedding_dim", "in all")):
                name = f"{trial['form'] or trial['method']}, {trial[width]} dimensions {each}{same}"
                lines[name].append((trial["slices"], row))
    drawn: dict[str, list[Point]] = {}
    for name, points in lines.items():
        if len({x for x, _ in points}) > 1 and points not in drawn.values():
            drawn[name] = points
    return (
        _lines(found, drawn, "slices", [])
        if drawn
        else missing("There are no arms that differ in their number of slices.")
    )


def _means(found: Found) -> str:
    """One line an arm: its name, its mean and its interval."""
    rows = found.compared
    ends = [row[end] for row in rows for end in ("low", "mean", "high") if row[end] is not None]
    height = STEP * len(rows) + 52
    chart = Chart(
        f"{found.words}, mean and 95 % interval", "; ".join(_sentence(found, row) for row in rows) + ".", height=height
    ).spanned(bounds(ends, found.fraction), (0, 1))
    chart.x = Scale(chart.x.low, chart.x.high, 12, chart.width - 12)
    bottom = height - 38
    for value in chart.x.ticks(6):
        chart.rule(chart.x(value), 6, chart.x(value), bottom, "grid")
        chart.text(chart.x(value), bottom + 14, digits(value), "tick", "middle")
    chart.text(chart.width / 2, height - 6, found.words, "label", "middle")
    for row in rows:
        if row["arm"] == found.baseline:
            chart.rule(chart.x(row["mean"]), 6, chart.x(row["mean"]), bottom, "reference")
    for place, row in enumerate(rows):
        y = STEP * place + 20
        n = f"{row['n']} of {row['planned']}" if row["n"] != row["planned"] else row["n"]
        chart.text(12, y, f"{row['arm']}{' †' if 'paper' in row['protocol'] else ''} (n = {n})", "name halo", most=46)
        if row["low"] is not None:
            chart.rule(chart.x(row["low"]), y + 9, chart.x(row["high"]), y + 9, "interval s0")
        hollow = " hollow" if "paper" in row["protocol"] else ""
        chart.parts.append(
            f'<path class="dot s0{hollow}" d="M{chart.x(row["mean"]):.1f} {y + 9:.1f}{marker_path("o")}">'
            f"<title>{short(_sentence(found, row), 200)}</title></path>"
        )
    return chart.svg()


def _lines(found: Found, lines: dict[str, list[Point]], label: str, levels: Sequence[Row]) -> str:
    """Lines through the means of arms, with their intervals, and levels of arms that have no place along x."""
    rows = [row for points in lines.values() for _, row in points]
    ends = [row[end] for row in (*rows, *levels) for end in ("low", "mean", "high") if row[end] is not None]
    xs = sorted({x for points in lines.values() for x, _ in points})
    chart = Chart(
        f"{found.words} against {label}",
        "; ".join(dict.fromkeys(_sentence(found, row) for row in (*rows, *levels))) + ".",
        height=250,
    )
    chart.spanned(bounds(xs), bounds(ends, found.fraction))
    chart.axes(label, found.words, ticks=xs if len(xs) <= 8 else ())
    keys = []
    air = (chart.x.high - chart.x.low) * 0.012
    for place, (name, points) in enumerate(lines.items()):
        kind, marker = series(place), MARKERS[place % len(MARKERS)]
        shift = (place - (len(lines) - 1) / 2) * air  # so that intervals at one place can be told apart
        points = sorted(((x + shift, row) for x, row in points), key=lambda point: (point[0], point[1]["arm"]))
        if len({x for x, _ in points}) == len(points):
            chart.line([(x, row["mean"]) for x, row in points], f"line {kind}")
        for x, row in points:
            if row["low"] is not None:
                chart.rule(chart.x(x), chart.y(row["low"]), chart.x(x), chart.y(row["high"]), f"interval {kind}")
            chart.dot(x, row["mean"], f"dot {kind}", marker, _sentence(found, row))
        keys += [(kind, "line", name)] if len(lines) == 1 else [(kind, marker, name)]
    for place, row in enumerate(levels, len(lines)):
        chart.rule(chart.x.start, chart.y(row["mean"]), chart.x.end, chart.y(row["mean"]), f"line {series(place)}")
        keys.append((series(place), "line", f"{row['arm']} (its mean)"))
    caption = f"Mean {found.words} of the arms against {label}; bars are the 95 % intervals of the table, cut at the edge of the figure."
    return figure(caption, panels([chart.svg()]), legend(keys))


def _scattered(found: Found, label: str, where: Callable[[Row], float | None]) -> str:
    """The trials of a search, one dot each, by form or method."""
    points = [(where(row), row) for row in found.trials if row["status"] == "done" and row[found.metric] is not None]
    placed = [(x, row) for x, row in points if x is not None]
    if len({x for x, _ in placed}) < 2:
        return missing(
            f"No two trials that are done differ in {'their number of slices' if label == 'slices' else 'a single threshold'}."
        )
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for x, row in placed:
        groups[_called(row)].append((x, row[found.metric]))
    values = [row[found.metric] for _, row in placed]
    chart = Chart(
        f"{found.words} against {label}",
        f"{count(len(placed), 'trial')}, from {min(values):.3f} to {max(values):.3f}.",
    ).spanned(bounds(x for x, _ in placed), bounds(values, found.fraction))
    chart.axes(label, found.words, whole=label == "slices")
    keys = []
    for place, (name, dots) in enumerate(sorted(groups.items())):
        for x, y in sorted(dots):
            chart.dot(x, y, f"dot {series(place)}", MARKERS[place % len(MARKERS)])
        keys.append((series(place), MARKERS[place % len(MARKERS)], name))
    return figure(
        f"Each trial that is done: {found.words} against {label}. A search changes other things at once.",
        panels([chart.svg()]),
        legend(keys),
    )


def _trials(found: Found) -> str:
    """Which trials each row of the table stands for."""
    lines = []
    for member in found.rows.members:
        row = found.rows.trials.get(member["trial_key"], {})
        lines.append((member["arm"], member["fold"], member["seed"], row.get("status", "not done"), row.get(found.metric),
                      row.get("epochs"), row.get("seconds"), member["trial_key"]))  # fmt: skip
    columns = ("arm", "fold", "seed", "status", found.words, "epochs", "seconds", "trial key")
    shown = found.rows.members and details(
        f"Every trial ({len(lines)})", table(Table(columns, lines), f"The trials of {found.name}")
    )
    return shown or missing("No trial is planned yet.")


def _with_trial(found: Found) -> list[tuple[Row, Row]]:
    """Each row of the comparison with a trial of its arm that is done."""
    pairs = []
    for row in found.compared:
        # A level of what is measured in every trial, such as K, is no arm.
        keys = [key for key in found.arms.get(row["arm"], ()) if found.rows.trials.get(key, {}).get("status") == "done"]
        pairs += [(row, found.rows.trials[keys[0]])] if keys else []
    return pairs


def _called(trial: Row) -> str:
    return f"{trial['method']}, {trial['form']}" if trial["form"] else str(trial["method"])


def _sentence(found: Found, row: Row) -> str:
    low, mean, high = (digits_of(row[end], found.metric) for end in ("low", "mean", "high"))
    return f"{row['arm']}: {mean}{f' [{low}, {high}]' if low else ''}, n = {row['n']}"
