"""Search without Ray: what Tune would call is called here, with a metric computed from the proposal."""

import json

import optuna
import pytest
from ray.tune.search import Searcher

from study import plan
from study.errors import StudyError
from study.search import Past, StudySearch, check_search
from study.space import Space
from study.spec import TrialSpec


def searched(config, indices, past=(), store=None):
    """Proposals for these indices with one worker: [(index, parameters, spec)], and the Past that they leave."""
    faces = plan.open_faces(config)
    shared = plan.shared_fields(config, faces, "s")
    proposed = {}
    search = StudySearch(
        Space(config),
        shared,
        config["search"]["seed"],
        indices,
        past,
        (store or {}).get,
        lambda member, parameters: proposed.update({member.index: (parameters, member.spec)}),
    )
    left = list(past)
    for index in indices:
        drawn = search.suggest(f"trial-{index}")
        if drawn == Searcher.FINISHED:
            break
        assert drawn["trial"]["index"] == max(proposed)
        parameters, spec = proposed[drawn["trial"]["index"]]
        assert TrialSpec.parse(drawn["trial"]["spec"]) == spec
        value = objective(spec)
        # Every third trial is stopped early, as a scheduler would.
        status = "stopped" if index % 3 == 2 else "done"
        result = {"metric": value, "training_iteration": 1}
        search.on_trial_result(f"trial-{index}", result)
        search.on_trial_complete(f"trial-{index}", result | ({"committed": "done"} if status == "done" else {}))
        left.append(Past(drawn["trial"]["index"], json.loads(json.dumps(parameters)), status, [(1, value)]))
    return proposed, left


def objective(spec):
    return 1 / (1 + abs(spec.learning_rate - 0.001) * 1000) + 0.1 * (spec.method == "triplet")


def test_25_and_then_25_propose_what_50_would_have(tiny_config):
    config = tiny_config(kind="search")
    whole, _ = searched(config, range(50))
    first, past = searched(config, range(25))
    second, _ = searched(config, range(25, 50), past)
    assert {index: entry[0] for index, entry in (first | second).items()} == {
        index: entry[0] for index, entry in whole.items()
    }
    assert len({entry[1].key for entry in whole.values()}) == 50


def test_a_stopped_trial_is_pruned_at_its_epoch_and_not_complete(tiny_config):
    config = tiny_config(kind="search")
    faces = plan.open_faces(config)
    _, past = searched(config, range(3))
    search = StudySearch(Space(config), plan.shared_fields(config, faces, "s"), 0, [], past, {}.get, lambda *_: None)
    states = [trial.state for trial in search._ot_study.trials]
    assert states == [optuna.trial.TrialState.COMPLETE] * 2 + [optuna.trial.TrialState.PRUNED]
    assert search._ot_study.trials[2].intermediate_values == dict(past[2].curve)


def test_another_seed_proposes_others(tiny_config):
    ours, _ = searched(tiny_config(kind="search"), range(5))
    theirs, _ = searched(tiny_config("search.seed=1", kind="search"), range(5))
    assert [entry[0] for entry in ours.values()] != [entry[0] for entry in theirs.values()]


def test_an_arm_is_asked_only_for_what_it_owns(tiny_config):
    proposed, _ = searched(tiny_config(kind="search"), range(30))
    owned = {
        "softmax": set(),
        "triplet": {"triplet.thresholds.0", "triplet.form"},
        "mul_dml": {"mul_dml.slices", "mul_dml.form"},
    }
    assert {spec.method for _, spec in proposed.values()} == set(owned)
    for parameters, spec in proposed.values():
        assert set(parameters) == {"learning_rate", "method"} | owned[spec.method]
        assert spec.learning_rate == parameters["learning_rate"]
        if spec.method == "triplet":
            assert 0.15 <= spec.options["thresholds"][0] <= 0.75
        if spec.method == "mul_dml":
            assert len(spec.options["thresholds"]) == parameters["mul_dml.slices"]
        assert (spec.search, spec.fold, spec.seed) == ("s", 0, 0)


def test_a_given_method_narrows_and_a_given_option_is_fixed(tiny_config):
    proposed, _ = searched(tiny_config("method=mul_dml", "method.slices=5", kind="search"), range(6))
    for parameters, spec in proposed.values():
        assert set(parameters) == {"learning_rate", "mul_dml.form"}
        assert spec.options["slices"] == 5
    proposed, _ = searched(tiny_config("learning_rate=0.002", kind="search"), range(3))
    assert {spec.learning_rate for _, spec in proposed.values()} == {0.002}


@pytest.mark.parametrize("overrides", [["method=npair", "sampler=balanced"], ["method=softmax", "sampler=shuffle"]])
def test_a_given_sampler_that_the_method_takes_is_no_mistake(tiny_config, overrides):
    config = tiny_config(*overrides, kind="search")
    assert Space(config).methods == [config["method"]["name"]]


def test_a_known_proposal_is_answered_from_the_store(tiny_config):
    config = tiny_config(kind="search")
    first, _ = searched(config, range(3))
    key = first[1][1].key
    again, left = searched(config, range(3), store={key: ("done", [(1, objective(first[1][1]))])})
    assert {index: entry[0] for index, entry in again.items()} == {index: entry[0] for index, entry in first.items()}
    assert [past.index for past in left] == [0, 2]


def test_failed_trials_are_remembered_as_failed(tiny_config):
    config = tiny_config(kind="search")
    faces = plan.open_faces(config)
    _, past = searched(config, range(2))
    past = [past[0], past[1]._replace(status="failed", curve=[])]
    search = StudySearch(Space(config), plan.shared_fields(config, faces, "s"), 0, [2], past, {}.get, lambda *_: None)
    states = [trial.state for trial in search._ot_study.trials]
    assert states == [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL]
    search.suggest("x")
    search.on_trial_complete("x", {"committed": "failed"})
    assert search._ot_study.trials[-1].state == optuna.trial.TrialState.FAIL


@pytest.mark.parametrize(
    "override", ["search.trials=0", "search.grace=0", "search.reduction=1", "search.metric=test_accuracy"]
)
def test_impossible_searches(tiny_config, override):
    with pytest.raises(StudyError, match=override.partition("=")[0].partition(".")[2]):
        check_search(tiny_config(override, kind="search"))


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"common": {"epochs": [1, 2]}}, "epochs"),
        ({"common": {}, "triplet": {"slices": [1]}}, "slices"),
        ({"common": {}, "triplet": {"form": ["dul"]}}, "form"),
        ({"common": {}, "triplet": {"form": "dual"}}, "list of choices"),
    ],
)
def test_a_space_that_no_method_owns(tiny_config, space, words):
    config = tiny_config(kind="search")
    config["search"]["space"] = space
    with pytest.raises(StudyError, match=words):
        Space(config)
