"""Proposals of every sampler: what is resumed, doubled, stopped, failed or not a number."""

from collections import Counter

import pytest
from optuna.trial import TrialState

from study import plan
from study.config import ADDED_SEARCH
from study.errors import StudyError
from study.search import check_search
from study.space import Space
from tests.study.searching import Answer, Tables, complete, play, searcher

STEPS = {"low": 0.001, "high": 0.003, "step": 0.0001}
SAMPLERS = ("tpe", "cmaes", "random", "grid", "two objectives", "racing")


@pytest.fixture
def a_config(tiny_config):
    def make(kind, *overrides):
        """Of a search by a sampler, on a space that it can take."""
        given = [f"search.sampler={kind}"] if kind in ("cmaes", "random", "grid") else []
        given += ["search.cost=seconds"] if kind == "two objectives" else []
        given += ["folds=3", "search.folds=3", "search.seeds=2"] if kind == "racing" else []
        given += ["method=triplet", "method.form=dual"] if kind == "cmaes" else []
        config = tiny_config(*given, *overrides, kind="search")
        if kind == "grid":
            config["search"]["methods"] = ["softmax", "mul_dml"]
            config["search"]["space"] = config["search"]["space"] | {"common": {"learning_rate": STEPS}}
        return config

    return make


def proposals(tables):
    return {index: next(iter(rows.values())) for index, rows in tables.proposals().items()}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_25_and_then_25_propose_and_train_what_50_would_have(a_config, kind):
    config, whole, halves = a_config(kind), Tables(), Tables()
    play(config, whole, 50)
    play(config, halves, 25)
    play(config, halves, 50)
    assert halves.proposals() == whole.proposals()
    assert halves.trained == whole.trained
    assert list(whole.members) == list(range(50))


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "racing"])
def test_a_driver_killed_anywhere_goes_on_as_if_it_had_not_been(a_config, kind):
    config, whole, killed = a_config(kind), Tables(), Tables()
    play(config, whole, 20)
    for moment in range(60):
        play(config, killed, 20, kill_after=1 + moment % 3)
    play(config, killed, 20)
    assert killed.proposals() == whole.proposals()
    assert list(dict.fromkeys(killed.trained)) == whole.trained


@pytest.mark.parametrize("kind", SAMPLERS)
def test_with_several_workers_every_proposal_is_there_once_however_often_the_driver_is_killed(a_config, kind):
    config, tables = a_config(kind), Tables()
    for moment in range(5):
        play(config, tables, 30, workers=4, kill_after=6, seed=moment)
    play(config, tables, 30, workers=4, seed=9)
    assert list(tables.members) == list(range(30))
    # What was running at a kill is trained again, nothing else is.
    assert sum(count - 1 for count in Counter(tables.trained).values()) <= 5 * 4
    keys = [key for rows in tables.members.values() for key in rows]
    assert set(keys) == set(tables.answers)
    if kind in ("random", "grid"):  # no history, so that workers change nothing
        alone = Tables()
        play(config, alone, 30)
        assert alone.proposals() == tables.proposals()


def six_points(config):
    """A space so small that proposals repeat each other."""
    config["search"]["methods"] = ["triplet"]
    config["search"]["space"] = config["search"]["space"] | {
        "common": {"learning_rate": {"low": 0.001, "high": 0.002, "step": 0.001}},
        "triplet": {"thresholds": [{"low": 0.2, "high": 0.4, "step": 0.1}]},
    }
    return config


def worse_and_worse(spec):
    """Every arm that is new is worse than those before it, so that racing drops it, and its repetitions meet what it left."""
    value = 0.9 - 0.2 * (spec.learning_rate > 0.0015) - 0.1 * spec.fold + 0.001 * (int(spec.key, 16) % 7)
    return Answer("done", [(1, value / 2), (2, value)], None, 1000)


@pytest.mark.parametrize("workers", [1, 3])
def test_repetitions_race_alike_however_often_the_driver_is_killed(a_config, workers):
    config, whole, killed = six_points(a_config("racing")), Tables(), Tables()
    play(config, whole, 24, workers, answer=worse_and_worse)
    assert whole.saved, "nothing is dropped"
    assert len({key for rows in whole.members.values() for key in rows}) <= 6 * 6
    assert max(Counter(whole.trained).values()) == 1
    for moment in range(80):
        play(config, killed, 24, workers, kill_after=1 + moment % 2, answer=worse_and_worse)
    play(config, killed, 24, workers, answer=worse_and_worse)
    assert list(killed.members) == list(range(24))
    if workers == 1:
        assert killed.proposals() == whole.proposals()
        assert list(dict.fromkeys(killed.trained)) == whole.trained
    assert searcher(config, killed, 24).left == 0


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("workers", [1, 3])
def test_no_proposal_is_trained_twice(a_config, kind, workers):
    config, tables = six_points(a_config(kind)), Tables()
    trials = 6 if kind == "grid" else 14
    search = play(config, tables, trials, workers)
    assert len(search.optuna.trials) == trials
    assert not search.optuna.get_trials(states=[TrialState.RUNNING])
    assert max(Counter(tables.trained).values()) == 1
    assert len({key for rows in tables.members.values() for key in rows if not tables.saved}) <= 6 * len(search.blocks)


