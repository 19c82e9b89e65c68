"""Tests and intervals that are made of predictions, image by image."""

import random
from collections import defaultdict
from statistics import fmean

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from mdml.metrics.classification import sequence_accuracy
from results import Store, StoreError
from results.people import decisions, pooled
from results.render import FORMATS, encode
from results.replication import study_rows
from results.resampling import accuracy, bootstrap_interval
from results.signflips import sign_flip
from results.tables import comparison_table, named_table
from tests.results.fakes import fake_ablation, fake_trial

FOLDS, PEOPLE, SHOTS = 3, 5, 4  # people a fold, images a person
SKILL = {"softmax": 0.55, "dual": 0.75}


def guess(arm, fold, seed):
    """Predictions of one trial: people differ in how hard they are."""
    rng = random.Random(f"{arm} {fold} {seed}")
    rows = []
    for person in range(PEOPLE):
        hard = random.Random(f"{fold} {person}").uniform(-0.25, 0.25)
        for shot in range(SHOTS):
            label = shot % 3
            right = rng.random() < SKILL[arm] - hard
            scores = [0.2 + 0.4 * (index == (label if right else (label + 1) % 3)) for index in range(3)]
            rows.append({"image": (fold * PEOPLE + person) * SHOTS + shot, "label": label,
                         "predicted": max(range(3), key=scores.__getitem__), "scores": scores,
                         "subject": f"S{person}", "sequence": f"{fold}-{person}-{shot // 2}"})  # fmt: skip
    rng.shuffle(rows)
    return rows


def fake_judged(store, study="demo", seeds=2, metric="test_accuracy"):
    """An ablation whose accuracies are those of its predictions; people of different folds bear the same names."""
    fake_ablation(store, study, arms=SKILL, folds=FOLDS, seeds=seeds)
    made = {}
    for member in store.read("members", study=study).to_pylist():
        key, place = member["trial_key"], (member["arm"], member["fold"], member["seed"])
        made[place] = guess(*place)
        right = fmean(row["label"] == row["predicted"] for row in made[place])
        scores, labels = (torch.tensor([row[name] for row in made[place]]) for name in ("scores", "label"))
        changes = {
            "test_sequence_accuracy": sequence_accuracy(scores, labels, np.array([r["sequence"] for r in made[place]]))
        }
        trial = fake_trial(
            key, arm=place[0], fold=place[1], seed=place[2], study=study, accuracy=right, retrained=1, **changes
        )
        trial["predictions"] = [{"trial_key": key, **row} for row in made[place]]
        store.commit(key, trial)
    [row] = store.read("studies", study=study).to_pylist()
    store.write("studies", study, [row | {"metric": metric}])
    return made


def records(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "tables")


@pytest.mark.parametrize("seeds", [1, 3])
def test_mcnemar_by_counting(store, seeds):
    made = fake_judged(store, seeds=seeds)
    balances = {"image": defaultdict(int), "person": defaultdict(int)}
    for fold in range(FOLDS):
        for seed in range(seeds):
            theirs = {row["image"]: row for row in made["softmax", fold, seed]}
            for row in made["dual", fold, seed]:
                won = (row["predicted"] == row["label"]) - (theirs[row["image"]]["predicted"] == row["label"])
                balances["image"][row["image"]] += won
                balances["person"][fold, row["subject"]] += won
    [row] = records(named_table(store, "mcnemar", "demo"))
    assert (row["arm"], row["baseline"]) == ("dual", "softmax")
    assert (row["images"], row["subjects"], row["seeds"]) == (FOLDS * PEOPLE * SHOTS, FOLDS * PEOPLE, seeds)
    assert row["only_arm"] - row["only_baseline"] == sum(balances["image"].values())
    assert (row["p"], row["p_mid"]) == pytest.approx(sign_flip(list(balances["image"].values())))
    if seeds == 1:
        discordant = row["only_arm"] + row["only_baseline"]
        assert row["p"] == pytest.approx(scipy_stats.binomtest(row["only_arm"], discordant).pvalue)
    people = list(balances["person"].values())
    assert row["p_subjects_exact"] == row["p_holm"] == pytest.approx(sign_flip(people)[0])
    k = len(people)
    assert row["chi2_subjects"] == pytest.approx((k - 1) / k * sum(people) ** 2 / sum(b * b for b in people))
    assert row["difference"] == pytest.approx(sum(people) / (FOLDS * PEOPLE * SHOTS * seeds))
    assert row["low"] < row["difference"] < row["high"]
    assert "too small" in row["notes"]
    assert len(row["trial_keys"]) == 2 * FOLDS * seeds


