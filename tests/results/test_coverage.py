"""Monte-Carlo checks: 95 % intervals cover 93 to 97 %, tests reject 3 to 7 % of true hypotheses, and the naive ones do not.

Every test states the model that its data come from. Each draws with a fixed seed and also measures the method that people
reach for instead, which must fall outside, so that the check is known to be able to fail.
"""

import math
from statistics import NormalDist

import numpy as np
import pytest

from results.improvement import paired_improvement, probability_of_improvement
from results.ranks import critical_difference, friedman
from results.resampling import accuracy, bootstrap_interval
from results.signflips import mcnemar, mcnemar_of_subjects, wilcoxon
from results.stats import effect_size, mean_interval, paired_test, replicates, worse_than_best
from results.winners_curse import winners_curse

COVERED, REJECTED = (0.93, 0.97), (0.03, 0.07)


def folds(rng, studies, k, mean=0.0):
    """Replicates (studies, k) of a k-fold cross-validation: normal, variance 1, any two correlated by rho = 1/k.

    rho = n_test / (n_train + n_test), as Nadeau and Bengio assume: what all folds share, and what each has for itself.
    """
    shared, own = rng.standard_normal((studies, 1)), rng.standard_normal((studies, k))
    return mean + math.sqrt(1 / k) * shared + math.sqrt(1 - 1 / k) * own


def coverage(intervals, truths):
    return np.mean([low <= truth <= high for (_, low, high), truth in zip(intervals, truths, strict=True)])


def wald(share, n):
    """The interval of a share of n independent things that most people know."""
    return share, share - 1.96 * math.sqrt(share * (1 - share) / n), share + 1.96 * math.sqrt(share * (1 - share) / n)


def within(value, bounds):
    return bounds[0] <= value <= bounds[1]


def test_mean_interval_of_one_seed():
    """Ten folds correlated by 1/10. Without the correction 84 % are covered."""
    studies = folds(np.random.default_rng(0), 2000, 10, mean=0.8).tolist()
    corrected, naive = (coverage([mean_interval(s, r) for s in studies], [0.8] * 2000) for r in (1 / 9, 0))
    assert within(corrected, COVERED)
    assert naive < 0.90


def test_mean_interval_of_several_seeds():
    """Five folds correlated by 1/5, each trained with 10 seeds that add independent noise of variance 0.1.

    Counting the 50 runs as replicates covers 82 %, though the ratio is the right one.
    """
    rng = np.random.default_rng(1)
    runs = folds(rng, 1500, 5)[:, :, None] + math.sqrt(0.1) * rng.standard_normal((1500, 5, 10))
    places = [(fold, seed) for fold in range(5) for seed in range(10)]
    averaged, pooled = [], []
    for study in runs.reshape(1500, 50).tolist():
        (values,), ratio = replicates([dict(zip(places, study, strict=True))], 1 / 4)
        averaged.append(mean_interval(values, ratio))
        pooled.append(mean_interval(study, 1 / 4))
    assert within(coverage(averaged, [0] * 1500), COVERED)
    assert coverage(pooled, [0] * 1500) < 0.90


def test_mean_interval_of_seeds_on_one_fold():
    """Five seeds on a fold whose people are worth +0.3: the interval covers what seeds reach there, not 0.8 of all people."""
    rng = np.random.default_rng(2)
    intervals = []
    for study in (1.1 + 0.1 * rng.standard_normal((1500, 5))).tolist():
        (values,), ratio = replicates([{(0, seed): value for seed, value in enumerate(study)}], 1 / 4)
        intervals.append(mean_interval(values, ratio))
    assert within(coverage(intervals, [1.1] * 1500), COVERED)
    assert coverage(intervals, [0.8] * 1500) < 0.5


def test_paired_tests_over_folds():
    """Differences of equal arms over ten folds correlated by 1/10.

    The uncorrected t test rejects 14 %, and so does Wilcoxon's, which takes folds for independent.
    """
    studies = folds(np.random.default_rng(3), 1500, 10).tolist()
    zeros = [0.0] * 10
    corrected, naive = (np.mean([paired_test(s, zeros, r)[1] < 0.05 for s in studies]) for r in (1 / 9, 0))
    assert within(corrected, REJECTED)
    assert naive > 0.10
    assert np.mean([wilcoxon(s, zeros)[1] < 0.05 for s in studies[:700]]) > 0.10