@pytest.mark.parametrize("kind", ["tpe", "racing"])
def test_nothing_is_left_running_and_what_ended_early_is_not_complete(a_config, kind):
    config, tables = a_config(kind), Tables()
    live = play(config, tables, 40).optuna
    again = searcher(config, tables, 40).optuna
    for study in (live, again):
        for index, trial in enumerate(study.trials):
            answers = [tables.answers[key] for key in tables.members[index]]
            fates = {answer.status for answer in answers} | {
                "nan" for answer in answers if any(value != value for _, value in answer.curve)
            }
            expected = (
                TrialState.FAIL
                if fates & {"failed", "nan"}
                else TrialState.PRUNED
                if "stopped" in fates
                else TrialState.COMPLETE
            )
            assert trial.state == expected
    # To the last bit the same, however it came to be known: the last epoch comes with the end alone.
    assert [(t.state, t.values, t.params, t.intermediate_values) for t in live.trials] == [
        (t.state, t.values, t.params, t.intermediate_values) for t in again.trials
    ]


def test_a_stopped_trial_is_told_with_the_epoch_that_it_reached(a_config):
    config, tables = a_config("tpe"), Tables()
    search = play(config, tables, 1, answer=lambda spec: Answer("stopped", [(1, 0.3), (2, 0.4), (3, 0.5)]))
    (trial,) = search.optuna.trials
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.3, 2: 0.4, 3: 0.5}
    assert trial.value == 0.5


def test_a_worker_that_was_lost_answers_nobody(a_config):
    config, tables = a_config("tpe"), Tables()
    search = searcher(config, tables, 1)
    name = search.suggest("x")
    assert name["trial"]["index"] == 0
    search.on_trial_result("x", {"record/epoch": 1, "metric": 0.5})
    search.on_trial_complete("x", None, error=True)
    assert [trial.state for trial in search.optuna.trials] == [TrialState.FAIL]
    # Not in the store as an answer: the same proposal is trained on the next call.
    before = tables.proposals()
    play(config, tables, 1, answer=complete)
    assert tables.proposals() == before
    assert len(tables.trained) == 1


def test_a_training_that_begins_again_shows_its_epochs_twice_and_they_count_once(a_config):
    config, tables = a_config("tpe"), Tables()
    search = searcher(config, tables, 1)
    search.suggest("x")
    for epoch in (1, 2, 3, 1, 2):
        search.on_trial_result("x", {"record/epoch": epoch, "metric": epoch / 10})
    search.on_trial_complete("x", {"record/epoch": 3, "metric": 0.3, "row/status": "stopped"})
    assert search.optuna.trials[0].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_parallel_proposals_lie_apart(a_config):
    """With constant_liar a batch is not one point eight times."""
    config, tables = a_config("tpe", "method=softmax"), Tables()
    play(config, tables, 24, workers=8, answer=complete)
    rates = [spec.learning_rate for rows in list(tables.members.values())[16:] for _, spec in rows.values()]
    assert len(set(rates)) == 8


def test_cmaes_finds_the_top_of_a_hill(a_config):
    config, tables, chance = a_config("cmaes"), Tables(), Tables()

    def hill(spec):
        height = -abs(spec.learning_rate * 1000 - 1) - abs(spec.options["thresholds"][0] - 0.45)
        return Answer("done", [(2, height)])

    best = [
        max(answer.curve[-1][1] for answer in played.optuna.get_trials() and tables_.answers.values())
        for tables_, played in (
            (tables, play(config, tables, 60, answer=hill)),
            (chance, play(config | {"search": config["search"] | {"sampler": "random"}}, chance, 60, answer=hill)),
        )
    ]
    assert best[0] > best[1]
    assert best[0] > -0.05


def test_a_grid_is_every_point_once_in_an_order_of_its_seed(a_config):
    config, other = a_config("grid"), a_config("grid", "search.seed=1")
    size = 21 + 21 * 3 * 2  # softmax, and mul_dml with three slices and two forms
    tables, others = Tables(), Tables()
    play(config, tables, size)
    play(other, others, size)
    ours, theirs = list(proposals(tables).values()), list(proposals(others).values())
    assert len(set(ours)) == size
    assert set(ours) == set(theirs)
    assert ours != theirs
    config["search"]["trials"] = size + 1
    with pytest.raises(StudyError, match=f"at most {size}, the points of the grid, found {size + 1}"):
        check_search(config)


def test_another_seed_proposes_others(a_config):
    for kind in ("tpe", "cmaes", "random"):
        ours, theirs = Tables(), Tables()
        play(a_config(kind), ours, 5)
        play(a_config(kind, "search.seed=1"), theirs, 5)
        assert proposals(ours) != proposals(theirs)


