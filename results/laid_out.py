"""What people are shown of a comparison: a line an arm, or rows and columns of two factors, and the caption."""

from collections.abc import Sequence

from results.render import Place as Cell
from results.replication import Arm, Row, StudyRows
from results.wording import FRACTIONS, bounds, count, digits, listed, p_value

ALPHA = 0.05
SIGNS = "All pairs differ by the same: p is 2^(1 - replicates), that of their signs alone."


def seen(rows: StudyRows, arms: Sequence[str] | None, column: str) -> list[str]:
    """The values of a column over the trials of some arms, or of all."""
    keys = [member["trial_key"] for member in rows.members if arms is None or member["arm"] in arms]
    values = {rows.trials[key][column] for key in keys if key in rows.trials}
    return [str(value) for value in sorted(values - {None})]


def caption_of(rows: StudyRows, ratio: float | None, arms: list[Arm], found: list[Row], extra: list[Row]) -> str:
    """What the numbers of a comparison are: their units, intervals and tests, what is marked, and what is missing."""
    folds, seeds = (len({member[axis] for member in rows.members}) for axis in ("fold", "seed"))
    words, layout = rows.metric.replace("_", " "), rows.layout
    parts = [
        f"Study {rows.study['study']} on {listed(seen(rows, None, 'dataset'))}: {count(folds, 'fold')} × "
        f"{count(seeds, 'seed')}, protocol {listed(seen(rows, None, 'protocol'))}, "
        f"{listed(seen(rows, None, 'epochs_planned'))} epochs."
    ]
    if layout:
        columns = {"k": "K, the number of neighbours that vote", "dataset": "data sets that the networks are judged on"}
        parts.append(f"Rows: {layout['rows']}; columns: {columns.get(layout['columns'], layout['columns'])}.")
    if len(sizes := seen(rows, None, "image_size")) > 1:
        parts.append(f"Images of {', '.join(sizes)} pixels, as each trunk takes them.")
    if ratio is not None:
        unit = (
            f"Mean {words} over J = {folds} folds{f', each the mean of its {seeds} seeds' if seeds > 1 else ''}; n counts trainings. "
            if folds > 1
            else f"Mean {words} over J = {count(seeds, 'seed')}. "
        )
        correction = (
            f"test/train = {ratio:.3f}, mean over the folds" if folds > 1 else "test/train = 0 for seeds of one fold"
        )
        parts.append(
            f"{unit}Intervals are 95 % corrected resampled t intervals (Nadeau and Bengio 2003, {correction})."
        )
        if any((row["notes"] or "").find(SIGNS) >= 0 for row in found):
            parts.append("Where all pairs differ by the same, p is that of their signs alone, 2^(1 - J).")
        if not layout:
            reference = arms[0].reference if arms else ""
            parts.append(
                f"Differences to {reference} are paired by {'fold' if folds > 1 else 'seed'}, p is that of the corrected paired t "
                "test, and p (Holm) allows for the number of arms tested."
            )
        if not layout and any(row["pooled_low"] is not None for row in found):
            people = max(row["subjects"] or 0 for row in found)
            parts.append(
                f"The CI over people is a 95 % BCa bootstrap of {people} people within their folds, around the {words} over all test "
                "decisions; it takes the networks as they were trained."
            )
        if folds == 1:
            parts.append("With a single fold the spread seen is that of seeds, not of people.")
        elif any(row["replicated"] == "seed" for row in found):
            parts.append(
                "Arms of which only one fold is there yet have intervals over its seeds, which do not speak of people."
            )
    if not rows.metric.startswith(("test_", "val_")):
        parts.append(f"Measured on {listed(seen(rows, None, 'device'))}.")
    if any(row["among_best"] for row in found):
        among = {"k": " of its row", "dataset": " of its column"}.get(layout["columns"] if layout else "", "")
        parts.append(
            f"Bold, or * in plain text: the best{among}, and those not significantly worse (p > {ALPHA} of one-sided corrected "
            "t tests against all others, Bonferroni)."
        )
    trained = {arm.of: (arm.planned, arm.failed) for arm in arms}
    done = sum(len(arm.values) for arm in rows.arms())
    if missing := sum(planned for planned, _ in trained.values()) - done:
        failed = sum(failed for _, failed in trained.values())
        parts.append(f"{missing} of {len(rows.members)} planned trials are not done ({failed} failed).")
    if any("paper" in row["protocol"] for row in found):
        parts.append("† Protocol paper: the epoch was picked on the test fold, so that the numbers are too high.")
    if any(row["published"] for row in [*found, *extra]):
        parts.append(
            "Published numbers are as others printed them, from other networks, folds and choices of the epoch; nothing is computed "
            "from them."
        )
    return " ".join(parts)