def test_wilcoxon_over_data_sets():
    """Skewed but symmetric about 0 and independent over 12 data sets, rounded so that there are ties and zeros."""
    draws = np.random.default_rng(4).laplace(0, 1, (1000, 12)).round(1).tolist()
    assert within(np.mean([wilcoxon(draw, [0.0] * 12)[1] < 0.05 for draw in draws]), REJECTED)


def test_effect_size():
    """Differences over ten folds with mean 1 and correlation 1/10: delta = 1 / sqrt(1 - 1/10). Uncorrected: 90 %."""
    studies = folds(np.random.default_rng(5), 1500, 10, mean=1.0).tolist()
    delta = [1 / math.sqrt(0.9)] * 1500
    found = [effect_size(s, [0.0] * 10, 1 / 9) for s in studies]
    assert within(coverage(found, delta), COVERED)
    assert np.mean([g for g, _, _ in found]) == pytest.approx(delta[0], abs=0.03)
    assert coverage([effect_size(s, [0.0] * 10, 0.0) for s in studies], delta) < 0.91


def test_bootstrap_over_subjects():
    """Five folds of 8 subjects with 2 to 12 images; a subject's accuracy is drawn from a beta law around the fold's.

    Taking images for independent covers 77 %.
    """
    rng = np.random.default_rng(6)
    means = np.linspace(0.81, 0.89, 5).repeat(8)
    images = rng.integers(2, 13, (800, 40))
    right = rng.binomial(images, rng.beta(4 * means, 4 * (1 - means), (800, 40)))
    strata = np.arange(5).repeat(8).tolist()
    found, naive = [], []
    for number, (hits, shown) in enumerate(zip(right, images, strict=True)):
        counts = np.stack([np.stack([hits, shown - hits], -1), np.zeros((40, 2))], 1)
        found.append(bootstrap_interval(counts, strata, accuracy, seed=number, resamples=400))
        naive.append(wald(found[-1][0], shown.sum()))
    assert within(coverage(found, [0.85] * 800), COVERED)
    assert coverage(naive, [0.85] * 800) < 0.85


def test_probability_of_improvement():
    """Normal runs with variance 1, 5 seeds of each arm on 5 folds; ours are better by 0.2 to 0.8.

    Taking the 125 comparisons for independent covers 67 %.
    """
    rng = np.random.default_rng(7)
    better = np.linspace(0.2, 0.8, 5)
    truth = np.mean([NormalDist().cdf(d / math.sqrt(2)) for d in better])
    ours, theirs = (rng.normal(mean[:, None], 1, (800, 5, 5)) for mean in (better, np.zeros(5)))
    found = [probability_of_improvement(a, b, seed=0, resamples=400) for a, b in zip(ours, theirs, strict=True)]
    assert within(coverage(found, [truth] * 800), COVERED)
    assert coverage([wald(p, 125) for p, _, _ in found], [truth] * 800) < 0.80


def test_paired_improvement():
    """30 independent pairs, of which ours wins a share between 50 and 95 %, drawn anew for every study.

    For a given share the coverage of any interval of a count jumps about. That of Wald is 92 %.
    """
    rng = np.random.default_rng(8)
    truth = rng.uniform(0.5, 0.95, (3000, 1))
    wins = (rng.random((3000, 30)) < truth).astype(float).tolist()
    found = [paired_improvement(row, [0.5] * 30) for row in wins]
    assert within(coverage(found, truth), COVERED)
    assert coverage([wald(p, 30) for p, _, _ in found], truth) < 0.92


def by_image(won, lost):
    """McNemar's test of so many discordant images, each predicted once."""
    return mcnemar([1] * won + [0] * lost, [0] * won + [1] * lost)


