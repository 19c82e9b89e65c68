"""Figures of a study: learning curves, and the mean of each arm with its interval.

Drawn on figures of their own, never through pyplot, so that nothing is shared with the caller. Colours are Okabe and
Ito's, which stay apart for colour-blind readers; no figure relies on colour alone.
"""

import math
from collections import defaultdict
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.errors import StoreError
from results.store import Store
from results.tables import StudyRows, comparison_table, study_rows

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PINK, ":"))
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#E5E5E5", "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.edgecolor": "#666666",
    "xtick.color": "#444444", "ytick.color": "#444444", "axes.titlelocation": "left", "legend.frameon": False,
}  # fmt: skip

Curve = list[tuple[int, float]]  # (epoch, value)
Band = tuple[list[int], list[float], list[float]]  # epochs, means, standard deviations; nan where nothing varies


def learning_curves(store: Store, study: str, path: Path, metric: str = "val_accuracy") -> Path:
    """Draw a column of `epochs` by epoch: per arm the mean with its standard deviation; of a search every trial.

    Raises:
        StoreError: the study has no curves, or the file cannot be written.

    """
    rows = study_rows(store, study)
    curves: dict[str, Curve] = defaultdict(list)
    for row in store.read("epochs", ["trial_key", "epoch", metric], study).to_pylist():
        if row[metric] is not None:
            curves[row["trial_key"]].append((row["epoch"], row[metric]))
    if not curves:
        raise StoreError(f"The study {study} has no epochs with {metric} in {store.root}: train its trials first.")
    curves = {key: sorted(curve) for key, curve in curves.items()}
    draw = _search_curves if rows.study["kind"] == "search" else _arm_curves
    with rc_context(STYLE):
        figure = draw(rows, curves, metric.replace("val_", "validation ").replace("_", " "))
        return save(figure, path)


def comparison_plot(store: Store, study: str, path: Path) -> Path:
    """Draw the mean of each arm with its confidence interval, as the comparison table has them.

    Raises:
        StoreError: no arm has a trial that is done, or the file cannot be written.

    """
    table = comparison_table(store, study)
    arms = [arm for arm in (dict(zip(table.columns, row, strict=True)) for row in table.rows) if arm["planned"]]
    if not any(arm["n"] for arm in arms):
        raise StoreError(f"The study {study} has no trial that is done in {store.root}: train its trials first.")
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.0 + 0.32 * len(arms)), layout="constrained")
        axes = figure.subplots()
        baseline = store.read("studies", ["baseline"], study)["baseline"][0].as_py() or arms[0]["arm"]
        for arm in arms:
            if arm["arm"] == baseline and arm["mean"] is not None:
                axes.axvline(arm["mean"], color=GREY, linewidth=1, linestyle="--", zorder=1)
        for place, arm in enumerate(arms):
            if arm["low"] is not None:
                axes.plot([arm["low"], arm["high"]], [place, place], color=BLUE, linewidth=2, solid_capstyle="round")
            if arm["mean"] is not None:
                filled = BLUE if "paper" not in arm["protocol"] else "white"
                axes.plot(arm["mean"], place, "o", color=BLUE, markerfacecolor=filled, markersize=6)
        labels = [f"{arm['arm']}  (n = {arm['n']}{_of(arm['n'], arm['planned'])})" for arm in arms]
        axes.set_yticks(range(len(arms)), labels)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{arms[0]['metric'].replace('_', ' ')}, mean and 95 % interval; dashed: {baseline}")
        axes.set_title(study + (" (hollow: epoch picked on the test fold)" if _paper(arms) else ""))
        return save(figure, path)


