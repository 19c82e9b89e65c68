"""Intervals and tests for means over folds and seeds.

Replicates of a cross-validation share most of their training images, so their plain standard error is too small. Nadeau
and Bengio (Machine Learning 52, 2003, section 4.2) replace the factor 1/J of the variance of a mean of J replicates by
1/J + n_test/n_train; the t distribution has J - 1 degrees of freedom. That is exact where the replicates are normal and
any two of them correlate by rho = n_test / (n_train + n_test), which is the share of images that a test fold holds.

What holds when K folds are trained with several seeds each. The correction is made for replicates that are all alike.
Seeds on one fold are not: they share all their training and test images, so that more seeds average away the luck of
initialisation and order, never that of the people. Bouckaert and Frank (PAKDD 2004) count J = folds x repeats
because they deal the folds anew for every repeat; here the folds stay, and counting seeds as replicates makes intervals
that miss far too often (tests/results/test_coverage.py measures it). So: take the mean over the seeds of each fold first
(`replicates`), then J is the number of folds, and n_test/n_train is that of one fold, about 1 / (K - 1), whatever the number
of seeds. With a single fold only the seeds vary: J is their number, the ratio is 0, and the interval speaks of seeds alone.

scipy.special instead of scipy.stats, which takes a second to import.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

from scipy.special import nctdtrinc, stdtr, stdtrit

Interval = tuple[float, float | None, float | None]
Place = tuple[int, int]  # fold, seed


def replicates(arms: Sequence[Mapping[Place, float]], test_train_ratio: float) -> tuple[list[list[float]], float]:
    """One number per fold for each arm, its mean over seeds; or one per seed where there is a single fold.

    Only places that all arms have are counted, so that the lists are paired. Folds with fewer seeds weigh as much as others.

    Example: the values 1 and 2 of the seeds of fold 0, and 5 of fold 1, become 1.5 and 5, and the ratio stays; 1 and 2 of
    fold 0 alone stay 1 and 2, and the ratio becomes 0.

    Args:
        arms: of each arm its values by fold and seed.
        test_train_ratio: test images divided by training images, of one fold.

    Returns:
        for each arm its numbers in the order of the folds, or of the seeds; the ratio to use with them.

    """
    places = sorted(set.intersection(*(set(arm) for arm in arms))) if arms else []
    folds: dict[int, list[Place]] = defaultdict(list)
    for place in places:
        folds[place[0]].append(place)
    if len(folds) == 1:
        return [[arm[place] for place in places] for arm in arms], 0.0
    return [[fmean([arm[place] for place in fold]) for fold in folds.values()] for arm in arms], test_train_ratio


def mean_interval(values: Sequence[float], test_train_ratio: float, confidence: float = 0.95) -> Interval:
    """Mean and corrected resampled confidence interval of J replicates.

    Example: 1, 2, 3 with a ratio of 1/4 have s^2 = 1 and t(0.975; 2) = 4.302653, so the half width is
    4.302653 * sqrt((1/3 + 1/4) * 1) = 3.286205 and the interval 2 -+ 3.286205.

    Args:
        values: one number per replicate, at least one; with several folds and seeds those of `replicates`.
        test_train_ratio: test images divided by training images.
        confidence: probability in (0, 1).

    Returns:
        mean, low, high; low and high are None for one value, which says nothing about its spread.

    """
    mean = fmean(values)
    if len(values) == 1:
        return mean, None, None
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * _standard_error(values, test_train_ratio)
    return mean, mean - half, mean + half


def paired_test(a: Sequence[float], b: Sequence[float], test_train_ratio: float) -> tuple[float, float | None]:
    """Mean of a - b over paired replicates, and the two-sided p value of the corrected resampled t test.

    Example: differences 1, 2, 3 with a ratio of 1/4 give t = 2 / sqrt(7/12) = 2.618615 on 2 degrees of freedom, for
    which p = 1 - t / sqrt(2 + t^2) = 0.120117 exactly.

    Args:
        a: one number per replicate, at least one; with several folds and seeds those of `replicates`.
        b: the numbers of the other arm on the same folds and seeds, in the same order.
        test_train_ratio: test images divided by training images.

    Returns:
        difference, p; p is None for one pair. Of n pairs that all differ by the same, 0 apart, the spread is not seen, and
        t has no bound: p is then 2^(1 - n), the least that flipping the signs of n differences can give (Fisher, The design of
        experiments, 1935, section 21). It is 1 when all pairs are equal.

    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if len(differences) < 2:
        return fmean(differences), None
    if not any(differences):
        return 0.0, 1.0
    t = _t(differences, test_train_ratio)
    p = 2.0 ** (1 - len(differences)) if t is None else 2 * float(stdtr(len(differences) - 1, -abs(t)))
    return fmean(differences), p


