"""Racing over folds and seeds: how often it is wrong, by seeded draws, and what a search does of it."""

import numpy as np
import pytest
from optuna.trial import TrialState

from study.racing import boundary, worse
from tests.study.searching import Answer, Tables, play, searcher

ALPHA, RUNS = 0.05, 1500


def dropped(draw, blocks, grain, better_by=0.0, leaders=1, seed=0):
    """How often an arm is dropped at some look, and the trainings that it had then; draw(rng, arms) gives (arms, blocks) values."""
    rng, after = np.random.default_rng(seed), []
    for _ in range(RUNS):
        faces = rng.normal(0.0, 0.1, blocks)  # a hard fold is hard for all
        arms = draw(rng, leaders + 1) + faces
        leader, arm = max(arms[1:], key=np.mean), arms[0] + better_by
        looks = (look for look in range(1, blocks) if worse((arm - leader)[:look].tolist(), blocks, ALPHA, grain))
        after.append(next(looks, None))
    left = [look for look in after if look is not None]
    return len(left) / RUNS, float(np.mean(left or [blocks]))


def normal(blocks):
    return lambda rng, arms: rng.normal(0.7, 0.03, (arms, blocks))


@pytest.mark.parametrize("blocks", [3, 5, 10, 20])
def test_an_arm_as_good_as_the_leader_is_dropped_as_seldom_as_promised(blocks):
    rate, _ = dropped(normal(blocks), blocks, 1e-6)
    # Three standard errors of 1500 runs.
    assert abs(rate - ALPHA) < 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5


@pytest.mark.parametrize(("images", "share"), [(12, 0.7), (28, 0.95), (100, 0.7), (500, 0.9)])
def test_accuracies_of_few_images_make_it_careful_and_not_bold(images, share):
    for blocks in (3, 5, 10):
        rate, _ = dropped(
            lambda rng, arms, n=blocks: rng.binomial(images, share, (arms, n)) / images, blocks, 1 / images
        )
        assert rate < ALPHA + 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5


def test_a_worse_arm_is_dropped_soon_and_a_better_one_is_not():
    for better_by, least, most, latest in ((-0.15, 0.95, 1.0, 3.5), (-0.1, 0.75, 1.0, 3.5), (0.05, 0.0, 0.002, 5)):
        rate, after = dropped(normal(5), 5, 1e-6, better_by)
        assert least <= rate <= most
        assert after <= latest


def test_a_leader_out_of_many_is_flattered():
    """What the docstring of `worse` warns of, in figures: out of ten equal arms 0.14 instead of 0.05, which costs no better arm."""
    rate, _ = dropped(normal(5), 5, 1e-6, leaders=10)
    assert 0.10 < rate < 0.19
    better, _ = dropped(normal(5), 5, 1e-6, better_by=0.03, leaders=10)
    assert better < ALPHA


def test_two_equal_differences_are_no_proof_and_the_last_block_is_no_look():
    assert not worse([-0.1, -0.1], 5, ALPHA, 0.1)
    assert worse([-0.1, -0.1, -0.1], 5, ALPHA, 0.0001)
    assert not worse([-0.1] * 5, 5, ALPHA, 0.0001)
    assert not worse([-0.1], 5, ALPHA, 0.0001)
    assert not worse([-0.1, -0.1, -0.1], 5, 0.0, 0.0001)
    assert len(boundary(5, ALPHA)) == 3
    assert all(first < second < 0 for first, second in zip(boundary(10, ALPHA), boundary(10, ALPHA)[1:], strict=False))


@pytest.fixture
def raced(tiny_config):
    def make(*overrides):
        return tiny_config("folds=3", "search.folds=3", "search.seeds=2", *overrides, kind="search")

    return make


def by_arm(spec):
    """Every third arm is bad; the first is good."""
    number = int(spec.arm.rpartition("-")[2])
    value = (
        0.8 - 0.05 * spec.fold + 0.001 * spec.seed + 0.0001 * ((spec.fold * 7 + number) % 5) - 0.3 * (number % 3 == 2)
    )
    return Answer("done", [(1, value / 2), (2, value)], None, 1000)


def test_bad_arms_are_dropped_and_good_ones_are_complete(raced):
    tables = Tables()
    study = play(raced(), tables, 9, answer=by_arm).optuna
    for index, rows in tables.members.items():
        specs = [spec for _, spec in rows.values()]
        blocks = [(spec.seed, spec.fold) for spec in specs]
        assert blocks == [(seed, fold) for seed in range(2) for fold in range(3)][: len(blocks)]
        assert {spec.search for spec in specs} == {"s"}
        assert len({spec.arm for spec in specs}) == 1
        trial = study.trials[index]
        if index % 3 == 2:
            # Two trainings, and the mark of the third in its place.
            assert len(rows) == 3
            assert tables.answers[specs[2].key] == Answer("stopped", [])
            assert trial.state == TrialState.PRUNED
            assert list(trial.intermediate_values) == [1, 2, 4]
        else:
            assert len(rows) == 6
            assert trial.state == TrialState.COMPLETE
            assert trial.value == pytest.approx(np.mean([by_arm(spec).curve[-1][1] for spec in specs]))
    assert [member.index for member in tables.saved] == [2, 5, 8]
    again = searcher(raced(), tables, 9)
    assert again.left == 0
    assert [trial.state for trial in again.optuna.trials] == [trial.state for trial in study.trials]


def test_without_alpha_every_arm_is_complete(raced):
    tables = Tables()
    play(raced("search.alpha=0"), tables, 4, answer=by_arm)
    assert [len(rows) for rows in tables.members.values()] == [6] * 4


def test_with_two_objectives_every_arm_is_complete(raced):
    tables = Tables()
    play(raced("search.cost=seconds"), tables, 3, answer=lambda spec: by_arm(spec)._replace(cost=1.0 + spec.fold))
    assert [len(rows) for rows in tables.members.values()] == [6] * 3


def test_an_arm_whose_first_training_is_stopped_or_fails_has_no_second(raced):
    tables = Tables()
    fates = [Answer("stopped", [(1, 0.2)]), Answer("failed", [])]
    study = play(raced(), tables, 2, answer=lambda spec: fates[int(spec.arm.rpartition("-")[2])]).optuna
    assert [len(rows) for rows in tables.members.values()] == [1, 1]
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED, TrialState.FAIL]


def test_idle_workers_run_ahead_when_nothing_else_is_left(raced):
    tables = Tables()
    search = searcher(raced(), tables, 1)
    names = [search.suggest(f"t{i}") for i in range(7)]
    assert [name["trial"]["index"] for name in names[:6]] == [0] * 6
    assert names[6] is None
