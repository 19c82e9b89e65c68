"""The arms of one ablation over its data sets: average ranks, Friedman's test, the critical difference, Wilcoxon's tests."""

import json
import math
from collections import defaultdict
from statistics import fmean
from typing import Any

from results.asking import query
from results.errors import StoreError
from results.ranks import Ranked, cliques, critical_difference, friedman
from results.render import Table
from results.replication import Row, several
from results.signflips import wilcoxon
from results.stats import holm, replicates
from results.store import Store
from results.wording import listed, p_value

# What a study was trained on is said by its trials; an ablation without a name has no other that it could be matched with.
STUDIES = """
SELECT s.study, s.ablation, s.created_at, min(t.dataset) AS dataset, min(t.data_fingerprint) AS fingerprint
FROM studies s JOIN members m ON m.study = s.study JOIN trials t ON t.trial_key = m.trial_key
WHERE s.kind = 'ablation' AND s.ablation IS NOT NULL AND coalesce(s.ablation = getvariable('study'), true)
GROUP BY s.study, s.ablation, s.created_at ORDER BY s.created_at, s.study
"""
COLUMNS = ("wilcoxon_against", "p_wilcoxon", "p_wilcoxon_holm", "critical_difference", "friedman_p", "data_sets")


def ranks_table(store: Store, study: str = "") -> Table:
    """Average ranks of the arms of one ablation over the data sets that it was run on, the latest study of each.

    Data sets are told apart by their content: CK+ of seven and of eight classes are two.

    Raises:
        StoreError: there is no such ablation, there are several, or it has no two data sets or arms to rank.

    """
    ablation, latest = _latest(store, study)
    read = several(store, [row["study"] for row in latest], ["status", "dataset"])
    studies = {name: read[row["study"]] for name, row in _called(store, latest).items()}
    means = {name: {arm.name: arm for arm in rows.arms() if arm.values} for name, rows in studies.items()}
    arms = [arm for arm in next(iter(means.values())) if all(arm in known for known in means.values())]
    if len(arms) < 2:
        raise StoreError(f"Ranks need two arms that are done on all of {listed(sorted(means))}, found {len(arms)}.")
    less = {rows.less_is_better for rows in studies.values()}.pop()
    scores = [[fmean(replicates([known[arm].values], 0.0)[0][0]) for arm in arms] for known in means.values()]
    test, difference = friedman(scores, less), critical_difference(len(arms), len(means))
    ranks = dict(zip(arms, test.ranks, strict=True))
    order = sorted(arms, key=ranks.__getitem__)
    groups = cliques(ranks, difference)
    best = next((set(group) for group in groups if order[0] in group), {order[0]})
    reference = str(next(iter(studies.values())).study["baseline"] or "")
    reference = reference if reference in arms else order[0]
    by_arm = {arm: [row[place] for row in scores] for place, arm in enumerate(arms)}
    p_values = {arm: wilcoxon(by_arm[arm], by_arm[reference])[1] for arm in arms if arm != reference}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    columns = ("arm", "rank", "in_best_group", *means, "trial_keys", *COLUMNS)
    found: list[tuple[Any, ...]] = []
    for arm in order:
        keys = [key for known in means.values() for _, key in sorted(known[arm].keys.items())]
        against = (reference, p_values.get(arm), corrected.get(arm), difference, test.p, len(means))
        found.append((arm, ranks[arm], arm in best, *by_arm[arm], keys, *against))
    metrics = {rows.metric for rows in studies.values()}
    header = ("arm", "average rank", *means, f"p against {reference} (Wilcoxon, Holm)")
    shown = [
        (arm, f"{ranks[arm]:.2f}", *(f"{value:.3f}" for value in by_arm[arm]), p_value(corrected.get(arm)))
        for arm in order
    ]
    bars = "; ".join(" – ".join(group) for group in groups) or "none"
    said = p_value(test.p)
    strength = f"F {f'= {test.f:.2f}' if math.isfinite(test.f) else 'without bound'}, p {said if said[0] == '<' else f'= {said}'}"
    caption = (
        f"The ablation {ablation} over {len(means)} data sets by {listed(sorted(metrics)).replace('_', ' ')}: average ranks, 1 is the "
        f"best. Friedman with Iman and Davenport's correction: {strength}. Nemenyi's critical difference at 0.05 "
        f"is {difference:.2f} ranks; groups that do not differ: {bars}. Bold, or * in plain text: the best, and those in its group. "
        f"Data sets count as independent. Wilcoxon's signed rank test over them, of which {len(means)} give no p below "
        f"{2.0 ** (1 - len(means)):.3g}, does not depend on which other arms there are, as ranks do."
    )
    if len({row["dataset"] for row in latest}) < len(latest):
        caption += " Data sets of one name share faces: they are not independent, and p is too small."
    planned = sum(known[arm].planned for known in means.values() for arm in arms)
    if missing := planned - sum(len(known[arm].values) for known in means.values() for arm in arms):
        caption += (
            f" {missing} of {planned} planned trials are not done, so that means may be over different folds and seeds."
        )
    marked = frozenset((place, 1) for place, arm in enumerate(order) if arm in best)
    last = len(header) - 1
    of = {(place, column): tuple(row[3 + len(means)]) for place, row in enumerate(found) for column in (1, last)}
    for place, arm in enumerate(order):
        for column, known in enumerate(means.values(), 2):
            of[place, column] = tuple(key for _, key in sorted(known[arm].keys.items()))
    ranked = Ranked(ablation, len(means), ranks, difference, groups)
    return Table(columns, found, caption, (header, shown), marked, of, picture=lambda: _picture(ranked))


def _latest(store: Store, study: str) -> tuple[str, list[Row]]:
    """The ablation that was run on several data sets, and its latest study on each."""
    read = query(store, STUDIES, study or None)
    found: dict[str, dict[tuple[str, str], Row]] = defaultdict(dict)
    for row in (dict(zip(read.columns, values, strict=True)) for values in read.rows):
        found[row["ablation"]][str(row["dataset"]), row["fingerprint"] or ""] = row  # a later one takes its place
    several = {name: studies for name, studies in found.items() if len(studies) > 1}
    if not several:
        raise StoreError(
            f"Ranks need one ablation on two data sets, found {listed(sorted(found)) if found else 'none'}"
            f"{' on one' if found else ''}: run it on another dataset=."
        )
    if len(several) > 1:
        raise StoreError(
            f"There are several ablations on more than one data set: say which, as in study={min(several)}."
        )
    [(ablation, studies)] = several.items()
    return ablation, list(studies.values())


def _called(store: Store, latest: list[Row]) -> dict[str, Row]:
    """The studies by their data set; of those that share a name with the options in which they differ, or what they hold."""
    configs = {row["study"]: row["config"] for row in store.read("studies", ["study", "config"]).to_pylist()}
    found: dict[str, Row] = {}
    for row in latest:
        twins = [other for other in latest if other["dataset"] == row["dataset"]]
        options = [json.loads(configs[one["study"]] or "{}").get("dataset", {}) for one in (row, *twins)]
        names = sorted({name for one in options for name in one} - {"root", "cache", "name"})
        differ = [name for name in names if len({json.dumps(one.get(name)) for one in options}) > 1]
        said = ", ".join(f"{name} {options[0].get(name)}" for name in differ) or (row["fingerprint"] or "unknown")[:8]
        found[f"{row['dataset']} ({said})" if len(twins) > 1 else str(row["dataset"])] = row
    return found


def _picture(ranked: Ranked) -> str:
    from results.page.ranked import picture  # here, as pages are made of tables

    return picture(ranked)
