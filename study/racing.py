"""Racing: an arm of a search is left when its trainings so far say that it is worse than the best one. Never an arm of a table.

Source: Maron & Moore, Hoeffding races (NIPS 1993), and Birattari et al., A racing algorithm for configuring metaheuristics (GECCO
2002), for dropping by paired comparisons over blocks; Lan & DeMets, Discrete sequential boundaries for clinical trials (Biometrika
70, 1983), for spending the error over the looks, with their alpha_2, which spends it nearly evenly (as Pocock's boundary does).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, variance

import numpy as np

# Draws that the boundary is found with; a level of 0.01 has a standard error of 0.0002.
DRAWS, SEED = 200_000, 6


def worse(differences: Sequence[float], blocks: int, alpha: float, grain: float) -> bool:
    """Whether an arm is to be dropped at this look.

    A paired t-test, one-sided, at each look: of an arm as good as the leader, at most a share alpha is dropped over all looks where
    differences are normal. The leader is the best of those before, so that its mean is flattered: against a leader out of many equal
    arms the share is larger (tests/study/test_racing.py says how much), and what is lost then is an arm that is no better.

    Args:
        differences: of the arm and the leader in the blocks (fold and seed) that both have finished.
        blocks: of an arm that is complete; the looks are after 2 .. blocks - 1 of them.
        alpha: error over all looks; 0 drops nothing.
        grain: the smallest difference that there can be, as 1 / validation images. Differences cannot be known to spread less: two
            equal ones would otherwise be proof.

    """
    count = len(differences)
    if not 2 <= count < blocks or alpha <= 0:
        return False
    error = math.sqrt(max(variance(differences), grain**2) / count)
    return fmean(differences) / error < boundary(blocks, alpha)[count - 2]


@lru_cache(maxsize=8)
def boundary(blocks: int, alpha: float) -> tuple[float, ...]:
    """Critical values of the t statistic after 2 .. blocks - 1 blocks, all below 0.

    Value k is such that, of arms equal to the leader, alpha_2(k) = alpha log(1 + (e - 1) (k - 1) / (looks)) have been dropped by then;
    found on seeded normal draws, which holds for the t statistic of few blocks as the tables of normal boundaries do not.
    """
    looks = blocks - 2
    draws = np.random.default_rng(SEED).standard_normal((DRAWS, blocks - 1))
    going, values = np.ones(DRAWS, bool), []
    for look in range(1, looks + 1):
        seen = draws[:, : look + 1]
        statistic = seen.mean(1) / (seen.std(1, ddof=1) / math.sqrt(look + 1))
        spent = alpha * math.log(1 + (math.e - 1) * look / looks)
        # As many of those still going as bring all that were dropped to what may be spent by now.
        drop = round(spent * DRAWS) - int((~going).sum())
        values.append(float(np.sort(statistic[going])[drop]))
        going &= statistic >= values[-1]
    return tuple(values)
