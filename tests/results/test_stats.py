import itertools
import math
import random

import pytest
from scipy import stats as scipy_stats

from results.stats import effect_size, holm, mean_interval, paired_test, replicates, worse_than_best


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


@pytest.mark.parametrize("n", [2, 3, 6])
def test_differences_that_are_all_the_same_have_the_p_of_their_signs(n):
    """All 2^n choices of signs, of which two are as far from 0 as what was seen; then the arms can be told apart, or cannot."""
    ours, theirs = [0.5 + 0.25 * fold for fold in range(n)], [0.25 + 0.25 * fold for fold in range(n)]
    sums = [abs(sum(signs)) for signs in itertools.product((1, -1), repeat=n)]
    p = sum(found == n for found in sums) / len(sums)
    assert paired_test(ours, theirs, 0.25) == (0.25, p)
    arms = {name: {(fold, 0): value for fold, value in enumerate(arm)} for name, arm in (("a", ours), ("b", theirs))}
    assert worse_than_best(arms, 0.25) == {"a": 1 - p / 2, "b": p / 2}
    assert worse_than_best(arms, 0.25, lower_is_better=True) == {"a": p / 2, "b": 1 - p / 2}


def test_holm_of_the_worked_example():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_of_demsar():
    """Demsar (JMLR 7, 2006), section 3.2.2: C4.5 against its three variants: the first two are rejected.

    Differences of average ranks 3.143 - 1.964, 3.143 - 2.000 and 3.143 - 2.893 in units of sqrt(4 * 5 / (6 * 14)) = 0.488 give
    p = 0.016, 0.019 and 0.607 against 0.017, 0.025 and 0.050.
    """
    p_values = [
        2 * scipy_stats.norm.sf(difference / math.sqrt(20 / 84)) for difference in (16.5 / 14, 16 / 14, 3.5 / 14)
    ]
    assert p_values == pytest.approx([0.016, 0.019, 0.608], abs=0.001)
    corrected = holm(p_values)
    assert [p < 0.05 for p in corrected] == [True, True, False]
    assert corrected[:2] == pytest.approx([3 * p_values[0], 3 * p_values[0]], abs=0.01)


def test_replicates_average_the_seeds_of_each_fold():
    ours = {(1, 0): 5.0, (0, 0): 1.0, (0, 1): 2.0}
    theirs = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 2.0, (1, 1): 9.0, (2, 0): 9.0}
    assert replicates([ours], 0.25) == ([[1.5, 5.0]], 0.25)
    assert replicates([ours, theirs], 0.25) == ([[1.5, 5.0], [0.5, 2.0]], 0.25)


def test_replicates_of_one_fold_are_its_seeds():
    assert replicates([{(3, 7): 2.0, (3, 1): 1.0}], 0.25) == ([[1.0, 2.0]], 0.0)


def test_replicates_without_common_places():
    assert replicates([{(0, 0): 1.0}, {(1, 0): 1.0}], 0.25) == ([[], []], 0.25)
    assert replicates([], 0.25) == ([], 0.25)


def test_more_seeds_on_the_same_folds_are_no_more_replicates():
    """Ten seeds that all say the same tell nothing that one did not."""
    once = {(fold, 0): value for fold, value in enumerate((0.8, 0.85, 0.83, 0.9))}
    often = {(fold, seed): value for (fold, _), value in once.items() for seed in range(10)}
    assert [replicates([arm], 0.25)[0][0] for arm in (once, often)] == [pytest.approx([0.8, 0.85, 0.83, 0.9])] * 2


MOVIES = [9, 7, 8, 9, 8, 9, 9, 10, 9, 9], [9, 6, 7, 8, 7, 9, 8, 8, 8, 7]


