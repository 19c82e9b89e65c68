"""How likely a run of one arm beats a run of another.

The probability of improvement asks how often, where the mean difference asks by how much (Agarwal et al., Deep
reinforcement learning at the edge of the statistical precipice, NeurIPS 2021, section 4.3).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from results.stats import Interval


def probability_of_improvement(
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """P(a run of ours > a run of theirs), mean over tasks, with a stratified bootstrap interval over runs.

    Per task it is the share of all N x M pairs of runs that ours wins, a tie counting one half: the Mann-Whitney statistic U / NM
    (Agarwal et al. 2021, section 4.3). Runs are drawn with replacement within each task and arm, as in rliable, but N - 1 of N with
    weight N / (N - 1) (see `resampling.bootstrap_interval`), since few runs are the rule. Runs count as independent, so
    a task is a data set, or a fold, whose runs are seeds: the interval speaks of new seeds on the same tasks. For a loss
    swap the two arms.

    Example: runs 1, 3 against 0, 2 win the pairs (1, 0), (3, 0) and (3, 2) of 4: 0.75.

    Args:
        ours: for each task the metric of our runs, at least one.
        theirs: for each task that of the other arm's runs; as many as ours or not, in no order.
        seed: of the resampling; the same seed gives the same interval.
        resamples: number of resamples.
        confidence: probability in (0, 1).

    Returns:
        probability, low, high; None for both where no resample differs: single runs, or every run of one arm above every
        run of the other, which shows no spread.

    """
    shares, values = [], np.zeros(resamples)
    weights = iter(
        _weights(tuple(len(runs) for both in zip(ours, theirs, strict=True) for runs in both), seed, resamples)
    )
    for our, their in zip(ours, theirs, strict=True):
        a, b = np.asarray(our, float), np.asarray(their, float)
        wins = (a[:, None] > b) + (a[:, None] == b) / 2
        shares.append(float(wins.mean()))
        values += np.einsum("rm,rm->r", next(weights) @ wins, next(weights)) / wins.size
    estimate, values = math.fsum(shares) / len(shares), values / len(shares)
    if np.ptp(values) <= 1e-12:
        return estimate, None, None
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return estimate, float(low), float(high)


def paired_improvement(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> Interval:
    """P(ours > theirs in a pair), with Wilson's interval: how often an arm wins on the same fold, seed or data set.

    A tie counts one half, which makes the interval a little too wide. Wilson's (JASA 22, 1927; recommended for few trials by
    Brown, Cai and DasGupta, Statistical Science 16, 2001, section 4) has bounds even where every pair is won. Pairs count as
    independent, as data sets are; folds of one cross-validation share training images, and seeds on one fold are to be
    averaged first (`stats.replicates`).

    Example: 8 wins of 10 with z = 1.959964: centre (8 + z^2/2) / (10 + z^2) = 0.716740, half width z / (10 + z^2) *
    sqrt(8 * 2 / 10 + z^2/4) = 0.226577, so that the interval is 0.490163 to 0.943317.

    Args:
        ours: one number per pair, at least one.
        theirs: the numbers of the other arm, in the same order.
        confidence: probability in (0, 1).

    Returns:
        probability, low, high.

    """
    wins = sum((x > y) + (x == y) / 2 for x, y in zip(ours, theirs, strict=True))
    n, z = len(ours), float(ndtri((1 + confidence) / 2))
    centre = (wins + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(wins * (n - wins) / n + z * z / 4)
    return wins / n, max(0.0, centre - half), min(1.0, centre + half)


@lru_cache(maxsize=4)
def _weights(counts: tuple[int, ...], seed: int, resamples: int) -> list[np.ndarray]:
    """Weights (R, count) of resampled runs, each row summing to count; a single run has no spread to draw from.

    The arms of a table mostly have the same numbers of runs, so that they are drawn once.
    """
    rng = np.random.default_rng(seed)
    return [
        rng.multinomial(n - 1, np.full(n, 1 / n), resamples) * (n / (n - 1)) if n > 1 else np.ones((resamples, 1))
        for n in counts
    ]
