"""Tables across studies: what the published habit flatters, what a search flatters, and arms over several data sets.

optimism         the same trials under the protocols sealed and paper
winners_curse    the best trial of each search, against fresh seeds of its configuration
ranks            the arms of one ablation over its data sets: average ranks, Friedman's test, critical difference
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from results.asking import query
from results.comparison import interval
from results.errors import StoreError
from results.over_data_sets import ranks_table
from results.proposals import Proposal, proposals
from results.render import Table
from results.replication import Row, StudyRows, several
from results.stats import Place, holm, paired_test, replicates
from results.store import Store
from results.winners_curse import Optimism, winners_curse
from results.wording import bounds, digits, p_value


def _without(*names: str) -> str:
    """SQL for a trial's configuration but for what it may differ in and still be the same trial."""
    return f"json_merge_patch(config, '{json.dumps(dict.fromkeys(names))}')"


SAME_PLACE = _without("study", "arm", "protocol", "validation_fraction", "fold", "seed")
SAME_SEED = _without("study", "arm", "seed", "search")
OF_EACH = ", ".join(
    f"{value} FILTER (protocol = '{protocol}') AS {protocol}{end}"
    for protocol in ("sealed", "paper")
    for value, end in (("min(trial_key)", "_key"), ("arg_min(test_accuracy, trial_key)", ""))
)
# Only trials that columns do not tell apart have their configurations compared, which takes longest.
PAIRS = f"""
WITH named AS (SELECT m.trial_key FROM members m JOIN studies s USING (study)
               WHERE s.study = getvariable('study') OR s.ablation = getvariable('study')),
done AS (SELECT trial_key, protocol, fold, seed,
             concat_ws(' ', dataset, data_fingerprint, method, form, slices, embedding_dim, epochs_planned, image_size, batch_size) AS looks
         FROM trials WHERE status = 'done' AND test_accuracy IS NOT NULL
         AND (getvariable('study') IS NULL OR trial_key IN (FROM named))),
both_ways AS (SELECT looks, fold, seed FROM done GROUP BY ALL HAVING count(DISTINCT protocol) > 1),
chosen AS (SELECT trial_key FROM done SEMI JOIN both_ways USING (looks, fold, seed))
SELECT {SAME_PLACE} AS same, fold, seed, min(arm) AS arm, min(dataset) AS dataset,
    avg(test_images / train_images) FILTER (protocol = 'sealed') AS ratio, {OF_EACH}
FROM trials SEMI JOIN chosen USING (trial_key)
GROUP BY same, fold, seed HAVING sealed_key IS NOT NULL AND paper_key IS NOT NULL ORDER BY same, fold, seed
"""  # noqa: S608 - columns of ours
# Trials of the configurations of some, whose keys are the variable, with any seeds, that no search proposed.
FRESH = f"""
WITH chosen AS (SELECT unnest(string_split(getvariable('study'), ' ')) AS trial_key),
best AS (SELECT trial_key AS best_key, fold, method, dataset, {SAME_SEED} AS same FROM trials SEMI JOIN chosen USING (trial_key)),
fresh AS (SELECT trial_key, seed, METRIC AS metric, fold, method, dataset, {SAME_SEED} AS same
          FROM trials SEMI JOIN best USING (fold, method, dataset)
          WHERE status = 'done' AND METRIC IS NOT NULL AND json_extract_string(config, '$.search') IS NULL)
SELECT best_key, trial_key, seed, metric FROM fresh JOIN best USING (fold, method, dataset, same) ORDER BY best_key, seed, trial_key
"""  # noqa: S608 - columns of ours


