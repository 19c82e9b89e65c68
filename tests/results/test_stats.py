import math
import random

import pytest
from scipy import stats as scipy_stats

from results.stats import holm, mean_interval, paired_test


def test_interval_of_the_worked_example():
    """1, 2, 3: s^2 = 1; half width t(0.975; 2) * sqrt(1/3 + 1/4) = 4.3026527 * 0.7637626 = 3.2862052."""
    assert mean_interval([1, 2, 3], 0.25) == pytest.approx((2, 2 - 3.2862052, 2 + 3.2862052), abs=1e-6)


def test_test_of_the_worked_example():
    """Differences 1, 2, 3: t = 2 / sqrt(7/12); with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2)."""
    t = 2 / math.sqrt(7 / 12)
    difference, p = paired_test([2, 4, 6], [1, 2, 3], 0.25)
    assert difference == 2
    assert p == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)
    assert p == pytest.approx(0.120117, abs=1e-6)


def test_without_the_correction_they_are_students():
    rng = random.Random(0)
    a, b = [[rng.gauss(0, 1) for _ in range(10)] for _ in range(2)]
    assert paired_test(a, b, 0.0)[1] == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    low, high = scipy_stats.t.interval(0.9, 9, loc=scipy_stats.tmean(a), scale=scipy_stats.sem(a))
    assert mean_interval(a, 0.0, 0.9)[1:] == pytest.approx((low, high))


def test_a_larger_test_share_makes_them_more_careful():
    a, b = [0.8, 0.85, 0.83, 0.9], [0.7, 0.8, 0.78, 0.79]
    widths = [mean_interval(a, ratio)[2] for ratio in (0.0, 0.25, 1.0)]
    ps = [paired_test(a, b, ratio)[1] for ratio in (0.0, 0.25, 1.0)]
    assert widths == sorted(widths)
    assert ps == sorted(ps)


def test_the_test_and_the_interval_of_the_differences_agree():
    a, b = [0.8, 0.85, 0.83, 0.9], [0.7, 0.8, 0.78, 0.79]
    difference, p = paired_test(a, b, 0.25)
    low = mean_interval([x - y for x, y in zip(a, b, strict=True)], 0.25, confidence=1 - p)[1]
    assert low == pytest.approx(0, abs=1e-9)
    assert difference > 0


def test_what_one_value_cannot_say_is_none():
    assert mean_interval([0.7], 0.25) == (0.7, None, None)
    assert paired_test([0.7], [0.5], 0.25) == (pytest.approx(0.2), None)
    assert paired_test([0.7], [0.7], 0.25) == (0, None)


def test_identical_values():
    assert mean_interval([0.5, 0.5, 0.5], 0.25) == (0.5, 0.5, 0.5)
    assert paired_test([0.5, 0.6], [0.5, 0.6], 0.25) == (0, 1)
    assert paired_test([0.8, 0.9, 0.7], [0.7, 0.8, 0.6], 0.25) == (pytest.approx(0.1), None)


def test_holm_of_the_worked_example():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
