"""Intervals and tests for means over folds and seeds.

Replicates of a cross-validation share most of their training images, so their plain standard error is too small. Nadeau
and Bengio (Machine Learning 52, 2003, section 4.2) replace the factor 1/J of the variance of a mean of J replicates by
1/J + n_test/n_train; the t distribution has J - 1 degrees of freedom.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.stats import t as student


def mean_interval(
    values: Sequence[float], test_train_ratio: float, confidence: float = 0.95
) -> tuple[float, float | None, float | None]:
    """Mean and corrected resampled confidence interval of J replicates.

    Example: 1, 2, 3 with a ratio of 1/4 have s^2 = 1 and t(0.975; 2) = 4.302653, so the half width is
    4.302653 * sqrt((1/3 + 1/4) * 1) = 3.286205 and the interval 2 -+ 3.286205.

    Args:
        values: one number per replicate, at least one.
        test_train_ratio: test images divided by training images.
        confidence: probability in (0, 1).

    Returns:
        mean, low, high; low and high are None for one value, which says nothing about its spread.

    """
    mean = fmean(values)
    if len(values) == 1:
        return mean, None, None
    half = float(student.ppf((1 + confidence) / 2, len(values) - 1)) * _standard_error(values, test_train_ratio)
    return mean, mean - half, mean + half


def paired_test(a: Sequence[float], b: Sequence[float], test_train_ratio: float) -> tuple[float, float | None]:
    """Mean of a - b over paired replicates, and the two-sided p value of the corrected resampled t test.

    Example: differences 1, 2, 3 with a ratio of 1/4 give t = 2 / sqrt(7/12) = 2.618615 on 2 degrees of freedom, for
    which p = 1 - t / sqrt(2 + t^2) = 0.120117 exactly.

    Args:
        a: one number per replicate, at least one.
        b: the numbers of the other arm on the same folds and seeds, in the same order.
        test_train_ratio: test images divided by training images.

    Returns:
        difference, p; p is 1 when all pairs are equal, and None when it cannot be known: for one pair, and for
        differences that are all the same, whose spread is then not seen.

    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean = fmean(differences)
    if len(differences) > 1 and not any(differences):
        return 0.0, 1.0
    error = _standard_error(differences, test_train_ratio) if len(differences) > 1 else 0.0
    if error <= 1e-12 * abs(mean):
        return mean, None
    return mean, 2 * float(student.sf(abs(mean) / error, len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for having made several tests, in their order (Holm 1979).

    Example: 0.01, 0.04, 0.03 become 3 * 0.01, and 0.06 = 2 * 0.03 twice, since a larger p never ends below a smaller.
    """
    corrected, floor = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = floor
    return corrected


def _standard_error(values: Sequence[float], test_train_ratio: float) -> float:
    return math.sqrt(1 / len(values) + test_train_ratio) * stdev(values)
