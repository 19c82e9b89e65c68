"""Tables across studies, from the command's --table."""

import json
from statistics import fmean

import pytest

from results import Store, StoreError
from results.render import FORMATS, encode, render
from results.stats import mean_interval
from results.tables import named_table
from tests.results.fakes import START, fake_ablation, fake_trial


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "tables")


def records(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def commit(store, key, accuracy, *, seed=0, search=None, protocol="sealed", **changes):
    spec = {
        "seed": seed,
        "search": search,
        "protocol": protocol,
        "fold": changes.get("fold", 0),
        "study": "s",
        "arm": key,
    }
    spec["validation_fraction"] = 0.0 if protocol == "paper" else 0.1
    spec["options"] = changes.pop("options", {})
    store.commit(
        key, fake_trial(key, accuracy=accuracy, seed=seed, protocol=protocol, config=json.dumps(spec), **changes)
    )


def test_optimism_pairs_the_same_trials_under_both_protocols(store):
    gains = {(0, 0): 0.03, (0, 1): 0.05, (1, 0): 0.01, (1, 1): 0.03}
    for (fold, seed), gain in gains.items():
        commit(store, f"sealed{fold}{seed}", 0.7, fold=fold, seed=seed)
        commit(store, f"paper{fold}{seed}", 0.7 + gain, fold=fold, seed=seed, protocol="paper")
    commit(store, "alone", 0.9, fold=0, options={"weight": 2})
    [row] = records(named_table(store, "optimism"))
    assert (row["n"], row["sealed"], row["paper"]) == (4, pytest.approx(0.7), pytest.approx(0.73))
    expected = mean_interval([0.04, 0.02], 50 / 160)
    assert (row["optimism"], row["low"], row["high"]) == pytest.approx(expected)
    assert len(row["trial_keys"]) == 8
    assert "picked on the test" in named_table(store, "optimism").caption
    assert "of a single fold: over its seeds" in named_table(store, "optimism").caption
    for name in FORMATS:
        assert encode(named_table(store, "optimism"), name)


def test_the_best_of_a_search_against_fresh_seeds(store):
    for index, accuracy in enumerate((0.6, 0.9, 0.7)):
        commit(store, f"hunt{index}", accuracy, search="hunt", options={"weight": index}, study="hunt")
        member = {
            "study": "hunt",
            "arm": f"hunt{index}",
            "index": index,
            "fold": 0,
            "seed": 0,
            "trial_key": f"hunt{index}",
        }
        store.write("members", f"hunt-{index}", [member])
    store.write("studies", "hunt", [{"study": "hunt", "kind": "search", "metric": "val_accuracy", "created_at": START}])
    with pytest.raises(StoreError, match="fresh seeds"):
        named_table(store, "winners_curse")
    for seed, accuracy in ((1, 0.8), (2, 0.82), (3, 0.84)):
        commit(store, f"fresh{seed}", accuracy, seed=seed, options={"weight": 1})
    commit(store, "other", 0.1, seed=4, options={"weight": 0})
    commit(store, "same", 0.1, seed=0, options={"weight": 1})  # the seed that the search chose by
    [row] = records(named_table(store, "winners_curse"))
    assert (row["best"], row["fresh"], row["fresh_runs"]) == (pytest.approx(0.91), pytest.approx(0.83), 3)
    assert row["optimism"] == pytest.approx(0.08)
    assert row["trial_keys"] == ["hunt1", "fresh1", "fresh2", "fresh3"]
    assert render(named_table(store, "winners_curse", "hunt"), "md").startswith("| search |")


def test_ranks_over_data_sets(store):
    arms = {"softmax": 0.5, "dual": 0.7, "mul": 0.9}
    for name in ("ckplus", "mmi", "jaffe"):
        fake_ablation(store, name, arms=arms, folds=2, seeds=1, dataset=name)
    fake_ablation(store, "first", arms={"softmax": 0.9, "dual": 0.7, "mul": 0.5}, folds=2, seeds=1, dataset="ckplus")
    [row] = store.read("studies", study="first").to_pylist()
    store.write("studies", "first", [row | {"created_at": START.replace(year=2020)}])  # an earlier study of ckplus
    table = named_table(store, "ranks")
    rows = records(table)
    assert [(row["arm"], row["rank"]) for row in rows] == [("mul", 1.0), ("dual", 2.0), ("softmax", 3.0)]
    values = [row["test_accuracy"] for row in store.read("trials", study="mmi").to_pylist() if row["arm"] == "mul"]
    assert rows[0]["mmi"] == pytest.approx(fmean(values))
    assert [row["in_best_group"] for row in rows] == [True, True, False]  # the critical difference is 1.91
    assert "**1.00**" in render(table, "md")
    assert "is 1.91 ranks" in table.caption
    assert named_table(store, "ranks", "loss_form") == table
    assert "not done" not in table.caption
    fake_ablation(store, "oulu", arms=arms, folds=2, seeds=1, dataset="oulu_casia", skip=[("mul", 1, 0)])
    assert "1 of 24 planned trials are not done" in named_table(store, "ranks").caption


@pytest.mark.parametrize(
    ("name", "word"), [("optimism", "protocol=paper"), ("ranks", "two data sets"), ("winners_curse", "seeds=5")]
)
def test_what_is_not_there_is_one_sentence(store, name, word):
    fake_ablation(store)
    with pytest.raises(StoreError, match=word):
        named_table(store, name)