def optimism_table(store: Store, study: str = "") -> Table:
    """By how much the accuracy of an arm rises when the epoch is picked on the test fold: paper - sealed, paired by fold.

    Under the protocol paper all training people train, too, where sealed keeps some for validation: the difference holds both.

    Raises:
        StoreError: no trial was done under both.

    """
    read = query(store, PAIRS, study or None)
    pairs: dict[str, list[Row]] = defaultdict(list)
    for row in (dict(zip(read.columns, values, strict=True)) for values in read.rows):
        pairs[row["same"]].append(row)
    if not pairs:
        raise StoreError(
            "No trial was done under both protocols: run an ablation again with protocol=paper, and everything else as it was."
        )
    found = [_optimism(some) for some in pairs.values()]
    found.sort(key=lambda row: (row["dataset"], row["arm"], row["trial_keys"]))
    tested = [row for row in found if row["p"] is not None]
    for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = corrected
    columns = ("arm", "dataset", "n", "sealed", "paper", "optimism", "low", "high", "p", "trial_keys", "p_holm")
    shown = [
        (row["arm"], row["dataset"], str(row["n"]), *(digits(row[name], "test_accuracy") for name in ("sealed", "paper")),
         digits(row["optimism"], "test_accuracy", "+"), bounds(row["low"], row["high"], "test_accuracy", "+"),
         p_value(row["p"]), p_value(row.get("p_holm")))
        for row in found
    ]  # fmt: skip
    caption = (
        "What the published habit is worth: test accuracy of the same n trainings under protocol=paper (the epoch picked on the test "
        "fold, all training people trained on) and under protocol=sealed, paired by fold and seed; 95 % corrected resampled t "
        "intervals over folds, means over their seeds (of a single fold: over its seeds, which do not speak of people); p (Holm) allows "
        "for the number of lines."
    )
    header = ("arm", "data set", "n", "sealed", "paper †", "optimism", "95 % CI", "p", "p (Holm)")
    of = _keys([row["trial_keys"] for row in found], 2, len(header))
    values = [tuple(row.get(name) for name in columns) for row in found]
    return Table(columns, values, caption, (header, shown), keys=of, types={"p_holm": float})


def _optimism(pairs: list[Row]) -> Row:
    """The line of one configuration."""
    folds: dict[int, list[float]] = defaultdict(list)
    for row in pairs:
        if row["ratio"]:
            folds[row["fold"]].append(row["ratio"])
    mean_ratio = fmean(map(fmean, folds.values())) if folds else 0.0
    arms = [{(row["fold"], row["seed"]): row[protocol] for row in pairs} for protocol in ("sealed", "paper")]
    (sealed, paper), ratio = replicates(arms, mean_ratio)
    mean, low, high = interval([b - a for a, b in zip(sealed, paper, strict=True)], ratio)
    keys = [row[name] for row in pairs for name in ("sealed_key", "paper_key")]
    found = {
        "arm": min(row["arm"] for row in pairs),
        "dataset": pairs[0]["dataset"],
        "n": len(pairs),
        "trial_keys": keys,
    }
    means = {"sealed": fmean(sealed), "paper": fmean(paper), "optimism": mean, "low": low, "high": high}
    return found | means | {"p": paired_test(paper, sealed, ratio)[1]}


NEEDED = ("status", "fold", "seed", "epochs", "seconds")  # of the trials of a search, beside its metric


class Curse(NamedTuple):
    """A search whose best configuration was trained again; `keys` are of the trainings of both."""

    search: str
    metric: str
    best_key: str
    keys: list[str]
    said: Optimism


def cursed(store: Store, searches: Sequence[str]) -> list[Curse]:
    """What fresh seeds say of the best proposal of each search; nothing where there are none.

    Of a proposal that was trained on several folds a fresh run is one seed on all of them.
    """
    studies = several(store, searches, NEEDED)
    tried = {name: proposals(rows) for name, rows in studies.items()}
    best = {name: _best(rows, tried[name]) for name, rows in studies.items()}
    by_metric: dict[str, list[str]] = defaultdict(list)
    for name, chosen in best.items():
        by_metric[studies[name].metric] += chosen.keys if chosen else ()
    fresh: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
    for metric, keys in by_metric.items():
        for key, trial, seed, value in query(store, FRESH.replace("METRIC", f'"{metric}"'), " ".join(keys)).rows:
            fresh[key].append((trial, seed, value))
    return [one for name, rows in studies.items() if (one := _curse(rows, tried[name], best[name], fresh))]