def test_the_interval_over_people_stands_beside_the_one_over_folds(store):
    made = fake_judged(store)
    counts = defaultdict(lambda: np.zeros((3, 3)))
    for (arm, fold, _), rows in made.items():
        for row in rows if arm == "dual" else ():
            counts[fold, row["subject"]][row["label"], row["predicted"]] += 1
    people = sorted(counts)
    expected = bootstrap_interval([counts[one] for one in people], [fold for fold, _ in people], accuracy, seed=0)
    table = comparison_table(store, "demo")
    row = records(table)[1]
    assert (row["pooled"], row["pooled_low"], row["pooled_high"]) == pytest.approx(expected)
    assert row["subjects"] == len(people) == 15
    assert row["pooled"] == pytest.approx(row["mean"])  # the folds are of one size
    shown = dict(zip(*(table.for_people()[0], table.for_people()[1][1]), strict=True))
    assert shown["95 % CI over people"] == f"[{row['pooled_low']:.3f}, {row['pooled_high']:.3f}]"
    assert "bootstrap of 15 people within their folds" in table.caption
    assert [len(table.keys[1, column]) for column in (2, 3, 4, 5, 8)] == [6, 6, 6, 12, 12]


def test_sequences_are_decided_as_the_evaluation_decides_them(store):
    fake_judged(store, metric="test_sequence_accuracy")
    rows = study_rows(store, "demo")
    for arm, ours in decisions(store, rows).items():
        values = [row["test_sequence_accuracy"] for row in rows.trials.values() if row["arm"] == arm]
        assert pooled(ours, rows.metric)[0][0] == pytest.approx(fmean(values))  # the folds have equally many sequences
    assert "test sequences" in named_table(store, "mcnemar", "demo").caption


def test_the_order_of_the_rows_makes_no_difference(store):
    fake_judged(store)
    before = [
        encode(table, "json") for table in (comparison_table(store, "demo"), named_table(store, "mcnemar", "demo"))
    ]
    store.compact()
    again = Store(store.root)
    assert before == [
        encode(table, "json") for table in (comparison_table(again, "demo"), named_table(again, "mcnemar", "demo"))
    ]


def test_only_what_both_arms_decided_is_compared(store):
    made = fake_judged(store)
    lost = next(
        row for row in store.read("trials").to_pylist() if (row["arm"], row["fold"], row["seed"]) == ("dual", 1, 0)
    )
    store.commit(lost["trial_key"], {"trials": [lost | {"status": "done", "retrained": 2, "test_accuracy": None}]})
    [row] = records(named_table(store, "mcnemar", "demo"))
    assert row["images"] == FOLDS * PEOPLE * SHOTS  # of fold 1 by the other seed
    won = 0
    for arm, fold, seed in made:
        if arm == "dual" and (fold, seed) != (1, 0):
            theirs = {row["image"]: row["predicted"] for row in made["softmax", fold, seed]}
            won += sum(row["predicted"] == row["label"] != theirs[row["image"]] for row in made[arm, fold, seed])
    assert row["only_arm"] == won


def test_what_cannot_be_compared_is_one_sentence(store):
    fake_judged(store, metric="test_nmi")
    with pytest.raises(StoreError, match="two arms with predictions"):
        named_table(store, "mcnemar", "demo")
    with pytest.raises(StoreError, match="study=STUDY"):
        named_table(store, "mcnemar")


def test_every_format_has_it(store):
    fake_judged(store)
    for name in FORMATS:
        assert encode(named_table(store, "mcnemar", "loss_form"), name)
