import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from results.improvement import paired_improvement, probability_of_improvement


def test_probability_of_the_worked_example():
    assert probability_of_improvement([[1, 3]], [[0, 2]], seed=0)[0] == 0.75


def test_probability_is_mann_whitneys():
    """rliable (Agarwal et al. 2021) takes U / NM of every task and then the mean over tasks."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 9, (3, 6)), rng.integers(0, 7, (3, 4))
    expected = np.mean([scipy_stats.mannwhitneyu(a, b).statistic / 24 for a, b in zip(ours, theirs, strict=True)])
    estimate, low, high = probability_of_improvement(ours, theirs, seed=0)
    assert estimate == pytest.approx(expected)
    assert 0 <= low < estimate < high <= 1


def test_probabilities_of_both_sides_sum_to_one():
    ours, theirs = [[1, 2, 5], [4, 4]], [[1, 3], [4, 2, 9]]
    there, back = (probability_of_improvement(*pair, seed=0)[0] for pair in ((ours, theirs), (theirs, ours)))
    assert there + back == pytest.approx(1)


def test_the_seed_decides():
    ours, theirs = np.random.default_rng(1).normal(size=(2, 4, 7))
    found = [probability_of_improvement(ours, theirs, seed=seed) for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]


def test_what_has_no_spread():
    assert probability_of_improvement([[3, 4]], [[1, 2]], seed=0) == (1, None, None)
    assert probability_of_improvement([[3], [1]], [[1], [1]], seed=0) == (0.75, None, None)


def test_paired_of_the_worked_example():
    z = 1.959963984540054
    centre, half = (8 + z * z / 2) / (10 + z * z), z / (10 + z * z) * math.sqrt(1.6 + z * z / 4)
    found = paired_improvement([1] * 8 + [0] * 2, [0] * 8 + [1] * 2)
    assert found == pytest.approx((0.8, centre - half, centre + half))
    assert found == pytest.approx((0.8, 0.490163, 0.943317), abs=1e-6)


def test_paired_is_scipys_wilson():
    for wins in (0, 3, 10):
        theirs = scipy_stats.binomtest(wins, 10).proportion_ci(method="wilson")
        assert paired_improvement([1] * wins + [0] * (10 - wins), [0.5] * 10)[1:] == pytest.approx(
            (theirs.low, theirs.high)
        )


def test_a_tie_is_half_a_win():
    assert paired_improvement([1, 1, 0], [1, 0, 1])[0] == 0.5