Shown = tuple[tuple[str, ...], list[tuple[str, ...]], set[Cell], dict[Cell, tuple[str, ...]]]


def as_list(metric: str, found: list[Row], arms: dict[str, Arm]) -> Shown:
    """A line an arm."""
    any_published = any(row["published"] for row in found)
    over_people = any(row["pooled_low"] is not None for row in found)
    header = ("arm", "n", metric.replace("_", " "), "95 % CI", *(["95 % CI over people"] if over_people else []),
              "difference", "95 % CI of it", "p", "p (Holm)")  # fmt: skip
    own_columns = 5 if over_people else 4
    lines: list[tuple[str, ...]] = []
    marked: set[Cell] = set()
    keys: dict[Cell, tuple[str, ...]] = {}
    for place, row in enumerate(found):
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        pairs = f" ({count(row['pairs'], 'pair')})" if 0 < row["pairs"] < row["planned"] else ""
        line = (
            row["arm"] + _dagger(row), f"{row['n']}/{row['planned']}{failed}" if row["planned"] else "",
            digits(row["mean"], metric), bounds(row["low"], row["high"], metric),
            *([bounds(row["pooled_low"], row["pooled_high"], metric)] if over_people else []),
            digits(row["difference"], metric, "+") + pairs,
            bounds(row["difference_low"], row["difference_high"], metric, "+"), p_value(row["p"]), p_value(row["p_holm"]),
        )  # fmt: skip
        lines.append((*line, _published(row, metric)) if any_published else line)
        if row["among_best"]:
            marked.add((place, 2))
        arm = arms.get(row["arm"])
        reference = arms.get(arm.reference) if arm else None
        both = [*row["trial_keys"], *(reference.keys[at] for at in sorted(reference.keys))] if reference else []
        for column in range(1, len(header)):
            own = row["trial_keys"] if column < own_columns else both if row["pairs"] else []
            if own:
                keys[place, column] = tuple(own)
    return ((*header, "published") if any_published else header), lines, marked, keys


def as_grid(layout: Row, metric: str, found: list[Row], extra: list[Row]) -> Shown:
    """Rows and columns of two factors; under them what others published and no arm of ours is about."""
    placed = {(row["row"], row["column"]): row for row in found if row["row"] is not None}
    names = list(dict.fromkeys(row for row, _ in placed))
    levels = list(dict.fromkeys(column for _, column in placed))
    with_published = [
        level
        for level in levels
        if any(row["published"] for row in (*placed.values(), *extra) if row["column"] == level)
    ]
    homeless = any(row["column"] is None for row in extra)
    header = (
        layout["rows"],
        *levels,
        *(f"{level}, published" for level in with_published),
        *(["published"] if homeless else []),
    )
    lines: list[tuple[str, ...]] = []
    marked: set[Cell] = set()
    keys: dict[Cell, tuple[str, ...]] = {}
    for place, name in enumerate(names):
        line = [name]
        for column, level in enumerate(levels, 1):
            row = placed.get((name, level))
            line.append("" if row is None else _cell(row, metric))
            if row is not None and row["among_best"]:
                marked.add((place, column))
            if row is not None and row["trial_keys"]:
                keys[place, column] = tuple(row["trial_keys"])
        line += [_published(placed[name, level], metric) if (name, level) in placed else "" for level in with_published]
        lines.append((*line, *([""] if homeless else [])))
    for name in dict.fromkeys(row["row"] for row in extra):
        own = [row for row in extra if row["row"] == name]
        by_level = [
            "; ".join(_published(row, metric) for row in own if row["column"] == level) for level in with_published
        ]
        rest = ["; ".join(_published(row, metric) for row in own if row["column"] is None)] if homeless else []
        lines.append((name, *("" for _ in levels), *by_level, *rest))
    return header, lines, marked, keys


def _cell(row: Row, metric: str) -> str:
    count = f"({row['n']}/{row['planned']})" if row["n"] < row["planned"] else ""
    if row["mean"] is None:
        return count.strip("()")
    parts = (digits(row["mean"], metric) + _dagger(row), bounds(row["low"], row["high"], metric), count)
    return " ".join(part for part in parts if part)


def _dagger(row: Row) -> str:
    return " †" if "paper" in row["protocol"] else ""


def _published(row: Row, metric: str) -> str:
    return "; ".join(f"{value:.4f}" if metric in FRACTIONS else digits(value, metric) for value in row["published"])
