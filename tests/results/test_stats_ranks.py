import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from results.ranks import cliques, critical_difference, friedman

# Demsar (JMLR 7, 2006), table 6: AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets. Table 6 ranks the fourth behind the
# third on `voting`, where both are printed as 0.975: it is 0.9749 here.
AUC = [
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.975, 0.9749], [0.957, 0.978, 0.946, 0.970],
]  # fmt: skip
NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]


def test_ranks_of_demsar():
    assert friedman(AUC).ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=0.0005)


def test_friedman_of_demsar():
    """He reports chi2 = 9.28 and F = 3.69 without a correction for ties.

    The ties within data sets are of 2, 2, 4 and 2 arms: sum of t^3 - t = 6 + 6 + 60 + 6 = 78, so that the correction divides chi2
    by 1 - 78 / (14 * 4 * 15).
    """
    found = friedman(AUC)
    plain = found.chi2 * (1 - 78 / 840)
    assert plain == pytest.approx(9.28, abs=0.005)
    assert 13 * plain / (14 * 3 - plain) == pytest.approx(3.69, abs=0.005)
    assert found.f == pytest.approx(13 * found.chi2 / (42 - found.chi2))
    assert found.p == pytest.approx(scipy_stats.f.sf(found.f, 3, 39))


def test_friedman_is_scipys():
    rng = np.random.default_rng(0)
    for table in (np.array(AUC), rng.normal(size=(6, 5)), rng.integers(0, 3, (9, 4))):
        theirs = scipy_stats.friedmanchisquare(*table.T)
        assert friedman(table)[1:3] == pytest.approx((theirs.statistic, theirs.pvalue))
        assert friedman(-table, lower_is_better=True) == friedman(table)


def test_friedman_where_all_agree():
    """F has no bound; that the second of two data sets ranks three arms as the first does has probability 1 / 3!."""
    found = friedman([[1, 2, 3], [4, 5, 6]])
    assert found[:2] == ([3, 2, 1], 4)
    assert math.isinf(found.f)
    assert found.p == pytest.approx(1 / 6)


def test_friedman_where_nobody_differs():
    assert friedman([[1, 1], [2, 2]]) == ([1.5, 1.5], 0, 1, 0, 1)


def test_friedman_refuses_what_it_cannot_rank():
    with pytest.raises(ValueError, match="found 1 and 3"):
        friedman([[1, 2, 3]])
    with pytest.raises(ValueError, match="none of arm 1 on data set 1"):
        friedman([[1, 2], [1, math.nan]])
    with pytest.raises(ValueError, match="1 axes"):
        friedman([1, 2])


@pytest.mark.parametrize(
    ("arms", "alpha", "q"), [(2, 0.05, 1.960), (3, 0.05, 2.343), (4, 0.05, 2.569), (10, 0.05, 3.164), (4, 0.10, 2.291)]
)
def test_critical_values_of_demsar(arms, alpha, q):
    """His table 5a."""
    assert critical_difference(arms, 1, alpha) / math.sqrt(arms * (arms + 1) / 6) == pytest.approx(q, abs=0.001)


def test_diagram_of_demsar():
    """CD = 1.25 at 0.05, where no two differ, and 1.12 at 0.10, where C4.5 differs from C4.5+m and C4.5+m+cf (figure 1a)."""
    ranks = dict(zip(NAMES, friedman(AUC).ranks, strict=True))
    strict, loose = critical_difference(4, 14), critical_difference(4, 14, 0.10)
    assert (strict, loose) == pytest.approx((1.25, 1.12), abs=0.005)
    assert cliques(ranks, strict) == [["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]]
    assert cliques(ranks, loose) == [["C4.5+m+cf", "C4.5+m", "C4.5+cf"], ["C4.5+cf", "C4.5"]]


def test_cliques_of_the_worked_example():
    assert cliques({"c": 3, "a": 1, "b": 2}, 1.5) == [["a", "b"], ["b", "c"]]
    assert cliques({"c": 3, "a": 1, "b": 2}, 1.0) == []
    assert cliques({}, 1.0) == []
