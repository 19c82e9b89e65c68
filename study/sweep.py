"""Many replays of one recording: configurations, bootstrap draws, and what they come to."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from study.errors import StudyError
from study.replay import Played, Recording
from study.simulate import Machines, Outcome, simulate
from study.stopping import Stopping

# The bands: nine draws of ten lie above the lower end, and nine below the upper one.
BAND = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Schedule:
    """What stops trials: nothing, or ASHA.

    Args:
        name: none or asha.
        grace: epochs of the first rung.
        reduction: ratio of the rungs.
        brackets: how many.

    """

    name: str
    grace: int
    reduction: int
    brackets: int

    def rules(self, epochs: int, metric: str) -> Stopping | None:
        """The engine's rules, fresh."""
        return None if self.name == "none" else Stopping(epochs, self.grace, self.reduction, self.brackets, metric)


@dataclass(frozen=True)
class Setup:
    """One configuration.

    Args:
        machines: to run on.
        schedule: what stops trials.
        price: USD for an hour of a GPU; None: unknown.

    """

    machines: Machines
    schedule: Schedule
    price: float | None


class Summary(NamedTuple):
    """What the draws of one configuration came to.

    Attributes:
        setup: the configuration.
        recorded: outcome of the trials as they were recorded; None where more are asked for than there are.
        draws: outcomes of the bootstrap draws.
        extended: recorded trials whose curve had to be extended in any of them.

    """

    setup: Setup
    recorded: Outcome | None
    draws: list[Outcome]
    extended: int

    @property
    def outcomes(self) -> list[Outcome]:
        """The draws, or the recorded trials where nothing is drawn."""
        return self.draws or ([self.recorded] if self.recorded else [])

    def band(self, values: Iterable[float]) -> tuple[float, float, float]:
        """The ends and the middle of the band of one number an outcome; infinite where as many did not get there."""
        ordered = sorted(values)
        low, middle, high = (ordered[round(share * (len(ordered) - 1))] for share in BAND)
        return low, middle, high

    def money(self, seconds: float) -> float:
        """USD for so many GPU-seconds; not a number where the price is unknown."""
        return float("nan") if self.setup.price is None else seconds / 3600 * self.setup.price

    @property
    def time_to_goal(self) -> tuple[float, float, float]:
        """Seconds until the goal is reached; infinite where it is not."""
        return self.band(one.reached[0] if one.reached else np.inf for one in self.outcomes)

    @property
    def held_to_goal(self) -> tuple[float, float, float]:
        """GPU-seconds held until then."""
        return self.band(one.reached[1] if one.reached else np.inf for one in self.outcomes)

    @property
    def reaching(self) -> float:
        """Share of the outcomes that reach the goal."""
        return sum(one.reached is not None for one in self.outcomes) / len(self.outcomes)


def replay(recording: Recording, setup: Setup, count: int, draws: int, seed: int, goal: float, extend: bool) -> Summary:
    """Replay a recording under one configuration, as it is and over bootstrap draws.

    A draw takes `count` trials with replacement from the recorded ones (from the first `count`, where fewer are asked for), those of a
    proposal together, and keeps them in planned order (unless they are more than there are), so that what a search proposed late stays
    late. Draws differ in the trials, in
    how cut curves go on, and in when machines are reclaimed; draw i is the same for all configurations.

    Raises:
        StudyError: where curves would have to be extended that may not be.

    """
    pool = recording.trials[:count]
    proposals: dict[int, list[Played]] = defaultdict(list)
    for trial in pool:
        proposals[trial.proposal].append(trial)
    groups = list(proposals.values())
    cut: set[str] = set()

    def one(chosen: Sequence[Played], draw: int) -> Outcome:
        rng = np.random.default_rng([seed, draw])
        rules = setup.schedule.rules(max(trial.epochs for trial in recording.trials), recording.metric)
        extension = partial(_extend, recording, rng, cut)
        outcome = simulate(chosen, setup.machines, rules, extension, rng, goal, blocks=recording.blocks)
        if cut and not extend:
            raise StudyError(
                f"Under {setup.schedule.name} {len(cut)} trials of {recording.study} would go on that were stopped early, and "
                "nothing recorded says how: leave out extend=refuse to have their curves drawn from like completed trials."
            )
        return outcome

    recorded = one(pool, 0) if count == len(pool) else None
    drawn = []
    for draw in range(1, draws + 1):
        wanted = round(count * len(groups) / len(pool))
        numbers = np.random.default_rng([seed, draw, 1]).integers(len(groups), size=wanted)
        # Of more than there are, all copies of the last one would come last: their order is that of the draw.
        numbers = (numbers if wanted > len(groups) else np.sort(numbers)).tolist()
        chosen = [trial._replace(proposal=i) for i, number in enumerate(numbers) for trial in groups[number]]
        drawn.append(one(chosen, draw))
    return Summary(setup, recorded, drawn, len(cut))


def _extend(
    recording: Recording, rng: np.random.Generator, cut: set[str], trial: Played
) -> tuple[list[float], list[float], float]:
    cut.add(trial.key)
    values, seconds = recording.extended(trial, rng)
    return values, seconds, recording.evaluation(trial.method)


def setups(
    machines: Machines, schedule: Schedule, price: float | None, lists: dict[str, list[float | str]]
) -> list[Setup]:
    """Every combination of the values that are listed.

    Args:
        machines: what is not listed.
        schedule: what is not listed.
        price: where it is not listed.
        lists: by name of a field of Machines or Schedule (scheduler for its name), or price.

    """
    found = []
    for chosen in itertools.product(*lists.values()):
        values = dict(zip(lists, chosen, strict=True))
        stops = {("name" if name == "scheduler" else name): values.pop(name) for name in
                 ("scheduler", "grace", "reduction", "brackets") if name in values}  # fmt: skip
        cost = values.pop("price", price)
        stops = {"name": "none"} if stops.get("name", schedule.name) == "none" else stops
        found.append(Setup(replace(machines, **values), replace(schedule, **stops), cost))  # type: ignore[arg-type]
    return list(dict.fromkeys(found))


def cheapest(summaries: Sequence[Summary]) -> Summary | None:
    """The configuration that reaches the goal for the least money, in the middle of its draws, or for the least GPU-hours where one
    has no price; None where none does in half of them. Of equal ones the faster.
    """
    reaching = [one for one in summaries if np.isfinite(one.held_to_goal[1])]
    priced = all(one.setup.price is not None for one in reaching)
    return min(
        reaching,
        key=lambda one: (one.money(one.held_to_goal[1]) if priced else one.held_to_goal[1], one.time_to_goal[1]),
        default=None,
    )


def best_so_far(outcomes: Sequence[Outcome], times: Sequence[float]) -> npt.NDArray[np.float64]:
    """Best value of a trial that is done by each time, (outcomes, times); NaN before the first."""
    found = np.full((len(outcomes), len(times)), np.nan)
    for row, outcome in zip(found, outcomes, strict=True):
        place = np.searchsorted([time for time, _ in outcome.best], times, side="right")
        row[place > 0] = np.array([value for _, value in outcome.best])[place[place > 0] - 1]
    return found
