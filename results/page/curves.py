"""Learning curves: of an ablation the mean of each arm with its interval, of a search every trial."""

import math
from collections import defaultdict
from collections.abc import Sequence

from results.page.found import Found, words
from results.page.markup import count, details, figure, missing, panels, paragraph
from results.page.svg import Chart, bounds, legend, series
from results.stats import Place

TOGETHER, MOST = 4, 200
Curve = list[tuple[int, float]]  # epoch, value
Band = list[tuple[int, float, float | None, float | None]]  # epoch, mean, low, high
MEASURES = (("val_accuracy", "test_accuracy", "train_accuracy"), ("train_loss",))


def learning_curves(found: Found) -> str:
    """The accuracy by epoch, on what the study has, and the training loss."""
    rows = found.read_by_trial("epochs", ["epoch", *(name for names in MEASURES for name in names)])
    drawn = []
    for names in MEASURES:
        for name in names:
            curves = {
                key: sorted(
                    (row["epoch"], row[name]) for row in some if row[name] is not None and math.isfinite(row[name])
                )
                for key, some in sorted(rows.items())
            }
            if curves := {key: curve for key, curve in curves.items() if curve}:
                drawn.append((_search if found.searches else _arms)(found, name, curves))
                break
    # Of many arms the first figure is long enough.
    folded = [details("The training loss", more) if len(found.arms) > TOGETHER else more for more in drawn[1:]]
    return "".join([*drawn[:1], *folded]) or missing("No trial has curves yet.")


def _arms(found: Found, name: str, curves: dict[str, Curve]) -> str:
    """Up to four arms in one panel; more have one each, with the others behind."""
    bands, counts = {}, {}
    for arm, places in found.arms.items():
        if mine := [(place, curves[key]) for key, place in places.items() if key in curves]:
            bands[arm], counts[arm] = band(found, mine), len(mine)
    fraction = name.endswith("accuracy")
    values = [
        value
        for one in bands.values()
        for _, mean, low, high in one
        for value in (mean, low, high)
        if value is not None
    ]
    means = [mean for one in bands.values() for _, mean, _, _ in one]
    # An interval over two folds may be wider than all that happens: it is cut where it says no more than "unknown".
    room = 1.5 * (max(means) - min(means)) + 1e-9
    low, high = bounds([min(max(v, min(means) - room), max(means) + room) for v in values], fraction)
    epochs = sorted({epoch for one in bands.values() for epoch, *_ in one})
    span = (float(epochs[0]), float(epochs[-1])) if len(epochs) > 1 else (epochs[0] - 0.5, epochs[0] + 0.5)
    label = words(name)
    # The name of a figure's hidden lines, which panels draw by reference instead of each again.
    identity = name.replace("_", "-")
    alone = len(bands) <= TOGETHER
    charts, keys, behind = [], [], []
    known = [low is not None for one in bands.values() for _, _, low, _ in one]
    chart = Chart(label, _ends(bands)).spanned(span, (low, high)).axes("epoch", label, whole=True)
    for place, (arm, one) in enumerate(bands.items()):
        kind = series(place) if alone else "s0"
        if not alone:
            chart = Chart(f"{arm} (n = {counts[arm]})", _ends({arm: one}), height=190).spanned(span, (low, high))
            chart.axes("epoch", label, whole=True)
            behind.append(f'<path id="{identity}-{place}" d="{chart.path([(e, m) for e, m, _, _ in one])}"/>')
            chart.parts += [
                f'<use class="behind" href="#{identity}-{other}"/>' for other in range(len(bands)) if other != place
            ]
        sure = [(e, low, high) for e, _, low, high in one if low is not None and high is not None]
        chart.area([(e, low) for e, low, _ in sure], [(e, high) for e, _, high in sure], f"band {kind}")
        chart.line([(e, mean) for e, mean, _, _ in one], f"line {kind}", arm)
        keys.append((kind, "line", f"{arm} (n = {counts[arm]})"))
        charts += [] if alone else [chart.svg(heading=True)]
    caption = (
        f"{label[:1].upper()}{label[1:]} by epoch: mean over folds and seeds, band: its 95 % interval, cut at the edge of the figure"
        + ("" if all(known) else "; no band where one trial (n = 1), or equal ones, show no spread")
        + ("." if alone else "; grey: the other arms.")
    )
    if alone:
        return figure(caption, panels([chart.svg()]), legend(keys))
    hidden = f'<svg class="hidden" aria-hidden="true"><defs>{"".join(behind)}</defs></svg>'
    return figure(caption, hidden + panels(charts))


def band(found: Found, curves: Sequence[tuple[Place, Curve]]) -> Band:
    """Mean and interval of each epoch, over the trials that reached it."""
    epochs: dict[int, dict[Place, float]] = defaultdict(dict)
    for place, curve in curves:
        for epoch, value in curve:
            epochs[epoch][place] = value
    return [(epoch, *found.interval(values)) for epoch, values in sorted(epochs.items())]


def _search(found: Found, name: str, curves: dict[str, Curve]) -> str:
    """Every trial in grey, the best in colour."""
    order = [row["trial_key"] for row in found.trials if row["trial_key"] in curves]
    kept = order[:: math.ceil(len(order) / MOST)]
    best = found.best["trial_key"] if found.best else ""  # it is drawn whether it is kept or not
    label = words(name)
    values = [value for curve in curves.values() for _, value in curve]
    last = max(epoch for curve in curves.values() for epoch, _ in curve)
    chart = Chart(label, f"{count(len(kept), 'curve')}, from {min(values):.3f} to {max(values):.3f}.")
    chart.spanned((1, max(last, 2)), bounds(values, name.endswith("accuracy"))).axes("epoch", label, whole=True)
    for key in kept:
        if key != best:
            chart.line(curves[key], "line faint", key[:12])
    keys = [("faint", "line", "a trial")]
    if best in curves:
        chart.line(curves[best], "line s1 thick", best[:12])
        keys.append(("s1 thick", "line", f"the best, {best[:12]}"))
    note = f"Of {len(order)} trials {len(kept)}, evenly chosen, are drawn." if len(kept) < len(order) else ""
    drawn = figure(f"{label[:1].upper()}{label[1:]} of each trial by epoch.", panels([chart.svg()]), legend(keys))
    return drawn + (paragraph(note) if note else "")


def _ends(bands: dict[str, Band]) -> str:
    """Where each line ends, in words."""
    return "; ".join(f"{arm}: {one[-1][1]:.3f} after epoch {one[-1][0]}" for arm, one in bands.items()) + "."