def test_mcnemar_over_subjects():
    """40 subjects with 8 images; for each subject each arm's accuracy is drawn anew from one beta law, so the arms are equal.

    Taking the images for independent rejects 20 %.
    """
    rng = np.random.default_rng(9)
    right = rng.random((2, 800, 40, 8)) < rng.beta(3, 1, (2, 800, 40, 1))
    only_ours, only_theirs = (right[0] & ~right[1]).sum(-1), (right[1] & ~right[0]).sum(-1)
    pairs = list(zip(only_ours.tolist(), only_theirs.tolist(), strict=True))
    found = np.array([mcnemar_of_subjects(a, b)[1:] for a, b in pairs])
    assert all(within(share, REJECTED) for share in (found < 0.05).mean(0))
    assert np.mean([by_image(sum(a), sum(b))[1] < 0.05 for a, b in pairs[:300]]) > 0.15


@pytest.mark.parametrize("discordant", [25, 40, 60, 100, 200])
def test_mcnemar_of_independent_images(discordant):
    """Each discordant image is won by either arm with probability 1/2; how often that is rejected is a sum, without chance."""
    found = np.array([by_image(won, discordant - won) for won in range(discordant + 1)])
    chance = np.array([math.comb(discordant, won) / 2**discordant for won in range(discordant + 1)])
    exact, mid = chance @ (found < 0.05)
    assert within(mid, REJECTED)
    assert exact <= 0.05


def test_friedman_and_nemenyi():
    """Five equal arms on 10 data sets, normal. Friedman's chi2 rejects too seldom; pairs of arms tested as if they were one
    pair (alpha = 0.05 for the farthest two) find a difference in a third of the studies."""
    draws = np.random.default_rng(11).standard_normal((2000, 10, 5))
    found = [friedman(draw) for draw in draws]
    assert within(np.mean([one.p < 0.05 for one in found]), REJECTED)
    apart = np.array([max(one.ranks) - min(one.ranks) for one in found])
    assert within(np.mean(apart >= critical_difference(5, 10)), REJECTED)
    assert np.mean(apart >= 1.96 * math.sqrt(5 * 6 / 60)) > 0.20


def test_winners_curse():
    """A search of 50 trials whose true values have sd 0.01, seen with noise of sd 0.02; five fresh runs of its best.

    The search's value minus the fresh interval covers the true optimism, whose mean is 0.041; to take the search's value
    for an ordinary run covers the true value in 45 % of the searches.
    """
    rng = np.random.default_rng(12)
    true = 0.8 + 0.01 * rng.standard_normal((1500, 50))
    seen = true + 0.02 * rng.standard_normal((1500, 50))
    chosen = true[np.arange(1500), seen.argmax(1)]
    fresh = chosen[:, None] + 0.02 * rng.standard_normal((1500, 5))
    found = [winners_curse(s, f) for s, f in zip(seen.tolist(), fresh.tolist(), strict=True)]
    truth = seen.max(1) - chosen
    assert within(np.mean([o.low <= t <= o.high for o, t in zip(found, truth, strict=True)]), COVERED)
    assert np.mean([o.optimism for o in found]) == pytest.approx(truth.mean(), abs=0.001)
    assert np.mean(np.abs(truth) < 1.96 * 0.02) < 0.6


def test_the_best_arm_is_marked():
    """Six equal arms on ten folds, differences correlated by 1/10: the hardest case, in which any arm may be called the best.

    The first arm stays marked in 95 % or more. Testing every arm against the one with the best mean throws it out in 9 %.
    """
    rng = np.random.default_rng(13)
    kept, naive = [], []
    for study in np.stack([folds(rng, 250, 10) for _ in range(6)], 1).tolist():
        arms = {str(arm): {(fold, 0): value for fold, value in enumerate(values)} for arm, values in enumerate(study)}
        kept += [p > 0.05 for p in worse_than_best(arms, 1 / 9).values()]
        best = max(study, key=sum)
        naive += [arm is best or paired_test(arm, best, 1 / 9)[1] > 0.05 for arm in study]
    assert 0.95 <= np.mean(kept) <= 1.0
    assert np.mean(naive) < 0.93