def _arm_curves(rows: StudyRows, curves: dict[str, Curve], words: str) -> Figure:
    """Up to four arms share one panel; more get a panel each, with the others in grey behind."""
    arms: dict[str, list[Curve]] = defaultdict(list)
    for member in rows.members:
        if member["trial_key"] in curves:
            arms[member["arm"]].append(curves[member["trial_key"]])
    bands = {arm: _band(found) for arm, found in arms.items()}
    note = "mean over folds and seeds, band: one standard deviation"
    if any(math.isnan(deviation) for *_, deviations in bands.values() for deviation in deviations):
        note += " (none where one trial, n = 1, or equal ones show no spread)"
    if len(bands) <= len(LINES):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for (arm, band), (colour, dashes) in zip(bands.items(), LINES, strict=False):
            _draw(axes, band, colour, dashes, f"{arm} (n = {len(arms[arm])})")
        axes.legend(loc="best")
        panels = [axes]
    else:
        columns = min((4, 5, 3), key=lambda number: -len(bands) % number)
        lines = math.ceil(len(bands) / columns)
        figure = Figure(figsize=(2.4 * columns, 0.6 + 2.0 * lines), layout="constrained")
        grid = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
        panels, empty = grid[: len(bands)], grid[len(bands) :]
        for axes, arm in zip(panels, bands, strict=True):
            for other in bands.values():
                axes.plot(other[0], other[1], color="#D0D0D0", linewidth=0.8)
            _draw(axes, bands[arm], BLUE, "-", None)
            axes.set_title(f"{arm} (n = {len(arms[arm])})", fontsize=8)
        for axes in empty:
            axes.set_visible(False)
        for axes in panels[-columns:]:
            axes.tick_params(labelbottom=True)
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(words, fontsize=9)
    figure.suptitle(f"{rows.study['study']}: {note}", fontsize=9, x=0.01, ha="left")
    return figure


def _search_curves(rows: StudyRows, curves: dict[str, Curve], words: str) -> Figure:
    """Left: each trial by epoch, the best in colour. Right: the value of each trial in order, and the best so far."""
    values = []
    for member in rows.members:
        trial = rows.trials.get(member["trial_key"])
        if trial is not None and trial["status"] != "failed" and trial[rows.metric] is not None:
            values.append((member["index"] + 1, trial[rows.metric], trial["trial_key"], trial["status"]))
    pick = min if rows.metric.endswith("loss") else max
    best = pick(values, key=lambda value: value[1])[2] if values else None
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve in curves.values():
        left.plot(*zip(*curve, strict=True), color="#B5B5B5", linewidth=0.8, marker="." if len(curve) == 1 else None)
    if best in curves:
        left.plot(*zip(*curves[best], strict=True), color=ORANGE, linewidth=2, label=f"best: {best[:12]}")
        left.legend(loc="best")
    left.set(title="every trial", xlabel="epoch", ylabel=words)
    for status, marker, fill in (("done", "o", GREY), ("stopped", "v", "white")):
        some = [value for value in values if value[3] == status]
        label = "done" if status == "done" else "stopped early"
        right.plot(
            [v[0] for v in some], [v[1] for v in some], marker, color=GREY, mfc=fill, markersize=4.5, label=label
        )
    so_far = [pick(value[1] for value in values[: place + 1]) for place in range(len(values))]
    right.step([v[0] for v in values], so_far, where="post", color=BLUE, linewidth=1.8, label="best so far")
    right.legend(loc="best")
    right.set(
        title="trials in their order",
        xlabel="trial",
        ylabel=rows.metric.replace("val_", "validation ").replace("_", " "),
    )
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(f"search {rows.study['study']}, {len(rows.trials)} trials", fontsize=9, x=0.01, ha="left")
    return figure


def _band(curves: list[Curve]) -> Band:
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for curve in curves:
        for epoch, value in curve:
            by_epoch[epoch].append(value)
    epochs = sorted(by_epoch)
    # A band of no width would say that nothing varies: one trial, or equal ones, do not show that.
    return epochs, [fmean(by_epoch[e]) for e in epochs], [pstdev(by_epoch[e]) or math.nan for e in epochs]


def _draw(axes: Axes, band: Band, colour: str, dashes: str, label: str | None) -> None:
    epochs, means, deviations = band
    low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
    high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(epochs, means, color=colour, linestyle=dashes, linewidth=1.8, label=label)


def _of(n: int, planned: int) -> str:
    return "" if n == planned else f" of {planned}"


def _paper(arms: list[dict[str, Any]]) -> bool:
    return any("paper" in arm["protocol"] for arm in arms)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, and make its folder."""
    FigureCanvasAgg(figure)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
    except OSError as error:
        raise StoreError(f"Expected a file that can be written, found {path}: {error.strerror}.") from error
    return Path(path)
