"""The table of an ablation: its arms with intervals and paired tests, as a list or as rows and columns of two factors.

The unit of every interval and test is the fold: the mean over its seeds is one replicate (`stats.replicates`). With a single fold
it is the seed, and the table says so.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

from results.improvement import paired_improvement, probability_of_improvement
from results.laid_out import ALPHA, SIGNS, as_grid, as_list, caption_of, seen
from results.people import decisions, pooled
from results.published import Published, beside
from results.render import Table
from results.replication import Arm, Row, StudyRows, cells, study_rows
from results.signflips import wilcoxon
from results.stats import Interval, Place, effect_size, holm, mean_interval, paired_test, replicates, worse_than_best
from results.store import Store

COLUMNS = (
    *("arm", "metric", "n", "planned", "failed", "mean", "low", "high"),
    *("difference", "difference_low", "difference_high", "pairs", "p", "p_holm", "protocol"),
    *("replicates", "replicated", "effect_size", "effect_low", "effect_high"),
    *("improvement", "improvement_low", "improvement_high", "p_wilcoxon", "p_worse", "among_best", "row", "column"),
    *("published", "published_ids", "trial_keys"),
    *("pooled", "pooled_low", "pooled_high", "subjects"),
    *("run_improvement", "run_improvement_low", "run_improvement_high", "notes"),
)
_TEXT = ("arm", "metric", "protocol", "replicated", "row", "column", "notes")
_COUNTS = ("n", "planned", "failed", "pairs", "replicates", "subjects")
_OTHER: dict[str, Any] = {"among_best": bool, "published": [float], "published_ids": [str], "trial_keys": [str]}
_TYPES = dict.fromkeys(COLUMNS, float) | dict.fromkeys(_TEXT, str) | dict.fromkeys(_COUNTS, int) | _OTHER
# What a reader of the values must know, who does not see the caption; SIGNS is one more.
FOLDS = (
    "p_wilcoxon, improvement_low and improvement_high take folds as independent, which share training images: p_wilcoxon is too small and "
    "the interval too narrow; p, low and high allow for it."
)
SEEDS = "The replicates are seeds of a single fold: intervals and tests speak of seeds, not of people."
PEOPLE = "pooled is over all test decisions, its interval a bootstrap over people of the networks as they were trained."
RUNS = "run_improvement speaks of new seeds on the same folds."


def comparison_table(store: Store, study: str, read: StudyRows | None = None) -> Table:
    """One row per arm: n, mean, interval, and the paired difference to the baseline with its p value.

    People are shown the layout of the ablation where it has one; machines have a row an arm in any case, with effect size,
    probability of improvement, Wilcoxon's p, published numbers, trial keys, and notes on what is to be known of these. `read` is what
    `study_rows` gave, where it is there already.
    """
    rows = read or study_rows(store, study)
    arms, ratio = cells(store, rows), rows.ratio()
    known = {arm.name: arm for arm in arms}
    dataset, classes = rows.dataset
    found = [_compared(rows, arm, known.get(arm.reference), ratio) for arm in arms]
    made = decisions(store, rows)
    for row in found:
        if row["arm"] in made:
            (row["pooled"], row["pooled_low"], row["pooled_high"]), row["subjects"] = pooled(
                made[row["arm"]], rows.metric
            )
            row["notes"] = " ".join(filter(None, (row["notes"], PEOPLE)))
    tested = [row for row in found if row["p"] is not None]
    for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = corrected
    _judge(arms, found, ratio, rows.less_is_better)
    used: set[str] = set()
    for arm, row in zip(arms, found, strict=True):
        numbers = beside(
            rows.study["published"] or (), arm.dataset, classes if arm.dataset == dataset else "", rows.metric
        )
        ours = [one for one in numbers if arm.of in one.arm.split()]
        used |= {one.id for one in ours}
        row |= {"published": [one.in_our_unit for one in ours], "published_ids": [one.id for one in ours]}
    others = [one for one in beside(rows.study["published"] or (), dataset, classes, rows.metric) if one.id not in used]
    layout = rows.layout
    levels = list(dict.fromkeys(row["column"] for row in found if row["column"] is not None))
    extra = [_others_row(one, rows.metric, levels) for one in others]
    caption = caption_of(rows, ratio, arms, found, extra)
    values = [tuple(row.get(column) for column in COLUMNS) for row in [*found, *extra]]
    if layout:
        header, lines, marked, keys = as_grid(layout, rows.metric, found, extra)
    else:
        header, lines, marked, keys = as_list(rows.metric, [*found, *extra], known)
    return Table(COLUMNS, values, caption, (header, lines), frozenset(marked), keys, _TYPES)


def _compared(rows: StudyRows, arm: Arm, reference: Arm | None, ratio: float | None) -> Row:
    """The numbers of one arm, and those of its difference to the one that it is compared with."""
    row: Row = dict.fromkeys(COLUMNS)
    row |= {"arm": arm.name, "metric": rows.metric, "n": len(arm.values), "planned": arm.planned, "failed": arm.failed}
    row |= {"pairs": 0, "replicates": 0, "trial_keys": [arm.keys[place] for place in sorted(arm.keys)]}
    row["row"], row["column"] = arm.place or (None, None)
    row["protocol"] = " and ".join(seen(rows, [arm.of], "protocol"))
    if not arm.values:
        return row
    if ratio is None:
        row["mean"] = fmean(arm.values.values())
        return row
    (own,), its_ratio = replicates([arm.values], ratio)
    row["replicates"], row["replicated"] = len(own), "seed" if len({fold for fold, _ in arm.values}) == 1 else "fold"
    row["mean"], row["low"], row["high"] = interval(own, its_ratio)
    row["notes"] = SEEDS if row["replicated"] == "seed" and len(own) > 1 else None
    pairs = set(arm.values) & set(reference.values) if reference is not None and reference is not arm else set()
    if reference is None or not pairs:
        return row
    (ours, theirs), its_ratio = replicates([arm.values, reference.values], ratio)
    row["pairs"] = len(pairs)
    row["difference"], row["difference_low"], row["difference_high"] = interval(
        [a - b for a, b in zip(ours, theirs, strict=True)], its_ratio
    )
    row["p"] = paired_test(ours, theirs, its_ratio)[1]
    size, row["effect_low"], row["effect_high"] = effect_size(ours, theirs, its_ratio)
    row["effect_size"] = None if math.isnan(size) else size
    better = (theirs, ours) if rows.less_is_better else (ours, theirs)
    row["improvement"], row["improvement_low"], row["improvement_high"] = paired_improvement(*better)
    row["p_wilcoxon"] = wilcoxon(ours, theirs)[1] if len(ours) > 1 else None
    runs = [_runs(one.values, pairs) for one in ((reference, arm) if rows.less_is_better else (arm, reference))]
    if max(map(len, runs[0])) > 1:
        names = ("run_improvement", "run_improvement_low", "run_improvement_high")
        row |= zip(names, probability_of_improvement(runs[0], runs[1], seed=0), strict=True)
    same = row["difference_low"] is None and len(ours) > 1 and row["difference"] != 0
    said = (FOLDS if row["replicated"] == "fold" and len(ours) > 1 else "", SIGNS if same else "",
            RUNS if row["run_improvement"] is not None else "")  # fmt: skip
    row["notes"] = " ".join(filter(None, (row["notes"], *said)))
    return row


def _runs(values: Mapping[Place, float], pairs: Collection[Place]) -> list[list[float]]:
    """The values of each fold, one a seed."""
    folds: dict[int, list[float]] = defaultdict(list)
    for place in sorted(pairs):
        folds[place[0]].append(values[place])
    return list(folds.values())


def interval(values: Sequence[float], ratio: float) -> Interval:
    """`stats.mean_interval`, without bounds where all replicates are the same, which shows no spread rather than none being there."""
    mean, low, high = mean_interval(values, ratio)
    return (mean, None, None) if low is None or high is None or high - low <= 1e-12 else (mean, low, high)


def _judge(arms: Sequence[Arm], found: Sequence[Row], ratio: float | None, less_is_better: bool) -> None:
    """Say of each arm whether it is significantly worse than the best of its group."""
    groups: dict[str, dict[str, Arm]] = defaultdict(dict)
    for arm in arms:
        if arm.values:
            groups[arm.group][arm.name] = arm
    p_values: dict[str, float | None] = {}
    for group in groups.values() if ratio is not None else ():
        p_values |= worse_than_best({name: arm.values for name, arm in group.items()}, ratio or 0.0, less_is_better)
    for row in found:
        p = p_values.get(row["arm"])
        row["p_worse"], row["among_best"] = p, None if p is None else p > ALPHA


def _others_row(one: Published, metric: str, levels: Sequence[str]) -> Row:
    """A number that no arm of ours is about; of a layout in the column that its data set, or the arm it asks for, belongs to."""
    row: Row = dict.fromkeys(COLUMNS)
    empty = {"n": 0, "planned": 0, "failed": 0, "pairs": 0, "replicates": 0, "protocol": "", "trial_keys": []}
    name = f"{one.method} ({one.source})"
    column = next((level for level in levels if level == one.dataset or f"-{one.arm}-".find(f"-{level}-") >= 0), None)
    place = {"row": name, "column": column} if levels else {}
    return (
        row | empty | place | {"arm": name, "metric": metric, "published": [one.in_our_unit], "published_ids": [one.id]}
    )
