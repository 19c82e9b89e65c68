"""Who proposes: TPE, CMA-ES, chance or a grid. None keeps a state: a proposal follows from seed, number and history alone."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from math import log
from typing import Any

import numpy as np
import optuna
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from mdml.train import derived_seed
from study.errors import StudyError
from study.space import Parameters, Space

SAMPLERS = ("tpe", "cmaes", "random", "grid")


class Samplers:
    """The samplers of a search, one for each proposal.

    Args:
        name: out of SAMPLERS.
        space: what they draw from.
        seed: of the search.

    Attributes:
        size: how many proposals there can be; None for no end.

    Raises:
        StudyError: where the space is not for them.

    """

    def __init__(self, name: str, space: Space, seed: int) -> None:
        self.name, self.seed = name, seed
        self.size: int | None = None
        if name == "grid":
            self._points = space.points()
            random.Random(derived_seed("grid", seed)).shuffle(self._points)  # noqa: S311
            self.size = len(self._points)
        if name == "cmaes":
            self._ranges = _ranges(space)

    def of(self, index: int) -> optuna.samplers.BaseSampler:
        """The sampler of proposal `index`."""
        seed = derived_seed("search", self.seed, index) % 2**32
        if self.name == "grid":
            return Given(self._points[index])
        if self.name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self.name == "cmaes":
            return Cmaes(self._ranges, derived_seed("cmaes", self.seed) % 2**32, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _ranges(space: Space) -> dict[str, BaseDistribution]:
    found = space.distributions(space.methods[0])
    choices = [name for name, one in found.items() if isinstance(one, CategoricalDistribution)]
    needs = "search.sampler=cmaes moves numbers alone and needs"
    if len(space.methods) > 1:
        raise StudyError(
            f"{needs} one method, found {', '.join(space.methods)}: give method=NAME, or take search.sampler=tpe."
        )
    if choices:
        raise StudyError(
            f"{needs} ranges, found choices for {', '.join(choices)}: fix them, or take search.sampler=tpe."
        )
    ranges = {name: one for name, one in found.items() if not one.single()}
    if not ranges:
        raise StudyError(f"{needs} a range, found none that is not fixed: take search.sampler=tpe.")
    return ranges


class Given(optuna.samplers.BaseSampler):
    """Proposes what it is given: a point of a grid, or what was proposed before."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing depends on anything."""
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Parameters:
        """Nothing depends on anything."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The given value."""
        return self.parameters[param_name]


class Cmaes(Given):
    """CMA-ES (Hansen, The CMA Evolution Strategy: A Tutorial, 2016), told all trials again before each proposal.

    Optuna's sampler of that name keeps its state in the attributes of its trials, which the store does not have. Here a generation is
    as many ended trials as the population has, in their order, whoever proposed them; what is left over waits. The strategy knows
    ranks alone: of two trials the one is better that was trained to the end, then the one that was stopped later, then the one with
    the higher value.

    Args:
        ranges: of the numbers.
        start: seed of the strategy, the same for all proposals of a search.
        seed: of this proposal.

    """

    def __init__(self, ranges: dict[str, BaseDistribution], start: int, seed: int) -> None:
        super().__init__({})
        self.ranges, self.start, self.seed = ranges, start, seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All ranges."""
        return self.ranges

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Parameters:
        """The next point."""
        import cmaes  # here, since it imports scipy.stats, half a second of each driver

        transform = _SearchSpaceTransform(self.ranges, transform_0_1=True)
        dimensions = len(transform.bounds)
        strategy = cmaes.CMA(
            mean=np.full(dimensions, 0.5),
            sigma=1 / 6,
            bounds=transform.bounds,
            seed=self.start,
            population_size=4 + int(3 * log(dimensions)),
        )
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        size = strategy.population_size
        for first in range(0, len(ended) - size + 1, size):
            best_first = sorted(ended[first : first + size], key=_worse)
            strategy.tell([(transform.transform(one.params), float(rank)) for rank, one in enumerate(best_first)])
        strategy.reseed_rng(self.seed)
        return dict(transform.untransform(strategy.ask()))


def _worse(trial: FrozenTrial) -> tuple[bool, int, float]:
    pruned = trial.state == TrialState.PRUNED
    return pruned, -(trial.last_step or 0) if pruned else 0, -(trial.value or 0.0)