def test_effect_size_of_lakens():
    """Lakens (Frontiers in Psychology 4:863, 2013), table 1 as paired: t(9) = 4.74, d_z = 1.50; g = 0.9139 * 1.5.

    J(9) = gamma(4.5) / (sqrt(4.5) gamma(4)) = 11.631728 / (2.121320 * 6).
    """
    g, low, high = effect_size(*MOVIES, 0.0)
    assert g == pytest.approx(1.5 * 11.6317283966 / (math.sqrt(4.5) * 6), abs=1e-9)
    assert g == pytest.approx(1.3708, abs=1e-4)
    t = scipy_stats.ttest_rel(*MOVIES).statistic
    assert t == pytest.approx(4.74, abs=0.005)
    ends = [scipy_stats.nct.cdf(t, 9, end * math.sqrt(10)) for end in (low, high)]
    assert ends == pytest.approx([0.975, 0.025], abs=1e-6)


def test_effect_size_interval_of_mbess():
    """R's MBESS documents conf.limits.nct(ncp=2.83, df=126): noncentralities 0.8337502 to 4.815359.

    127 differences with mean 2.83 / sqrt(127) and s = 1 have that t.
    """
    rng = random.Random(0)
    draws = [rng.gauss(0, 1) for _ in range(127)]
    mean, s = scipy_stats.tmean(draws), scipy_stats.tstd(draws)
    differences = [(x - mean) / s + 2.83 / math.sqrt(127) for x in draws]
    _, low, high = effect_size(differences, [0.0] * 127, 0.0)
    assert (low * math.sqrt(127), high * math.sqrt(127)) == pytest.approx((0.8337502, 4.815359), abs=1e-5)


def test_effect_size_turns_with_the_arms():
    g, low, high = effect_size(*MOVIES, 1 / 9)
    assert effect_size(*MOVIES[::-1], 1 / 9) == pytest.approx((-g, -high, -low))


def test_effect_size_excludes_0_where_the_test_rejects():
    a, b = [0.8, 0.85, 0.83, 0.9], [0.7, 0.8, 0.78, 0.79]
    p = paired_test(a, b, 0.25)[1]
    assert effect_size(a, b, 0.25, confidence=1 - p)[1] == pytest.approx(0, abs=1e-6)


def test_effect_size_of_what_has_no_spread():
    assert effect_size([0.5, 0.6], [0.5, 0.6], 0.25) == (0.0, None, None)
    for a, b in (([0.8, 0.9, 0.7], [0.7, 0.8, 0.6]), ([0.7], [0.5]), ([0.7, 0.9], [0.5, 0.6])):
        g, low, high = effect_size(a, b, 0.25)
        assert math.isnan(g)
        assert (low, high) == (None, None)


def test_worse_than_best_of_the_worked_example():
    """Differences 2, 2, 2.5: t = 13 on 2 degrees of freedom, one-sided p = (1 - 13 / sqrt(2 + 169)) / 2."""
    arms = {"a": dict(zip([(0, 0), (1, 0), (2, 0)], (3, 4, 5), strict=True)),
            "b": dict(zip([(0, 0), (1, 0), (2, 0)], (1, 2, 2.5), strict=True))}  # fmt: skip
    p = (1 - 13 / math.sqrt(171)) / 2
    assert worse_than_best(arms, 0.0) == pytest.approx({"a": 1 - p, "b": p})
    assert worse_than_best(arms, 0.0, lower_is_better=True) == pytest.approx({"a": p, "b": 1 - p})


def test_worse_than_best_allows_for_the_number_of_arms():
    a, b, c = [3, 4, 5], [1, 2, 2.5], [2.9, 4.2, 4.8]
    arms = {
        name: {(fold, 0): value for fold, value in enumerate(arm)} for name, arm in zip("abc", (a, b, c), strict=True)
    }
    found = worse_than_best(arms, 0.25)
    least = min(paired_test(b, other, 0.25)[1] / 2 for other in (a, c))
    assert found["b"] == pytest.approx(2 * least)
    assert found["a"] == 1
    assert found["c"] > 0.05


def test_worse_than_best_without_comparison():
    assert worse_than_best({"a": {(0, 0): 1.0}, "b": {(0, 0): 2.0}}, 0.25) == {"a": None, "b": None}
    assert worse_than_best({"a": {(0, 0): 1.0, (1, 0): 2.0}}, 0.25) == {"a": None}
    same = {(0, 0): 1.0, (1, 0): 2.0}
    assert worse_than_best({"a": same, "b": same}, 0.25) == {"a": 0.5, "b": 0.5}
