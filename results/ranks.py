"""Several arms over several data sets: average ranks, Friedman's test, Nemenyi's critical difference and its cliques.

After Demsar, Statistical comparisons of classifiers over multiple data sets (JMLR 7, 2006, section 3.2). The units are data
sets, which are independent; the folds of one data set are not and are to be averaged first. Nemenyi's verdict on two arms
depends on which others are in the pool (Benavoli, Corani and Mangili, JMLR 17, 2016); Wilcoxon's test with Holm's
correction does not and is to stand beside it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, fdtrc


class Friedman(NamedTuple):
    """Friedman's test of k arms on N data sets.

    Attributes:
        ranks: average rank of each arm, 1 is the best.
        chi2: Friedman's statistic with the correction for ties, k - 1 degrees of freedom.
        p_chi2: its p value.
        f: Iman and Davenport's statistic, k - 1 and (k - 1)(N - 1) degrees of freedom.
        p: its p value, the one to report.

    """

    ranks: list[float]
    chi2: float
    p_chi2: float
    f: float
    p: float


class Ranked(NamedTuple):
    """What a critical-difference diagram shows.

    Attributes:
        name: of what was ranked.
        data_sets: their number N.
        ranks: average rank of each arm.
        difference: critical difference in ranks.
        groups: arms that do not differ significantly, as `cliques` gives them.

    """

    name: str
    data_sets: int
    ranks: dict[str, float]
    difference: float
    groups: list[list[str]]


def friedman(scores: npt.ArrayLike, lower_is_better: bool = False) -> Friedman:
    """Friedman's test that all arms are equal, with Iman and Davenport's correction.

    chi2 = 12 N / (k (k + 1)) * (sum_j R_j^2 - k (k + 1)^2 / 4) / (1 - sum (t^3 - t) / (N k (k^2 - 1))), where t are the sizes of the
    ties within a data set, and F = (N - 1) chi2 / (N (k - 1) - chi2) (Demsar 2006, section 3.2.2, whose equation leaves the
    correction for ties out; Iman and Davenport, Communications in Statistics A9, 1980). chi2 is that of
    scipy.stats.friedmanchisquare. Where all data sets rank the arms alike F has no bound; p is never less than (1 / k!)^(N - 1), the
    probability of that.

    The average rank of an arm is the mean over data sets of its rank there, 1 for the best; ties share the mean of their ranks: scores
    0.9, 0.8, 0.8 have the ranks 1, 2.5, 2.5.

    Example: two data sets that rank three arms alike: chi2 = 4, and p = 1/6.

    Args:
        scores: metric of each arm on each data set (data sets N >= 2, arms k >= 2), none missing.
        lower_is_better: for a loss.

    Returns:
        ranks and test; where every data set has only ties chi2 and f are 0 and both p are 1.

    Raises:
        ValueError: there are fewer than two of either, or a score is missing.

    """
    ranks = _ranks(scores, lower_is_better)
    n, k = ranks.shape
    if n < 2 or k < 2:
        raise ValueError(f"Friedman's test needs 2 data sets and 2 arms, found {n} and {k}.")
    mean = ranks.mean(0)
    ties = sum(float((sizes**3 - sizes).sum()) for sizes in (np.unique(row, return_counts=True)[1] for row in ranks))
    spread = 1 - ties / (n * k * (k * k - 1))
    if spread <= 1e-12:
        return Friedman(mean.tolist(), 0.0, 1.0, 0.0, 1.0)
    chi2 = 12 * n / (k * (k + 1)) * float((mean**2).sum() - k * (k + 1) ** 2 / 4) / spread
    chi2 = max(0.0, chi2)
    left = n * (k - 1) - chi2
    f = (n - 1) * chi2 / left if left > 1e-9 else math.inf
    least = math.exp(-(n - 1) * math.lgamma(k + 1))
    p = float(fdtrc(k - 1, (k - 1) * (n - 1), f)) if math.isfinite(f) else 0.0
    return Friedman(mean.tolist(), chi2, float(chdtrc(k - 1, chi2)), f, max(p, least))


def critical_difference(arms: int, data_sets: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference: average ranks that are further apart differ significantly.

    CD = q sqrt(k (k + 1) / (6 N)), where q is the studentised range's quantile for infinite degrees of freedom, divided by
    sqrt(2) (Demsar 2006, section 3.2.2 and table 5a). It allows for all k (k - 1) / 2 pairs.

    Example: 4 arms on 14 data sets have q = 2.569 and CD = 1.25.

    Args:
        arms: number of arms k, at least 2.
        data_sets: number of data sets N.
        alpha: probability of any false difference.

    Returns:
        CD in ranks.

    """
    from scipy.stats import studentized_range  # a second to import, and only needed for the diagram

    q = float(studentized_range.ppf(1 - alpha, arms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(arms * (arms + 1) / (6 * data_sets))


def cliques(ranks: Mapping[str, float], difference: float) -> list[list[str]]:
    """The bars of a critical-difference diagram: the largest groups of arms that do not differ significantly.

    Example: ranks a 1, b 2, c 3 and a difference of 1.5 give a-b and b-c.

    Args:
        ranks: average rank of each arm.
        difference: critical difference in ranks; arms that are less far apart belong together.

    Returns:
        groups of two or more, best first, none within another; no group where all arms differ.

    """
    order = sorted(ranks, key=ranks.__getitem__)
    found: list[list[str]] = []
    reached = 0
    for start, first in enumerate(order):
        end = start + sum(ranks[name] - ranks[first] < difference for name in order[start:])
        if end > max(reached, start + 1):
            found.append(order[start:end])
            reached = end
    return found


def _ranks(scores: npt.ArrayLike, lower_is_better: bool) -> npt.NDArray[np.float64]:
    """Ranks within each row (N, k)."""
    table = np.asarray(scores, float)
    if table.ndim != 2 or np.isnan(table).any():
        raise ValueError(f"Ranks need a score of every arm on every data set, found {_first_missing(table)}.")
    ordered = table if lower_is_better else -table
    less = (ordered[:, None, :] < ordered[:, :, None]).sum(2)
    equal = (ordered[:, None, :] == ordered[:, :, None]).sum(2)
    ranks: npt.NDArray[np.float64] = less + (equal + 1) / 2
    return ranks


def _first_missing(table: npt.NDArray[np.float64]) -> str:
    if table.ndim != 2:
        return f"an array of {table.ndim} axes"
    row, column = np.argwhere(np.isnan(table))[0]
    return f"none of arm {column} on data set {row}"
