"""What other searches in the store tell a new one."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from optuna.trial import TrialState

from results import Store
from study import history, plan
from study.conduct import prepare
from study.errors import StudyError
from study.records import curves
from study.space import Space
from study.trial_row import spec_row
from tests.study.searching import Answer, Tables, complete, objective, play, searcher

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def mixed(spec):
    """Of ten two are stopped early and one fails."""
    fate = int(spec.key, 16) % 10
    value = objective(spec)
    return Answer("failed", []) if fate == 9 else Answer("stopped", [(1, value)]) if fate > 6 else complete(spec)


def kept(config, store, name, tables, ended=THEN):
    """Write a search that was played into a store, as a study does."""
    row = {"study": name, "kind": "search", "metric": "val_accuracy", "config": json.dumps(config), "created_at": ended}
    store.write("studies", name, [row])
    for index, rows in tables.members.items():
        for key, (parameters, spec) in rows.items():
            member = {"study": name, "arm": spec.arm, "index": index, "fold": spec.fold, "seed": spec.seed}
            store.write(
                "members", f"{name}-{index}-{spec.fold}", [member | {"trial_key": key, "parameters": parameters}]
            )
            answer = tables.answers[key]
            status = {"status": answer.status, "ended_at": ended, "validation_images": 100, "seconds": answer.cost}
            points = [{"epoch": epoch, "val_accuracy": value, "slices": []} for epoch, value in answer.curve]
            store.commit(key, {"trials": [spec_row(spec) | status], **curves(key, points)})


@pytest.fixture
def store(tmp_path, tiny_config):
    """With a search named s of 12 trials."""
    store, tables, config = Store(tmp_path), Tables(), tiny_config(kind="search")
    play(config, tables, 12, answer=mixed)
    kept(config, store, "s", tables)
    return store


def told(config, store, begun=THEN + timedelta(days=1)):
    shared = plan.shared_fields(config, plan.open_faces(config), "new")
    return history.warm(config, store, Space(config), shared, begun)


def test_a_search_knows_of_no_other_that_is_not_named(store, tiny_config):
    """Optuna's stores call every study the same where nobody names it, and mix them."""
    config = tiny_config(kind="search")
    assert history.answers(store, "new", "val_accuracy", None) == {}
    shared = plan.shared_fields(config, plan.open_faces(config), "new")
    assert history.past(store, "new", Space(config), shared, 12, {}) == []
    assert len(history.answers(store, "s", "val_accuracy", None)) == 12


def test_all_trials_of_the_same_space_are_told_and_none_becomes_a_row(store, tiny_config):
    config = tiny_config("search.warm_start=[s]", kind="search")
    warm, said = told(config, store)
    assert said == ["Warm start: 12 trials of s are told to the sampler."]
    answers = history.answers(store, "s", "val_accuracy", None)
    assert sorted(answer.status for past in warm for answer in past.answers) == sorted(
        answer.status for answer in answers.values()
    )
    tables = Tables()
    first = play(config, tables, 1, warm=warm).optuna
    assert [trial.state for trial in first.trials[:12]] == [
        {"done": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}[past.answers[0].status]
        for past in warm
    ]
    assert list(tables.members) == [0]
    assert len(first.trials) == 13


def test_a_warm_search_goes_on_as_it_would_have(store, tiny_config):
    config = tiny_config("search.warm_start=[s]", kind="search")
    warm, _ = told(config, store)
    whole, halves, cold = Tables(), Tables(), Tables()
    play(config, whole, 8, warm=warm)
    play(config, halves, 4, warm=warm)
    play(config, halves, 8, warm=told(config, store)[0])
    play(config, cold, 8)
    assert halves.proposals() == whole.proposals()
    assert cold.proposals() != whole.proposals()
    # What the other search ends after this one has begun changes nothing.
    assert told(config, store, THEN)[0] == []


@pytest.mark.parametrize(
    ("overrides", "fits"),
    [
        (["method=mul_dml"], lambda spec: spec.method == "mul_dml"),
        (["method=triplet", "method.form=dual"], lambda spec: False),
        (["epochs=3"], lambda spec: False),
        (["dataset.seed=1"], lambda spec: False),
    ],
)
def test_only_trials_that_this_search_would_train_alike_fit(store, tiny_config, overrides, fits):
    config = tiny_config("search.warm_start=[s]", *overrides, kind="search")
    warm, (said,) = told(config, store)
    rows = store.read("trials", ["method"]).to_pylist()
    expected = sum(fits(type("Spec", (), row)) for row in rows)
    assert len(warm) == expected
    assert said.startswith(f"Warm start: {expected} trials of s are told to the sampler; {12 - expected} do not fit")
    searcher(config, Tables(), 1, warm)


def test_values_outside_the_range_do_not_fit(store, tiny_config):
    config = tiny_config("search.warm_start=[s]", kind="search")
    config["search"]["space"]["common"]["learning_rate"]["low"] = 0.001
    warm, _ = told(config, store)
    rates = [spec["learning_rate"] for spec in map(json.loads, store.read("trials", ["config"])["config"].to_pylist())]
    assert 0 < len(warm) == sum(rate >= 0.001 for rate in rates) < 12
    searcher(config, Tables(), 1, warm)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["search.warm_start=[t]"], "warm_start to name searches in the store, s, found t"),
        (["search.warm_start=[s]", "search.metric=val_balanced_accuracy"], "another objective: its search.metric is"),
        (["search.warm_start=[s]", "search.folds=2"], "its search.folds is 1, here it is 2"),
    ],
)
def test_what_is_no_search_or_after_something_else_is_refused(store, tiny_config, overrides, words):
    with pytest.raises(StudyError, match=words):
        told(tiny_config(*overrides, kind="search"), store)


def test_the_plan_says_how_many_are_told(store, tiny_config):
    study = prepare(tiny_config("search.warm_start=[s]", kind="search"), store)
    assert study.notes == ["Warm start: 12 trials of s are told to the sampler."]
    assert len(study.warm) == 12
