"""Diagnostics of the slices: how many triplets still teach, how many are judged incompletely, and where each slice ends."""

from collections import defaultdict
from statistics import fmean

from results.page.found import Found, Row
from results.page.markup import details, figure, missing, panels, table
from results.page.svg import Chart, bounds, legend, ramp, series
from results.render import Table

RATES = {
    "active_rate": ("active", "anchors that have a loss"),
    "incomplete_rate": (
        "incomplete",
        "anchors that are judged incompletely: no loss, yet the positive is farther than the negative",
    ),
}
LAST = ("threshold", "metric_loss", "active_rate", "incomplete_rate", "flip_rate", "spread", "inter_distance", "intra_distance",
        "knn_accuracy", "population_incomplete_rate")  # fmt: skip
TOGETHER, OPEN_ROWS = 8, 14
Means = dict[tuple[int, int], dict[str, float | None]]  # (slice, epoch) -> column -> mean over trials


def diagnostics(found: Found) -> str:
    """A figure a rate with one line a slice, and where each slice stands after the last epoch."""
    rows = found.read_by_trial("slices", ["epoch", "slice", *LAST])
    means = {arm: _means([row for key in keys for row in rows.get(key, ())]) for arm, keys in found.arms.items()}
    means = {arm: one for arm, one in means.items() if one}
    if not means:
        return missing("No arm has slices with a threshold.")
    lines = []
    for arm, one in means.items():
        last = max(epoch for _, epoch in one)
        lines += [
            (arm, place + 1, *(values[name] for name in LAST))
            for (place, epoch), values in sorted(one.items())
            if epoch == last
        ]
    titles = ("arm", "slice", *(name.replace("_", " ") for name in LAST))
    numbers = table(Table(titles, lines), "Each slice after the last epoch, mean over folds and seeds")
    if len(lines) > OPEN_ROWS:
        numbers = details(f"Each slice after the last epoch ({len(lines)} slices)", numbers)
    return "".join(_figure(name, label, meaning, means) for name, (label, meaning) in RATES.items()) + numbers


def _means(rows: list[Row]) -> Means:
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["slice"], row["epoch"]].append(row)
    return {place: {name: _mean(some, name) for name in LAST} for place, some in sorted(groups.items())}


def _mean(rows: list[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return fmean(values) if values else None


def _figure(name: str, label: str, meaning: str, means: dict[str, Means]) -> str:
    lines = {
        arm: {
            place: [(epoch, one[place, epoch][name]) for s, epoch in one if s == place]
            for place in sorted({s for s, _ in one})
        }
        for arm, one in means.items()
    }
    single = {arm: curves[0] for arm, curves in lines.items() if len(curves) == 1 and 0 in curves}
    charts = []
    arms = list(single)
    for start in range(0, len(arms), TOGETHER):
        some = arms[start : start + TOGETHER]
        entries = [(f"{series(place)}", arm, single[arm]) for place, arm in enumerate(some)]
        charts.append(_chart("Arms of one slice", label, entries))
    for arm, curves in lines.items():
        if arm not in single:
            entries = []
            for number, (place, curve) in enumerate(curves.items()):
                tau = means[arm][place, curve[-1][0]]["threshold"]
                called = f"{place + 1}" + ("" if tau is None else f": {tau:g}")
                entries.append((ramp(number, len(curves)), called, curve))
            charts.append(_chart(arm, label, entries))
    charts = [chart for chart in charts if chart]
    if not charts:
        return missing(f"No slice has its share of {meaning.split(':')[0]}.")
    return figure(
        f"{label.capitalize()}: share of {meaning}. By epoch, mean over folds and seeds; one line a slice, with its threshold.",
        panels(charts),
    )


def _chart(title: str, label: str, entries: list[tuple[str, str, list[tuple[int, float | None]]]]) -> str:
    known = [
        (kind, name, [(epoch, value) for epoch, value in curve if value is not None]) for kind, name, curve in entries
    ]
    known = [entry for entry in known if entry[2]]
    if not known:
        return ""
    values = [value for _, _, curve in known for _, value in curve]
    last = max(epoch for _, _, curve in known for epoch, _ in curve)
    ends = "; ".join(f"{name}: {curve[-1][1]:.3f}" for _, name, curve in known)
    chart = Chart(title, f"{label} after the last epoch: {ends}.", height=190)
    chart.spanned((1, max(2, last)), bounds([0.0, *values], fraction=True)).axes("epoch", label, whole=True)
    for kind, name, curve in known:
        chart.line(curve, f"line {kind}", name)
    drawn = chart.svg(heading=True)
    return drawn.replace("</div>\n", legend([(kind, "line", name) for kind, name, _ in known]) + "</div>\n")
