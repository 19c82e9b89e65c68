"""What a search's best value is worth once its configuration is trained again.

The largest of many noisy values is large partly by luck, so that the best of a search flatters itself, the more the more
trials there were (Cawley and Talbot, On over-fitting in model selection, JMLR 11, 2010). Fresh seeds, which the search did not
see, tell.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.special import ndtr

from results.stats import mean_interval


class Optimism(NamedTuple):
    """By how much a search flattered its best trial.

    Attributes:
        trials: number of trials that the search tried, those that it stopped early among them.
        best: the value by which the search chose, in units of the metric.
        fresh_runs: number of runs with fresh seeds.
        fresh: their mean, an unbiased estimate of what the configuration reaches.
        optimism: best - fresh, or fresh - best for a loss; positive where the search flattered.
        low: lower end of its interval; None for a single fresh run.
        high: upper end.
        luck: the optimism to be expected if all trials were equally good and as noisy as the fresh runs, which is the
            most that noise explains; None for a single fresh run.
        stopped: how many of the trials were stopped early.

    """

    trials: int
    best: float
    fresh_runs: int
    fresh: float
    optimism: float
    low: float | None
    high: float | None
    luck: float | None
    stopped: int = 0

    def sentence(self) -> str:
        """The optimism in words."""
        runs = f"{self.fresh_runs} fresh seed{'' if self.fresh_runs == 1 else 's'}"
        among = f" ({self.stopped} stopped early)" if self.stopped else ""
        said = f"The best of {self.trials} trials{among} had {self.best:.3f} in the search and {self.fresh:.3f} with {runs}"
        if self.low is None or self.high is None or self.luck is None:
            return f"{said}: an optimism of {self.optimism:+.3f}, whose interval takes two fresh seeds."
        return (
            f"{said}: an optimism of {self.optimism:+.3f} (95 % interval {self.low:+.3f} to {self.high:+.3f}); "
            f"among equally good trials luck alone would make {self.luck:+.3f}."
        )


def winners_curse(
    search_values: Sequence[float],
    fresh_values: Sequence[float],
    lower_is_better: bool = False,
    stopped: int = 0,
) -> Optimism:
    """The optimism of a search about its best trial, from runs of that trial's configuration with fresh seeds.

    The fresh runs know nothing of the choice, so that their t interval holds however many trials the search chose from; the
    search's value is a number that is known. Fresh values are to be of the same metric on the same images as the search's
    (those of validation), so that nothing but the seed is new.

    Example: the search found 0.90, 0.95 and 0.91; fresh seeds gave 0.91, 0.92 and 0.93. The optimism is 0.95 - 0.92 = 0.03 -+
    t(0.975; 2) * 0.01 / sqrt(3) = 0.0248, and luck alone 0.8463 * 0.01.

    Args:
        search_values: metric of every trial that was trained to its end.
        fresh_values: metric of the best trial's configuration, one per fresh seed.
        lower_is_better: for a loss.
        stopped: number of trials that were stopped early: they could have won, and count among those that luck had to choose from.

    Returns:
        the estimate, its 95 % interval and what luck would do.

    """
    best = min(search_values) if lower_is_better else max(search_values)
    sign = -1.0 if lower_is_better else 1.0
    optimism, low, high = mean_interval([sign * (best - value) for value in fresh_values], 0.0)
    trials = len(search_values) + stopped
    luck = stdev(fresh_values) * expected_maximum(trials) if len(fresh_values) > 1 else None
    return Optimism(trials, best, len(fresh_values), fmean(fresh_values), optimism, low, high, luck, stopped)


def expected_maximum(n: int) -> float:
    """Expected largest of n independent standard normal values.

    The integral of x n phi(x) Phi(x)^(n - 1) (Harter, Biometrika 48, 1961, table 1).

    Example: 0 for one value, 1/sqrt(pi) for two, 1.53875 for ten, 2.50759 for a hundred.
    """
    from scipy.integrate import quad  # a tenth of a second to import, which no other table needs

    def weighted(x: float) -> float:
        return x * n * math.exp(-x * x / 2) / math.sqrt(2 * math.pi) * float(ndtr(x)) ** (n - 1)

    return float(quad(weighted, -9, 9, epsabs=1e-10, limit=200)[0])