def test_an_arm_is_asked_only_for_what_it_owns(a_config):
    tables = Tables()
    search = play(a_config("tpe"), tables, 30)
    owned = {
        "softmax": set(),
        "triplet": {"triplet.thresholds.0", "triplet.form"},
        "mul_dml": {"mul_dml.slices", "mul_dml.form"},
    }
    specs = [spec for rows in tables.members.values() for _, spec in rows.values()]
    assert {spec.method for spec in specs} == set(owned)
    for trial, spec in zip(search.optuna.trials, specs, strict=True):
        assert set(trial.params) == {"learning_rate", "method"} | owned[spec.method]
        assert spec.learning_rate == trial.params["learning_rate"]
        if spec.method == "triplet":
            assert 0.15 <= spec.options["thresholds"][0] <= 0.75
        if spec.method == "mul_dml":
            assert len(spec.options["thresholds"]) == trial.params["mul_dml.slices"]
        assert (spec.search, spec.fold, spec.seed) == ("s", 0, 0)


def test_a_given_method_narrows_and_a_given_option_is_fixed(a_config):
    tables = Tables()
    search = play(a_config("tpe", "method=mul_dml", "method.slices=5"), tables, 6)
    for trial, rows in zip(search.optuna.trials, tables.members.values(), strict=True):
        assert set(trial.params) == {"learning_rate", "mul_dml.form"}
        assert all(spec.options["slices"] == 5 for _, spec in rows.values())
    tables = Tables()
    play(a_config("tpe", "learning_rate=0.002"), tables, 3)
    assert {spec.learning_rate for rows in tables.members.values() for _, spec in rows.values()} == {0.002}


@pytest.mark.parametrize("overrides", [["method=npair", "sampler=balanced"], ["method=softmax", "sampler=shuffle"]])
def test_a_given_sampler_that_the_method_takes_is_no_mistake(tiny_config, overrides):
    config = tiny_config(*overrides, kind="search")
    assert Space(config).methods == [config["method"]["name"]]


def test_two_objectives_know_no_early_end(a_config):
    tables = Tables()
    study = play(a_config("two objectives"), tables, 20).optuna
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.FAIL}
    for trial in study.trials:
        (key,) = tables.members[trial.number]
        if trial.state == TrialState.COMPLETE:
            assert trial.values == [tables.answers[key].curve[-1][1], tables.answers[key].cost]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]


def test_what_was_added_since_leaves_old_searches_their_names(tiny_config):
    config = tiny_config(kind="search")
    faces = plan.open_faces(config)
    earlier = config | {"search": {name: value for name, value in config["search"].items() if name not in ADDED_SEARCH}}
    assert plan.study_name(earlier, faces) == plan.study_name(config, faces)
    for override in ("search.collapse=2", "search.brackets=2", "search.sampler=random", "search.cost=seconds"):
        assert plan.study_name(tiny_config(override, kind="search"), faces) != plan.study_name(config, faces)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.trials=0", "trials to be at least 1"),
        ("search.grace=0", "grace to be at least 1"),
        ("search.reduction=1", "reduction to be at least 2"),
        ("search.brackets=0", "brackets to be at least 1"),
        ("search.collapse=-1", "collapse to be at least 0"),
        ("search.seeds=0", "seeds to be at least 1"),
        ("search.metric=test_accuracy", "metric to be val_accuracy or val_balanced_accuracy"),
        ("search.sampler=hyperopt", "sampler to be tpe or cmaes or random or grid, found hyperopt"),
        ("search.cost=test_accuracy", "cost to be null or seconds"),
        ("search.alpha=0.7", "alpha to be 0 or more and below 0.5"),
        ("search.alpha=0.1", "leave out search.alpha"),
        ("search.warm_start=[3]", "warm_start to be a list of studies"),
        ("search.cost=seconds search.grace=3", "no trial is stopped for its metric alone: leave out search.grace"),
        ("search.cost=seconds search.sampler=cmaes", "one objective"),
        ("search.sampler=random search.warm_start=[other]", "learns from no trial: leave out search.warm_start"),
        ("search.sampler=cmaes", "needs one method, found softmax, triplet, mul_dml: give method=NAME"),
        ("search.sampler=cmaes method=triplet", "needs ranges, found choices for triplet.form"),
        ("search.sampler=cmaes method=softmax learning_rate=0.001", "needs a range"),
        (
            "search.sampler=grid",
            "give search.space.common.learning_rate a list or a step .* or fix it by learning_rate=",
        ),
        ("search.sampler=grid method=triplet", "fix it by method.thresholds=VALUE"),
        ("search.brackets=3", "brackets to be at most 1"),
    ],
)
def test_impossible_searches(tiny_config, override, words):
    with pytest.raises(StudyError, match=words):
        check_search(tiny_config(*override.split(" "), kind="search"))


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"common": {"epochs": [1, 2]}}, "epochs"),
        ({"common": {}, "triplet": {"slices": [1]}}, "slices"),
        ({"common": {}, "triplet": {"form": ["dul"]}}, "form"),
        ({"common": {}, "triplet": {"form": "dual"}}, "list of choices"),
        ({"common": {"learning_rate": {"low": 0.001, "high": 0.002, "step": 0.001, "log": True}}}, "step"),
    ],
)
def test_a_space_that_no_method_owns(tiny_config, space, words):
    config = tiny_config(kind="search")
    config["search"]["space"] = space
    with pytest.raises(StudyError, match=words):
        Space(config)
