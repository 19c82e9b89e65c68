"""A search: its trials in their order, along their parameters, and which parameters mattered."""

import math
from collections.abc import Sequence
from typing import Any

from results.across import cursed
from results.page.found import Found, Row
from results.page.importances import FEWEST, importances
from results.page.markup import count, details, figure, missing, panels, paragraph, table
from results.page.svg import LEFT, Chart, Scale, bounds, digits, legend
from results.proposals import proposals
from results.render import Table

GAP, MOST, SHADES = 104.0, 400, 5
Trial = tuple[int, Row, dict[str, Any]]  # index, row of trials, parameters


def searched(found: Found) -> str:
    """Figures of a search; of an ablation the sentence that it is none."""
    if not found.searches:
        return missing("This study is no search: its arms were chosen, not proposed.")
    trials = _answered(found)
    if not trials:
        return missing("No trial of the search has a value yet.")
    return _flattery(found) + _history(found, trials) + _parallel(found, trials) + _importances(found, trials)


def _flattery(found: Found) -> str:
    """What the best value is worth, where its configuration was trained again."""
    curse = next(iter(cursed(found.store, [found.name])), None)
    again = "Its best configuration was not trained again with fresh seeds, so that its value is flattered by an unknown amount."
    return missing(again) if curse is None else paragraph(curse.said.sentence())


def _answered(found: Found) -> list[Trial]:
    return [(one.number, one.trial, one.parameters) for one in proposals(found.rows)]


def _history(found: Found, trials: list[Trial]) -> str:
    """The value of each trial in the order of the proposals, and the best so far."""
    pick = min if found.rows.less_is_better else max
    values = [row[found.metric] for _, row, _ in trials]
    chart = Chart(
        f"{found.words} of the trials in their order", f"{count(len(values), 'trial')}, the best {pick(values):.3f}."
    )
    chart.spanned((0.5, trials[-1][0] + 1.5), bounds(values, found.fraction)).axes("trial", found.words, whole=True)
    steps: list[tuple[float, float]] = []
    for place, (index, row, _) in enumerate(trials):
        stopped = row["status"] == "stopped"
        hover = f"trial {index + 1}: {row[found.metric]:.4f}, {row['status']} after {row['epochs']} epochs"
        chart.dot(
            index + 1, row[found.metric], "dot s7 hollow" if stopped else "dot s7", "v" if stopped else "o", hover
        )
        best = pick(values[: place + 1])
        steps += [(index + 1, steps[-1][1] if steps else best), (index + 1, best)]
    chart.line([*steps, (trials[-1][0] + 1.5, steps[-1][1])], "line s0 solid")
    keys = [("s7", "o", "done"), ("s7 hollow", "v", "stopped early"), ("s0 solid", "line", "best so far")]
    return figure("The trials in the order in which they were proposed.", panels([chart.svg()]), legend(keys))


def _parallel(found: Found, trials: list[Trial]) -> str:
    """A line a trial across one axis a parameter, and the metric at the end."""
    names = sorted({name for _, _, parameters in trials for name in parameters})
    every = math.ceil(len(trials) / MOST)
    best = found.best["trial_key"] if found.best else ""
    kept = [trial for place, trial in enumerate(trials) if place % every == 0 or trial[1]["trial_key"] == best]
    width = max(340.0, GAP * len(names) + 2 * LEFT)
    words = f"{count(len(kept), 'trial')} across {', '.join(names) or 'no parameter'} and {found.words}."
    chart = Chart("Parallel coordinates", words, width=width, height=270)
    top, bottom = 36.0, 226.0
    columns: list[list[float | None]] = []
    places = [LEFT + (width - 2 * LEFT) * i / max(1, len(names)) for i in range(len(names) + 1)]
    for place, name in enumerate(names):
        values = [parameters.get(name) for _, _, parameters in kept]
        columns.append(_axis(chart, places[place], top, bottom, name, values, place % 2))
    reached = [row[found.metric] for _, row, _ in kept]
    columns.append(_axis(chart, places[-1] if names else width / 2, top, bottom, found.words, reached, len(names) % 2))
    sign = -1 if found.rows.less_is_better else 1
    order = sorted(range(len(kept)), key=lambda i: (sign * reached[i], -kept[i][0]))
    lines = []
    for i in order:
        worse = sum(sign * value < sign * reached[i] for value in reached)
        points = [
            (x, bottom + 18 if column[i] is None else column[i]) for x, column in zip(places, columns, strict=False)
        ]
        shade = "best" if i == order[-1] else f"r{worse * SHADES // len(order)}"
        drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        hover = f"trial {kept[i][0] + 1}: {reached[i]:.4f}"
        lines.append(f'<path class="across {shade}" d="M{drawn}"><title>{hover}</title></path>')
    chart.parts = lines + chart.parts
    if any(value is None for column in columns for value in column):
        chart.text(4, bottom + 22, "unused", "tick")
    caption = (
        "Each line is a trial: the stronger its colour the better, and the best is thick. “Unused” are parameters that its method "
        "does not have."
    )
    keys = [
        ("r0", "line", "worst fifth"),
        ("r2", "line", "middle"),
        ("r4", "line", "best fifth"),
        ("best", "line", "the best"),
    ]
    wide = f'<div class="scroll" tabindex="0" role="region" aria-label="Parallel coordinates">{chart.svg(natural=True)}</div>\n'
    return figure(caption, wide, legend(keys))


