"""Distances of image pairs: how they are distributed between classes and within them, a ridge per arm and slice."""

from results.distances import (
    BINS,
    FARTHEST,
    Distribution,
    density,
    distances_table,
    distributions,
    summary,
    wasserstein_table,
)
from results.errors import StoreError
from results.page.found import Found
from results.page.markup import details, figure, missing, panels, table
from results.page.svg import Chart, Scale, digits, legend

STEP, NAMED = 44.0, 16
KEYS = (("s0", "area", "pairs of different classes"), ("s1", "line", "pairs of one class"))


def densities(found: Found) -> str:
    """Ridges of the arms of one slice together, and of each arm of several slices on their own."""
    for split in ("test", "validation", "train"):
        try:
            some = [one for one in distributions(found.store, found.name, split) if one.arm in found.arms]
        except StoreError:
            continue
        if some:
            break
    else:
        return missing("No trial has distances of image pairs yet.")
    groups = {"Arms of one slice": [one for one in some if one.slices == 1]}
    for one in some:
        if one.slices > 1:
            groups.setdefault(one.arm, []).append(one)
    charts = [_ridges(title, group) for title, group in groups.items() if group]
    caption = f"Distances of two {split} images, by threshold: the density between classes (filled) and within a class (line)."
    numbers = table(distances_table(some), "Mean, spread and percentiles of the distances")
    if 2 <= len(some) <= NAMED:
        numbers += table(
            wasserstein_table(some), "Wasserstein-1 distances of the distributions between classes", sortable=False
        )
    return figure(caption, panels(charts), legend(KEYS)) + details("These distances as numbers", numbers)


def _ridges(title: str, group: list[Distribution]) -> str:
    shapes = [{kind: density(counts) for kind, counts in one.counts.items() if sum(counts)} for one in group]
    most = max((max(shape) for one in shapes for shape in one.values()), default=1.0)
    height = STEP * len(group) + 44
    said = []
    chart = Chart(title, "", height=height)
    chart.x = Scale(0, FARTHEST, 12, chart.width - 12)
    bottom = height - 38
    for value in chart.x.ticks(4):
        chart.rule(chart.x(value), 4, chart.x(value), bottom, "grid")
        chart.text(chart.x(value), bottom + 14, digits(value), "tick", "middle")
    chart.text(chart.width / 2, height - 6, "distance", "label", "middle")
    middles = [(place + 0.5) * FARTHEST / BINS for place in range(BINS)]
    for place, (one, shape) in enumerate(zip(group, shapes, strict=True)):
        chart.y = Scale(0, most, STEP * (place + 1), STEP * place + 10)
        name = one.arm if one.slices == 1 else f"slice {one.slice + 1}"
        label = name if one.threshold is None else f"{name}, threshold {one.threshold:g}"
        chart.rule(12, chart.y(0), chart.width - 12, chart.y(0), "axis")
        for kind, values in shape.items():
            there = [(x, value) for x, value in zip(middles, values, strict=True) if value]
            # A little to each side, so that the shape of a single bin has a width.
            points = [(there[0][0] - 0.02, 0.0), *there, (there[-1][0] + 0.02, 0.0)]
            if kind == "inter":
                chart.area(points, [points[0]], "band s0")
            chart.line(points, "line s0" if kind == "inter" else "line s1")
        chart.text(14, STEP * place + 14, label, "name halo", most=48)
        means = [f"{kind} {summary(one.counts[kind])['mean']:.3f}" for kind in ("inter", "intra") if kind in shape]
        said.append(f"{label}: mean {' and '.join(means)}")
    chart.words = "; ".join(said) + "."
    return chart.svg(heading=True)
