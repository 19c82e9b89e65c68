"""Tables across studies: what the published habit flatters, what a search flatters, and arms over several data sets.

optimism         the same trials under the protocols sealed and paper
winners_curse    the best trial of each search, against fresh seeds of its configuration
ranks            the arms of one ablation over its data sets: average ranks, Friedman's test, critical difference
"""

import json
from collections import defaultdict
from collections.abc import Callable
from statistics import fmean
from typing import Any

from results.comparison import interval
from results.errors import StoreError
from results.ranks import cliques, critical_difference, friedman
from results.render import Table
from results.replication import Row, StudyRows, study_rows
from results.stats import Place, paired_test, replicates
from results.store import Store
from results.winners_curse import winners_curse
from results.wording import digits, listed

_NEEDED = [
    "trial_key",
    "study",
    "arm",
    "dataset",
    "fold",
    "seed",
    "protocol",
    "status",
    "config",
    "train_images",
    "test_images",
]
# What a trial's configuration may differ in and still be the same trial under another protocol, or with another seed.
_PROTOCOL = ("study", "arm", "protocol", "validation_fraction")
_SEED = ("study", "arm", "seed", "search")


def optimism_table(store: Store, study: str = "") -> Table:
    """By how much the accuracy of an arm rises when the epoch is picked on the test fold: paper - sealed, paired by fold.

    Under the protocol paper all training people train, too, where sealed keeps some for validation: the difference holds both.
    """
    named = _members(store, study)
    pairs: dict[str, dict[Place, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    labels: dict[str, tuple[str, str]] = {}
    for row in store.read("trials", [*_NEEDED, "test_accuracy"]).to_pylist():
        if (
            row["status"] != "done"
            or row["test_accuracy"] is None
            or (named is not None and row["trial_key"] not in named)
        ):
            continue
        same = _without(row["config"], (*_PROTOCOL, "fold", "seed"))
        pairs[same][row["fold"], row["seed"]][row["protocol"]] = row
        labels[same] = min(labels.get(same, (row["arm"], row["dataset"])), (row["arm"], row["dataset"]))
    columns = ("arm", "dataset", "n", "sealed", "paper", "optimism", "low", "high", "p", "trial_keys")
    found = []
    for same, places in sorted(pairs.items(), key=lambda pair: (labels[pair[0]][::-1], pair[0])):
        both = {place: rows for place, rows in sorted(places.items()) if len(rows) == 2}
        if not both:
            continue
        arms = [
            {place: rows[protocol]["test_accuracy"] for place, rows in both.items()} for protocol in ("sealed", "paper")
        ]
        (sealed, paper), ratio = replicates(arms, _ratio([rows["sealed"] for rows in both.values()]))
        mean, low, high = interval([b - a for a, b in zip(sealed, paper, strict=True)], ratio)
        keys = [row["trial_key"] for rows in both.values() for row in rows.values()]
        p = paired_test(paper, sealed, ratio)[1]
        found.append((*labels[same], len(both), fmean(sealed), fmean(paper), mean, low, high, p, keys))
    if not found:
        raise StoreError(
            "No trial was done under both protocols: run an ablation again with protocol=paper, and everything else as it was."
        )
    shown = [
        (arm, dataset, str(n), *(digits(value, "test_accuracy") for value in (sealed, paper)), digits(mean, "test_accuracy", "+"),
         "" if low is None else f"[{low:+.3f}, {high:+.3f}]", "" if p is None else f"{p:.3f}")
        for arm, dataset, n, sealed, paper, mean, low, high, p, _ in found
    ]  # fmt: skip
    caption = (
        "What the published habit is worth: test accuracy of the same n trainings under protocol=paper (the epoch picked on the test "
        "fold, all training people trained on) and under protocol=sealed, paired by fold and seed; 95 % corrected resampled t "
        "intervals over folds, means over their seeds (of a single fold: over its seeds, which do not speak of people)."
    )
    header = ("arm", "data set", "n", "sealed", "paper †", "optimism", "95 % CI", "p")
    of = _keys(found, 2, len(header))
    return Table(columns, found, caption, (header, shown), keys=of)


def winners_curse_table(store: Store, study: str = "") -> Table:
    """The best trial of each search against trials of the same configuration with other seeds, by the search's metric."""
    columns = (
        "search",
        "metric",
        "trials",
        "best",
        "best_key",
        "fresh",
        "fresh_runs",
        "optimism",
        "low",
        "high",
        "luck",
        "trial_keys",
    )
    found = []
    for row in sorted(store.read("studies").to_pylist(), key=lambda row: str(row["study"])):
        if row["kind"] != "search" or study not in ("", row["study"]):
            continue
        rows = study_rows(store, row["study"])
        metric, less = rows.metric, rows.less_is_better
        searched = [trial for trial in rows.done() if json.loads(trial["config"]).get("search")]
        if not searched:
            continue
        best = (min if less else max)(searched, key=lambda trial: (trial[metric], trial["trial_key"]))
        same = _without(best["config"], _SEED)
        others = store.read("trials", ["trial_key", "config", "status", "seed", metric]).to_pylist()
        fresh = [
            other
            for other in others
            if other["status"] == "done" and other[metric] is not None and other["seed"] != best["seed"]
            and not json.loads(other["config"]).get("search") and _without(other["config"], _SEED) == same
        ]  # fmt: skip
        fresh.sort(key=lambda other: (other["seed"], other["trial_key"]))
        if fresh:
            said = winners_curse([trial[metric] for trial in searched], [trial[metric] for trial in fresh], less)
            keys = [best["trial_key"], *(trial["trial_key"] for trial in fresh)]
            found.append((row["study"], metric, said.trials, said.best, best["trial_key"], said.fresh, said.fresh_runs, said.optimism,
                          said.low, said.high, said.luck, keys))  # fmt: skip
    if not found:
        raise StoreError(
            "No search has its best configuration trained again with fresh seeds: run it as a method of its own, with seeds=5 and the "
            "same recipe (python results/query.py --table STUDY shows its parameters)."
        )
    shown: list[tuple[str, ...]]
    header: tuple[str, ...] = (
        "search",
        "metric",
        "trials",
        "best",
        "fresh mean",
        "fresh seeds",
        "optimism",
        "95 % CI",
        "luck alone",
    )
    shown = [
        (name, metric.replace("_", " "), str(trials), f"{best:.3f}", f"{fresh:.3f}", str(runs), f"{worth:+.3f}",
         "" if low is None else f"[{low:+.3f}, {high:+.3f}]", "" if luck is None else f"{luck:+.3f}")
        for name, metric, trials, best, _, fresh, runs, worth, low, high, luck, _ in found
    ]  # fmt: skip
    caption = (
        "The winner's curse: the best value of a search against the mean of the same configuration on fresh seeds, on the same images; "
        "luck alone is the optimism that equally good trials as noisy as the fresh ones would show."
    )
    of = _keys(found, 3, len(header))
    return Table(columns, found, caption, (header, shown), keys=of)


def ranks_table(store: Store, study: str = "") -> Table:
    """Average ranks of the arms of one ablation over the data sets that it was run on, the latest study of each."""
    latest: dict[str, dict[str, StudyRows]] = defaultdict(dict)
    for row in sorted(store.read("studies").to_pylist(), key=lambda row: (str(row["created_at"]), row["study"])):
        if row["kind"] == "ablation" and study in ("", row["ablation"]):
            rows = study_rows(store, row["study"])
            if rows.dataset[0]:
                latest[row["ablation"]][rows.dataset[0]] = rows
    several = {name: studies for name, studies in latest.items() if len(studies) > 1}
    if not several:
        raise StoreError(
            f"Ranks need one ablation on two data sets, found {listed(sorted(latest)) if latest else 'none'}"
            f"{' on one' if latest else ''}: run it on another dataset=."
        )
    if len(several) > 1:
        raise StoreError(
            f"There are several ablations on more than one data set: say which, as in study={min(several)}."
        )
    [(ablation, studies)] = several.items()
    means = {name: {arm.name: arm for arm in rows.arms() if arm.values} for name, rows in studies.items()}
    arms = [arm for arm in next(iter(means.values())) if all(arm in known for known in means.values())]
    if len(arms) < 2:
        raise StoreError(f"Ranks need two arms that are done on all of {listed(sorted(means))}, found {len(arms)}.")
    less = {rows.less_is_better for rows in studies.values()}.pop()
    scores = [[fmean(replicates([known[arm].values], 0.0)[0][0]) for arm in arms] for known in means.values()]
    test, difference = friedman(scores, less), critical_difference(len(arms), len(means))
    ranks = dict(zip(arms, test.ranks, strict=True))
    groups = cliques(ranks, difference)
    best = next(
        (set(group) for group in groups if min(arms, key=ranks.__getitem__) in group),
        {min(arms, key=ranks.__getitem__)},
    )
    columns = ("arm", "rank", "in_best_group", *means, "trial_keys")
    order = sorted(arms, key=ranks.__getitem__)
    found: list[tuple[Any, ...]] = []
    for arm in order:
        keys = [key for known in means.values() for _, key in sorted(known[arm].keys.items())]
        found.append((arm, ranks[arm], arm in best, *(row[arms.index(arm)] for row in scores), keys))
    metrics = {rows.metric for rows in studies.values()}
    header = ("arm", "average rank", *means)
    shown = [(arm, f"{rank:.2f}", *(f"{value:.3f}" for value in values)) for arm, rank, _, *values, _ in found]
    bars = "; ".join(" – ".join(group) for group in groups) or "none"
    caption = (
        f"The ablation {ablation} over {len(means)} data sets by {listed(sorted(metrics)).replace('_', ' ')}: average ranks, 1 is the "
        "best. "
        f"Friedman with Iman and Davenport's correction: F = {test.f:.2f}, p = {test.p:.3f}. Nemenyi's critical difference at 0.05 is "
        f"{difference:.2f} ranks; groups that do not differ: {bars}. Bold, or * in plain text: the best, and those in its group."
    )
    planned = sum(known[arm].planned for known in means.values() for arm in arms)
    if missing := planned - sum(len(known[arm].values) for known in means.values() for arm in arms):
        caption += (
            f" {missing} of {planned} planned trials are not done, so that means may be over different folds and seeds."
        )
    marked = frozenset((place, 1) for place, row in enumerate(found) if row[2])
    of = _keys(found, 1, len(header))
    return Table(columns, found, caption, (header, shown), marked, of)


def _keys(found: list[tuple[Any, ...]], first: int, columns: int) -> dict[Place, tuple[str, ...]]:
    """The trial keys, the last value of each row, for its cells from a column on."""
    return {(place, column): tuple(row[-1]) for place, row in enumerate(found) for column in range(first, columns)}


ACROSS: dict[str, Callable[[Store, str], Table]] = {
    "optimism": optimism_table,
    "winners_curse": winners_curse_table,
    "ranks": ranks_table,
}


def _members(store: Store, name: str) -> set[str] | None:
    """Keys of the trials of the studies called so, or of the ablation; None for no name."""
    if not name:
        return None
    studies = {row["study"] for row in store.read("studies", ["study", "ablation"]).to_pylist() if name in row.values()}
    rows = store.read("members", ["study", "trial_key"]).to_pylist()
    return {row["trial_key"] for row in rows if row["study"] in studies}


def _without(config: str, names: tuple[str, ...]) -> str:
    return json.dumps({name: value for name, value in json.loads(config).items() if name not in names}, sort_keys=True)


def _ratio(rows: list[Row]) -> float:
    """Test images per training image, mean over the folds."""
    folds: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row["train_images"] and row["test_images"]:
            folds[row["fold"]].append(row["test_images"] / row["train_images"])
    return fmean(fmean(ratios) for ratios in folds.values()) if folds else 0.0