def _best(rows: StudyRows, tried: Sequence[Proposal]) -> Proposal | None:
    """The best of the proposals that were trained to their end."""
    done = [one for one in tried if one.trial["status"] == "done"]
    choose = min if rows.less_is_better else max
    return choose(done, key=lambda one: (one.trial[rows.metric], one.trial["trial_key"]), default=None)


def _curse(
    rows: StudyRows,
    tried: Sequence[Proposal],
    best: Proposal | None,
    fresh: Mapping[str, list[tuple[str, int, float]]],
) -> Curse | None:
    """The best proposal of a search against the runs that have new seeds; `fresh` are key, seed and value for each key."""
    if best is None:
        return None
    by_fold = {rows.trials[key]["fold"]: key for key in best.keys}
    chosen_by = {rows.trials[key]["seed"] for key in best.keys}
    of_seed: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for key in by_fold.values():
        for trial, seed, value in fresh.get(key, ()):
            if seed not in chosen_by:
                of_seed[seed].append((trial, value))
    runs = [of_seed[seed] for seed in sorted(of_seed) if len(of_seed[seed]) == len(by_fold)]
    if not runs:
        return None
    values = [fmean(value for _, value in run) for run in runs]
    done = [one.trial[rows.metric] for one in tried if one.trial["status"] == "done"]
    said = winners_curse(done, values, rows.less_is_better, len(tried) - len(done))
    keys = [*best.keys, *(key for run in runs for key, _ in run)]
    return Curse(rows.study["study"], rows.metric, best.trial["trial_key"], keys, said)


def winners_curse_table(store: Store, study: str = "") -> Table:
    """The best trial of each search against trials of the same configuration with other seeds, by the search's metric.

    Raises:
        StoreError: no search has any.

    """
    searches = sorted(
        row["study"] for row in store.read("studies", ["study", "kind"]).to_pylist() if row["kind"] == "search"
    )
    found = cursed(store, [name for name in searches if study in ("", name)])
    if not found:
        raise StoreError(
            "No search has its best configuration trained again with fresh seeds: run it as a method of its own, with seeds=5 and the "
            "same recipe (python results/query.py --table STUDY shows its parameters)."
        )
    columns = (
        *("search", "metric", "trials", "best", "best_key", "fresh", "fresh_runs", "optimism", "low", "high", "luck"),
        *("trial_keys", "stopped", "sentence"),
    )
    keys = [one.keys for one in found]
    values = [
        (one.search, one.metric, one.said.trials, one.said.best, one.best_key, *one.said[2:4][::-1], *one.said[4:7], one.said.luck, both,
         one.said.stopped, one.said.sentence())
        for one, both in zip(found, keys, strict=True)
    ]  # fmt: skip
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
    shown: list[tuple[str, ...]] = [
        (one.search, one.metric.replace("_", " "), str(one.said.trials), f"{one.said.best:.3f}", f"{one.said.fresh:.3f}",
         str(one.said.fresh_runs), f"{one.said.optimism:+.3f}", bounds(one.said.low, one.said.high, one.metric, "+"),
         "" if one.said.luck is None else f"{one.said.luck:+.3f}")
        for one in found
    ]  # fmt: skip
    caption = (
        "The winner's curse: the best value of a search against the mean of the same configuration on fresh seeds, on the same images; "
        "trials are all that the search tried, those that it stopped early among them; luck alone is the optimism that so many equally "
        "good trials as noisy as the fresh ones would show."
    )
    return Table(columns, values, caption, (header, shown), keys=_keys(keys, 3, len(header)))


def _keys(keys: list[list[str]], first: int, columns: int) -> dict[Place, tuple[str, ...]]:
    """The trial keys of each row for its cells from a column on."""
    return {(place, column): tuple(some) for place, some in enumerate(keys) for column in range(first, columns)}


ACROSS: dict[str, Callable[[Store, str], Table]] = {
    "optimism": optimism_table,
    "winners_curse": winners_curse_table,
    "ranks": ranks_table,
}