def effect_size(a: Sequence[float], b: Sequence[float], test_train_ratio: float, confidence: float = 0.95) -> Interval:
    """Hedges' g of paired replicates: their mean difference in standard deviations of the differences.

    g = J(n - 1) * mean / s, where d_z = mean / s is Cohen's (Statistical power analysis, 1988, section 2.3.5; Lakens,
    Frontiers in Psychology 4:863, 2013) and J(m) = gamma(m/2) / (sqrt(m/2) * gamma((m-1)/2)) takes away its
    bias (Hedges, Journal of Educational Statistics 6, 1981). The interval inverts the noncentral t distribution of
    t = mean / (s * sqrt(1/n + ratio)) (Cumming and Finch, Educational and Psychological Measurement 61, 2001). Like the
    corrected test it is exact for normal replicates that correlate by n_test / (n_train + n_test); the standard deviation
    is the one seen within a study.

    Example: Lakens' two movies, whose 10 differences have mean 1 and s = 2/3: d_z = 1.5, J(9) = 0.9139, g = 1.3709.

    Args:
        a: one number per replicate, at least one.
        b: the numbers of the other arm on the same folds and seeds, in the same order.
        test_train_ratio: test images divided by training images.
        confidence: probability in (0, 1).

    Returns:
        g, low, high, without unit; 0, None, None when all pairs are equal. Below 3 pairs, or with differences that are
        all the same, g cannot be known and is nan.

    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if len(differences) > 1 and not any(differences):
        return 0.0, None, None
    t, m = _t(differences, test_train_ratio), len(differences) - 1
    if t is None or m < 2:
        return math.nan, None, None
    scale = math.sqrt(1 / len(differences) + test_train_ratio)
    unbiased = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2)
    tails = (1 + confidence) / 2, (1 - confidence) / 2
    # The inverse is reliable for t >= 0 only; for t < 0 the interval is the mirror image.
    low, high = (float(nctdtrinc(m, tail, abs(t))) * scale for tail in tails)
    return unbiased * t * scale, *((low, high) if t >= 0 else (-high, -low))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for having made several tests, in their order (Holm 1979).

    Example: 0.01, 0.04, 0.03 become 3 * 0.01, and 0.06 = 2 * 0.03 twice, since a larger p never ends below a smaller.
    """
    corrected, floor = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = floor
    return corrected


def worse_than_best(
    arms: Mapping[str, Mapping[Place, float]], test_train_ratio: float, lower_is_better: bool = False
) -> dict[str, float | None]:
    """P value of each arm for being worse than the best one; a table marks the arms whose p is above 0.05.

    Arm i is tested against every other arm j by the one-sided corrected t test on their common folds, and its p is
    min(1, (k - 1) * min_j p_ij), Bonferroni's over the k - 1 others. Arms with p > alpha are a confidence set: the arm that is
    truly best is in it with probability 1 - alpha at least (Hsu, Multiple comparisons, 1996, chapter 4: comparisons with
    the best; Gupta's subset selection, Technometrics 7, 1965). The guarantee is about that one arm, so that no further
    correction over i is needed. To test every arm against the one that happened to come first would not give it: that
    arm was chosen by the same numbers (test_coverage.py measures it). The arm with the best mean is never excluded where all
    arms have the same folds and seeds.

    Example: folds 3, 4, 5 and 1, 2, 2.5 with ratio 0 differ by 2, 2, 2.5: t = 13 on 2 degrees of freedom, so that the second
    arm has p = (1 - 13 / sqrt(2 + 169)) / 2 = 0.002933 and the first p = 0.997067.

    Args:
        arms: of each arm its metric by fold and seed.
        test_train_ratio: test images divided by training images.
        lower_is_better: for a loss.

    Returns:
        p of each arm, in their order; None for one that could be compared with none (one replicate in common). Of n
        differences without spread p is one half of what `paired_test` says.

    """
    p_values: dict[str, list[float]] = {name: [] for name in arms}
    # Where all have the same folds and seeds, the means of a pair are those of all.
    alike = len({frozenset(arm) for arm in arms.values()}) == 1
    means, ratio = replicates(list(arms.values()) if alike else [], test_train_ratio)
    of = dict(zip(arms, means, strict=False))
    for name, other in combinations(arms, 2):
        if alike:
            ours, theirs = of[name], of[other]
        else:
            (ours, theirs), ratio = replicates([arms[name], arms[other]], test_train_ratio)
        differences = [y - x if lower_is_better else x - y for x, y in zip(ours, theirs, strict=True)]
        if len(differences) < 2:
            continue
        if not any(differences):
            p = 0.5, 0.5
        elif (t := _t(differences, ratio)) is not None:
            p = float(stdtr(len(differences) - 1, t)), float(stdtr(len(differences) - 1, -t))
        else:
            least = 2.0 ** -len(differences)
            p = (least, 1 - least) if differences[0] < 0 else (1 - least, least)
        p_values[name].append(p[0])
        p_values[other].append(p[1])
    return {name: min(1.0, (len(arms) - 1) * min(found)) if found else None for name, found in p_values.items()}


def _t(differences: Sequence[float], test_train_ratio: float) -> float | None:
    """Corrected t statistic; None for one difference and for differences without spread."""
    if len(differences) < 2:
        return None
    mean, error = fmean(differences), _standard_error(differences, test_train_ratio)
    return mean / error if error > 1e-12 * abs(mean) else None


def _standard_error(values: Sequence[float], test_train_ratio: float) -> float:
    mean = fmean(values)
    squares = math.fsum(
        (value - mean) ** 2 for value in values
    )  # `stdev` counts in fractions and takes ten times as long
    return math.sqrt((1 / len(values) + test_train_ratio) * squares / (len(values) - 1))
