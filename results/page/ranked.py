"""The critical-difference diagram of an ablation that was run on several data sets (Demsar, JMLR 7, 2006, figure 1)."""

import math
from pathlib import Path

from results.errors import StoreError
from results.over_data_sets import ranks_table
from results.page.found import Found
from results.page.markup import figure, missing, paragraph, scroll, table
from results.page.svg import Chart, Scale
from results.ranks import Ranked

WIDTH, SIDE, STEP, BAR = 600.0, 205.0, 19.0, 9.0
AXIS = 62.0  # where the axis is, from above
STYLE = Path(__file__).with_name("style.css")


def over_data_sets(found: Found) -> str:
    """The diagram and its table; a sentence where the ablation was run on one data set."""
    ablation = found.rows.study["ablation"]
    if not ablation:
        return missing("This study is no ablation that could be run on several data sets.")
    try:
        ranks = ranks_table(found.store, ablation)
    except StoreError as error:
        return missing(str(error))
    drawn = scroll("Average ranks", ranks.picture()) if ranks.picture else ""
    caption = f"Average ranks of the arms of {ablation}, the best on the right; bars join arms that do not differ significantly."
    return figure(caption, drawn) + table(ranks, f"The arms of {ablation} over data sets") + paragraph(ranks.caption)


def chart(ranked: Ranked) -> Chart:
    """Ranks along an axis, the best on the right; a bar under it joins the arms of a group, and one above it is as long as the critical
    difference.
    """
    order = sorted(ranked.ranks, key=ranked.ranks.__getitem__)
    k, right = len(order), math.ceil(len(order) / 2)
    first = AXIS + 14 + BAR * len(ranked.groups)
    words = "; ".join(f"{name}: {ranked.ranks[name]:.2f}" for name in order)
    bars = "; ".join(" and ".join(group) for group in ranked.groups) or "no arms"
    drawn = Chart(
        f"Average ranks over {ranked.data_sets} data sets",
        f"{words}. Critical difference {ranked.difference:.2f}; not significantly different: {bars}.",
        WIDTH,
        first + STEP * right + 6,
    )
    drawn.x = Scale(1, k, WIDTH - SIDE, SIDE)
    drawn.rule(drawn.x(k), AXIS, drawn.x(1), AXIS, "axis")
    for rank in range(1, k + 1):
        drawn.rule(drawn.x(rank), AXIS - 5, drawn.x(rank), AXIS, "axis")
        drawn.text(drawn.x(rank), AXIS - 9, rank, "tick", "middle")
    length = ranked.difference * (drawn.x(1) - drawn.x(2))
    end = min(drawn.x(k) + length, WIDTH - 8)
    drawn.rule(drawn.x(k), 26, end, 26, "interval s1")
    for place in (drawn.x(k), *([end] if end == drawn.x(k) + length else [])):
        drawn.rule(place, 22, place, 30, "interval s1")
    drawn.text(drawn.x(k), 16, f"critical difference {ranked.difference:.2f}")
    for line, group in enumerate(ranked.groups):
        y = AXIS + BAR * (line + 1)
        ends = (drawn.x(ranked.ranks[group[-1]]) - 3, drawn.x(ranked.ranks[group[0]]) + 3)
        drawn.rule(ends[0], y, ends[1], y, "line s0 clique")
    for side, names in ((1, order[:right]), (-1, order[right:][::-1])):
        label, anchor = (WIDTH - SIDE + 8, "start") if side > 0 else (SIDE - 8, "end")
        for place, name in enumerate(names):
            x, y = drawn.x(ranked.ranks[name]), first + STEP * place + 8
            drawn.rule(x, AXIS, x, y, "axis")
            drawn.rule(x, y, label - 4 * side, y, "axis")
            drawn.text(
                label, y + 4, f"{name[:27]}{'…' if len(name) > 27 else ''}  {ranked.ranks[name]:.2f}", "name", anchor
            )
    return drawn


def picture(ranked: Ranked) -> str:
    """The diagram as a picture of its natural size."""
    return chart(ranked).svg(natural=True)


def alone(drawn: str) -> str:
    """A picture of a page as a file of its own, with the page's colours."""
    head, _, rest = drawn.partition(">")
    style = "".join(
        line
        for line in STYLE.read_text(encoding="utf-8").splitlines(keepends=True)
        if not line.startswith(("body", "*"))
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}'
