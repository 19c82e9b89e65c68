import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics

from results.resampling import accuracy, balanced_accuracy, bca_ends, bootstrap_interval, macro_f1, subject_confusions


def shares(tables):
    return tables[:, 0] / tables[:, 1]


def test_metrics_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted, subjects = rng.integers(0, 4, 200), rng.integers(0, 5, 200), rng.integers(0, 9, 200)
    names, counts = subject_confusions(labels, predicted, subjects, 6)
    assert sorted(names) == list(range(9))
    mine = labels[subjects == names[3]], predicted[subjects == names[3]]
    assert counts[3].tolist() == metrics.confusion_matrix(*mine, labels=range(6)).tolist()
    both = np.stack([counts.sum(0), counts[:5].sum(0)])
    some = np.isin(subjects, names[:5])
    for ours, theirs in (
        (accuracy, metrics.accuracy_score),
        (balanced_accuracy, lambda a, b: metrics.recall_score(a, b, labels=np.unique(a), average="macro")),
        (macro_f1, lambda a, b: metrics.f1_score(a, b, average="macro")),
    ):
        assert ours(both) == pytest.approx([theirs(labels, predicted), theirs(labels[some], predicted[some])])


def test_confusions_of_the_worked_example():
    names, counts = subject_confusions([0, 1], [0, 0], ["s", "s"], 2)
    assert names == ["s"]
    assert counts.tolist() == [[[1, 0], [1, 0]]]


def test_interval_of_the_worked_example():
    assert bootstrap_interval([[1, 1], [0, 1]], ["a", "a"], shares, seed=0) == (0.5, 0, 1)


def test_variance_is_that_of_the_stratified_mean():
    """With n_h - 1 draws of weight n_h / (n_h - 1) the variance of a total over strata is sum_h n_h s_h^2, the unbiased one."""
    rng = np.random.default_rng(1)
    values, strata = rng.normal(0, 1, 30), np.repeat([0, 1, 2], [4, 10, 16])
    _, low, high = bootstrap_interval(
        values[:, None], strata.tolist(), lambda sums: sums[:, 0], seed=0, resamples=40000
    )
    spread = math.sqrt(sum(n * values[strata == h].var(ddof=1) for h, n in enumerate((4, 10, 16))))
    assert (high - low) / 2 == pytest.approx(scipy_stats.t.ppf(0.975, 27) * spread, rel=0.03)


def test_strata_take_away_what_differs_between_them():
    tables = [[right, 10] for right in (9, 10, 9, 10, 1, 2, 1, 2)]
    _, low, high = bootstrap_interval(tables, list("aaaabbbb"), shares, seed=0)
    _, wide_low, wide_high = bootstrap_interval(tables, list("aaaaaaaa"), shares, seed=0)
    assert high - low < (wide_high - wide_low) / 4


def test_the_seed_decides():
    rng = np.random.default_rng(2)
    tables, strata = np.stack([rng.random(40), np.ones(40)], 1), list(range(4)) * 10
    found = [bootstrap_interval(tables, strata, shares, seed) for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]


def test_two_arms_on_the_same_subjects():
    """Arms that are both good or both bad for a person: the difference is known far better than either."""
    rng = np.random.default_rng(3)
    right = rng.integers(0, 9, 40)
    arms = np.stack([np.stack([right, 10 - right], 1), np.stack([right + 1, 9 - right], 1)], 1)
    tables = np.stack([arms, np.zeros_like(arms)], 2)  # subject, arm, true class, predicted class
    strata = ["all"] * 40

    def difference(both):
        return accuracy(both[:, 1]) - accuracy(both[:, 0])

    assert bootstrap_interval(tables, strata, difference, seed=0) == (pytest.approx(0.1), None, None)
    tables[0, 1, 0] = [0, 10]
    estimate, low, high = bootstrap_interval(tables, strata, difference, seed=0)
    alone = bootstrap_interval(tables[:, 1], strata, accuracy, seed=0)
    assert low < estimate < high
    assert high - low < (alone[2] - alone[1]) / 2


def test_subjects_alone_in_their_stratum_are_taken_together():
    tables = [[right, 10] for right in (9, 5, 7, 8, 3, 6)]
    together = bootstrap_interval(tables, ["all"] * 6, shares, seed=0)
    assert bootstrap_interval(tables, list(range(6)), shares, seed=0) == together
    assert bootstrap_interval(tables, [0, 0, 0, 0, 0, 1], shares, seed=0) == together


def test_what_has_no_spread():
    assert bootstrap_interval([[3, 4]], ["a"], shares, seed=0) == (0.75, None, None)
    assert bootstrap_interval([[4, 4]] * 9, ["a"] * 9, shares, seed=0) == (1, None, None)
    with pytest.raises(ValueError, match="found 2 subjects and 1 strata"):
        bootstrap_interval([[4, 4]] * 2, ["a"], shares, seed=0)


def test_ends_of_the_worked_example():
    assert bca_ends(np.arange(101.0), 50.0, np.array([-1.0, 1.0]), 10**9, 0.95) == pytest.approx((2.5, 97.5), abs=1e-6)


def test_ends_are_scipys():
    """With many degrees of freedom they are those of scipy's BCa, whose draws are n of n."""
    sample = np.random.default_rng(4).exponential(1, 60)
    theirs = scipy_stats.bootstrap((sample,), np.mean, n_resamples=5000, method="BCa", rng=1)
    pull = sample - sample.mean()  # the jackknife of a mean
    ours = bca_ends(theirs.bootstrap_distribution, sample.mean(), pull, 10**9, 0.95)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=1e-3)
