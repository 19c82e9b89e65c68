"""The embedding map: test images of one trial an arm in a plane by t-SNE, a marker and a colour a class."""

import math

from results.page.found import Found, Row
from results.page.markup import count, details, figure, missing, panels, paragraph
from results.page.svg import MARKERS, Chart, Scale, at, bounds, legend, marker_path, series

MOST, OPEN, EDGE = 1500, 6, 8.0


def plane(found: Found) -> str:
    """A map of the first trial of each arm that has one."""
    rows = found.read_by_trial("embedding", ["image", "label", "class_name", "x", "y"])
    shown = {arm: next((key for key in keys if key in rows), None) for arm, keys in found.arms.items()}
    maps = {arm: key for arm, key in shown.items() if key is not None}
    if not maps:
        return missing("There is no map of the embedding: train with evaluation.tsne=true to have one.")
    charts, names, left_out = [], dict[int, str](), 0
    for arm, key in maps.items():
        points = sorted(rows[key], key=lambda row: row["image"])
        kept = points[:: math.ceil(len(points) / MOST)]
        left_out += len(points) - len(kept)
        names |= {row["label"]: row["class_name"] for row in points}
        fold, seed = found.arms[arm][key]
        charts.append(_map(arm, f"fold {fold}, seed {seed}", kept))
    keys = [(series(label), MARKERS[label % len(MARKERS)], name) for label, name in sorted(names.items())]
    caption = "Images in a plane by t-SNE, one trial an arm. Only which images lie together means something, not axes or distances."
    note = f"{count(left_out, 'image')} of all maps are left out, evenly chosen." if left_out else ""
    more = details(f"{len(charts) - OPEN} more arms", panels(charts[OPEN:])) if len(charts) > OPEN else ""
    return figure(caption, panels(charts[:OPEN]), legend(keys)) + more + (paragraph(note) if note else "")


def _map(arm: str, place: str, points: list[Row]) -> str:
    """Each class is one path of many markers, which keeps the page small."""
    chart = Chart(arm, f"{count(len(points), 'image')} of {place}.", height=260)
    x, y = bounds(row["x"] for row in points), bounds(row["y"] for row in points)
    chart.x, chart.y = Scale(*x, EDGE, chart.width - EDGE), Scale(*y, chart.height - EDGE, EDGE)
    chart.parts.append(
        f'<rect class="frame" x="1" y="1" width="{at(chart.width - 2)}" height="{at(chart.height - 2)}"/>'
    )
    for label in sorted({row["label"] for row in points}):
        marker = marker_path(MARKERS[label % len(MARKERS)], 3.2)
        drawn = "".join(
            f"M{at(chart.x(row['x']))} {at(chart.y(row['y']))}{marker}" for row in points if row["label"] == label
        )
        chart.parts.append(f'<path class="dot {series(label)}" d="{drawn}"/>')
    chart.text(8, chart.height - 8, place, "tick halo")
    return chart.svg(heading=True)
