import math

import pytest
from scipy.stats import t as student

from results.winners_curse import expected_maximum, winners_curse


def test_optimism_of_the_worked_example():
    half = student.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    found = winners_curse([0.90, 0.95, 0.91], [0.91, 0.92, 0.93])
    luck = 0.01 * 3 / (2 * math.sqrt(math.pi))  # the largest of three: 3 / (2 sqrt(pi)) = 0.8463
    assert found == pytest.approx((3, 0.95, 3, 0.92, 0.03, 0.03 - half, 0.03 + half, luck, 0))
    assert found.sentence() == (
        "The best of 3 trials had 0.950 in the search and 0.920 with 3 fresh seeds: an optimism of +0.030 "
        "(95 % interval +0.005 to +0.055); among equally good trials luck alone would make +0.008."
    )


def test_a_loss_is_flattered_downwards():
    up = winners_curse([0.90, 0.95], [0.91, 0.92])
    down = winners_curse([-0.90, -0.95], [-0.91, -0.92], lower_is_better=True)
    assert down[4:] == pytest.approx(up[4:])
    assert down.best == -0.95


def test_trials_that_were_stopped_early_are_of_those_that_luck_chose_from():
    """Harter: the largest of two standard normal values is 0.56419 on average, of ten 1.53875."""
    found = winners_curse([0.90, 0.95], [0.91, 0.92, 0.93], stopped=8)
    assert (found.trials, found.stopped) == (10, 8)
    assert found.luck == pytest.approx(0.0153875, abs=1e-7)
    assert found.sentence().startswith("The best of 10 trials (8 stopped early) had 0.950")


def test_one_fresh_run():
    found = winners_curse([0.9], [0.8])
    assert found[4:] == (pytest.approx(0.1), None, None, None, 0)
    assert found.sentence() == (
        "The best of 1 trials had 0.900 in the search and 0.800 with 1 fresh seed: an optimism of +0.100, "
        "whose interval takes two fresh seeds."
    )


@pytest.mark.parametrize(
    ("n", "value"), [(1, 0), (2, 0.56419), (5, 1.16296), (10, 1.53875), (100, 2.50759), (1000, 3.24144)]
)
def test_expected_maximum_of_harter(n, value):
    """Harter, Biometrika 48, 1961, table 1."""
    assert expected_maximum(n) == pytest.approx(value, abs=5e-6)