def _axis(
    chart: Chart, x: float, top: float, bottom: float, name: str, values: Sequence[Any], low: int
) -> list[float | None]:
    """Draw an axis with its name, and say how high each value stands on it; None where there is none."""
    known = [value for value in values if value is not None]
    chart.rule(x, top, x, bottom, "axis")
    # Names of neighbours take turns above and below the axes, so that long ones do not run into each other.
    ends = {LEFT: (4.0, "start"), chart.width - LEFT: (chart.width - 4, "end")}
    where, anchor = ends.get(x, (x, "middle"))
    chart.text(where, bottom + 40 if low else 14, name, "name", anchor, most=26)
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known) and known:
        reals = any(isinstance(value, float) for value in known)
        log = reals and min(known) > 0 and max(known) / min(known) >= 8
        least, most = (min(known), max(known)) if min(known) < max(known) else bounds(known)
        scale = Scale(least, most, bottom, top, log)
        for value in scale.ticks(4) if reals else sorted(set(known)) if len(set(known)) <= 6 else scale.ticks(4):
            chart.text(x + 4, scale(value) + 4, digits(value), "tick halo")
        return [None if value is None else scale(value) for value in values]
    texts = sorted({str(value) for value in known})
    step = (bottom - top) / max(1, len(texts))
    heights = {text: bottom - (place + 0.5) * step for place, text in enumerate(texts)}
    for text, y in heights.items():
        chart.text(x + 4, y + 4, text, "tick halo", most=16)
    return [None if value is None else heights[str(value)] for value in values]


def _importances(found: Found, trials: list[Trial]) -> str:
    """Bars of the permutation importances, with what they are worth."""
    done = [(parameters, row[found.metric]) for _, row, parameters in trials if row["status"] == "done"]
    if len(done) < FEWEST:
        return missing(
            f"Importances need {FEWEST} trials that are done, and there {'is' if len(done) == 1 else 'are'} {len(done)}."
        )
    result = importances([parameters for parameters, _ in done], [value for _, value in done])
    if not result.shares:
        return missing("Importances need a parameter that differs between trials.")
    high = max(max(mean + spread for _, mean, spread in result.shares), 1e-9)
    step = 34.0
    said = "; ".join(f"{name}: {mean:.3f}" for name, mean, _ in result.shares)
    chart = Chart("Importance of the parameters", f"{said}.", height=step * len(result.shares) + 8)
    for place, (name, mean, spread) in enumerate(result.shares):
        y = step * place
        chart.text(8, y + 14, f"{name}: {mean:.3f} ± {spread:.3f}".replace("-0.", "−0."), "name", most=48)
        chart.bar(8, y + 19, 324 * max(mean, 0) / high, 9, "fill s0")
    verdict = "" if result.r2 >= 0.2 else " It foretells so little that the order of the bars means little."
    note = (
        f"How much worse a random forest foretells {found.words} of held-out trials (5-fold, {len(done)} done trials) when a "
        f"parameter is shuffled, ± one standard deviation over the folds. The forest explains R² = {result.r2:.2f} of the held-out "
        f"values.{verdict} A parameter that only some methods have takes a part of the importance of the method."
    )
    lines = [(name, mean, spread) for name, mean, spread in result.shares]
    numbers = details(
        "These importances as numbers",
        table(Table(("parameter", "importance", "standard deviation"), lines), "Importances"),
    )
    return figure("Importance of the parameters of the search.", panels([chart.svg()])) + paragraph(note) + numbers
