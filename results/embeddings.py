"""Figures of the embeddings of a study: the distances between classes and within them, and planes of its test images."""

import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.distances import BINS, FARTHEST, Distribution, density, distributions, wasserstein_matrix
from results.errors import StoreError
from results.files import make_folder, write_file
from results.plots import STYLE, save
from results.store import Store
from results.tables import study_rows

DASHES = ("-", "--", "-.", ":")
# Okabe and Ito's colours, and a marker for each, so that classes are told apart without colour, too.
CLASSES = tuple(
    zip(
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31"),
        "os^DvPX*",
        strict=True,
    )
)
MOST_CURVES = 8  # in one panel
MOST_NAMED = 16  # curves up to which the matrix of their distances is drawn


def distance_plot(store: Store, study: str, path: Path, split: str = "test") -> Path:
    """Draw the densities of the distances between classes (thick) and within classes (thin), after Yang et al. 2024, fig. 3.

    Arms of one slice share panels, with one curve each; every arm of several slices has a panel, with one curve a slice. Where there are
    not too many, a last panel has the Wasserstein-1 distances of the curves between classes.

    Raises:
        StoreError: the study has no distances, or the file cannot be written.

    """
    found = distributions(store, study, split)
    groups = _panels(found)
    compared = [one for one in found if "inter" in one.counts]
    matrix = 2 <= len(compared) <= MOST_NAMED
    panels = len(groups) + matrix
    columns = min(panels, 3)
    lines = math.ceil(panels / columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(1.0 + 5.2 * columns, 0.5 + 3.4 * lines), layout="constrained")
        grid = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axes, (title, curves) in zip(grid, groups.items(), strict=False):
            _densities(axes, curves)
            axes.set_title(title)
        if matrix:
            _matrix(grid[len(groups)], compared, wasserstein_matrix(compared))
        for axes in grid[panels:]:
            axes.set_visible(False)
        figure.suptitle(
            f"{study}, {split} images: distances between classes (thick) and within classes (thin)",
            fontsize=9, x=0.01, ha="left",
        )  # fmt: skip
        return save(figure, path)


def plane_plot(store: Store, study: str, path: Path) -> Path:
    """Draw the test images of one trial an arm, the first of the plan that has them, in a plane by t-SNE.

    Raises:
        StoreError: no trial has a plane, or the file cannot be written.

    """
    points: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in store.read("embedding", study=study).to_pylist():
        points[row["trial_key"]].append(row)
    shown: dict[str, dict[str, Any]] = {}
    for member in study_rows(store, study).members:
        if member["trial_key"] in points:
            shown.setdefault(member["arm"], member)
    if not shown:
        raise StoreError(f"The study {study} has no planes in {store.root}: train it with evaluation.tsne=true.")
    columns = min(len(shown), 4)
    lines = math.ceil(len(shown) / columns)
    with rc_context(STYLE | {"axes.grid": False}):
        width = max(4.8, 3.2 * columns)
        figure = Figure(figsize=(width, 0.9 + 3.0 * lines), layout="constrained")
        grid = list(figure.subplots(lines, columns, squeeze=False).flat)
        handles: dict[str, Any] = {}
        for axes, (arm, member) in zip(grid, shown.items(), strict=False):
            _scatter(axes, points[member["trial_key"]], handles)
            axes.set_title(f"{arm}, fold {member['fold']}, seed {member['seed']}", fontsize=8)
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=int(width / 1.2), fontsize=8)
        figure.suptitle(f"{study}: test images by t-SNE", fontsize=9, x=0.01, ha="left")
        return save(figure, path)


def write_pictures(store: Store, study: str, folder: Path) -> list[Path]:
    """Write the pictures that the methods of a study made, as KEY-NAME.png; none where none made any.

    Raises:
        StoreError: a file cannot be written.

    """
    written = []
    for row in store.read("pictures", study=study).to_pylist():
        path = Path(folder) / f"{row['trial_key'][:12]}-{re.sub(r'[^A-Za-z0-9._-]+', '-', row['name'])}.png"
        try:
            make_folder(path.parent)
            write_file(path, row["png"])
        except OSError as error:
            raise StoreError(f"Expected a file that can be written, found {path}: {error.strerror}.") from error
        written.append(path)
    return sorted(written)


def _panels(found: list[Distribution]) -> dict[str, list[Distribution]]:
    """Curves by the title of their panel."""
    panels: dict[str, list[Distribution]] = defaultdict(list)
    single = [one for one in found if one.slices == 1]
    parts = math.ceil(len(single) / MOST_CURVES)
    for place, one in enumerate(single):
        panels["one curve an arm" + (f" ({place // MOST_CURVES + 1} of {parts})" if parts > 1 else "")].append(one)
    for one in found:
        if one.slices > 1:
            panels[f"{one.arm}: one curve a slice"].append(one)
    return panels


def _densities(axes: Axes, curves: list[Distribution]) -> None:
    middles = [(place + 0.5) * FARTHEST / BINS for place in range(BINS)]
    shades = colormaps["viridis"]
    for place, one in enumerate(curves):
        colour = shades(0.9 * place / max(1, len(curves) - 1))
        label = one.arm if one.slices == 1 else f"slice {one.slice + 1}"
        if one.threshold is not None and one.slices > 1:
            label += f", threshold {one.threshold:g}"
        dashes = DASHES[place % len(DASHES)]
        if "inter" in one.counts:
            axes.plot(middles, density(one.counts["inter"]), dashes, color=colour, linewidth=1.8, label=label)
        if "intra" in one.counts:
            axes.plot(middles, density(one.counts["intra"]), dashes, color=colour, linewidth=0.7)
    axes.set(xlim=(0, FARTHEST), xlabel="distance of two images", ylabel="density")
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7)


def _matrix(axes: Axes, compared: list[Distribution], values: list[list[float]]) -> None:
    axes.imshow(values, cmap="Greys", aspect="auto", vmin=0, vmax=2.5 * max(map(max, values)) or 1)
    axes.grid(visible=False)
    if len(compared) <= 10:
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                axes.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=6)
    names = [one.name for one in compared]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=6, rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set_title("Wasserstein-1 distance of the curves between classes")


def _scatter(axes: Axes, points: list[dict[str, Any]], handles: dict[str, Any]) -> None:
    for label in sorted({point["label"] for point in points}):
        colour, marker = CLASSES[label % len(CLASSES)]
        mine = [point for point in points if point["label"] == label]
        drawn = axes.scatter(
            [point["x"] for point in mine], [point["y"] for point in mine], s=14, c=colour, marker=marker, alpha=0.8,
            linewidths=0,
        )  # fmt: skip
        handles.setdefault(mine[0]["class_name"], drawn)
    axes.set(xticks=[], yticks=[])
