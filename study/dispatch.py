"""What Tune is handed next: the trials of a table in their order, or a search's proposals, and those that must run again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ray.tune.search import Searcher

from study.growth import Demand
from study.packing import Measured, NoShares, Shares

TrialConfig = dict[str, Any]
FINISHED = Searcher.FINISHED


class Source(Protocol):
    """Where trials come from; StudySearch, Planned and Metered are sources."""

    @property
    def ahead(self) -> Sequence[TrialConfig]:
        """Trials that are known before any has ended; none of a search, whose proposals depend on those before."""

    @property
    def left(self) -> int:
        """How many trials have not ended, at most."""

    def suggest(self, trial_id: str) -> Any:
        """{"trial": ...} of the next trial, None where it is not known yet, or FINISHED."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """An epoch of it has ended."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """It has ended."""


class Planned:
    """The trials of a table, in their order.

    Args:
        trials: {"spec", "index", ...} of each.

    Attributes:
        ahead: those trials.
        left: how many of them have not ended.

    """

    def __init__(self, trials: Sequence[TrialConfig]) -> None:
        self.ahead: Sequence[TrialConfig] = trials
        self._waiting, self.left = deque(trials), len(trials)

    def suggest(self, trial_id: str) -> Any:
        """The next one."""
        return {"trial": self._waiting.popleft()} if self._waiting else FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing follows from it."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """One less is left."""
        self.left -= 1


class Dispatch(Searcher):
    """Hands trials to Tune while they may start, and again where a trial needs more memory than it was given.

    Before those of which it is not known what they need, one of their like is handed out with "probe", to be measured.

    Args:
        source: where trials come from.
        over: says why no further trial may start, such as a budget that is spent; None while they may.
        wait: says why none may start now, such as a disk that is full; asked again and again.
        shares: of a GPU; None: trials run without one.
        demand: of machines; None: there are as many as there are.

    """

    def __init__(
        self,
        source: Source,
        over: Callable[[], str | None] = lambda: None,
        wait: Callable[[], str | None] = lambda: None,
        shares: Shares | None = None,
        demand: Demand | None = None,
    ) -> None:
        super().__init__(metric="metric", mode="max")
        self.source, self._over, self._wait, self._shares = source, over, wait, shares or NoShares()
        self._demand = demand
        self.ended: str | None = None  # why trials were left
        self._again: deque[tuple[str, TrialConfig]] = deque()  # by the name that the source knows it by
        # No name: it is only measured. Beside the trial, what it was told of its place.
        self._running: dict[str, tuple[str | None, TrialConfig, TrialConfig]] = {}
        # Measured before anything is trained, so that later no GPU need be cleared for it.
        self._unmeasured = deque(self._shares.firsts(source.ahead))

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune's snapshots do not hold it: resuming is a query of the store."""
        return object, ()

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        """What is searched is the source's matter."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial, None to be asked again, or FINISHED."""
        found = self._suggest(trial_id)
        if self._demand is not None and isinstance(found, dict) and "probe" not in found["trial"]:
            # Of one model machines come one by one: what waits in the place of trials to come asks for any.
            any_will_do = "model" not in found["trial"]
            self._demand.note(found["trial"]["share"] if any_will_do else 0.0, self.source.left if any_will_do else 0)
        return found

    def _suggest(self, trial_id: str) -> Any:
        self.ended = self.ended or self._over()
        if self.ended:
            return None if self._running else FINISHED
        if self._wait():
            return None
        while self._unmeasured:
            trial = self._unmeasured.popleft()
            if self._shares.probe(trial):
                return self._measured(trial_id, trial)
        if not self._again:
            config = self.source.suggest(trial_id)
            if config == FINISHED:
                return None if self._running else FINISHED  # one that runs may have to run again
            if config is None:
                return None
            self._again.append((trial_id, config["trial"]))
        name, trial = self._again[0]
        place = self._shares.of(trial)
        if place is None:
            return self._measured(trial_id, trial) if self._shares.probe(trial) else None
        self._again.popleft()
        told = self._shares.given(place)
        self._running[trial_id] = name, trial, told
        return {"trial": trial | told}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """An epoch has ended; the source is told the name that it knows the trial by."""
        if "record/epoch" in result:  # Tune flattens it; a worker that waits sends none
            self.source.on_trial_result(str(self._running[trial_id][0]), result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended; one whose memory was full goes to the front again, if there is a larger share or model."""
        name, trial, told = self._running.pop(trial_id)
        if self.ended and self._demand is not None:
            self._demand.note(0.0, 0)
        if name is None:
            found = (result or {}).get("measured")
            self._shares.learn(trial, Measured(*found) if found else None)
        elif result is not None and "refused" in result and self._shares.grow(trial | told, result["memory"]):
            self._again.appendleft((name, trial))
        else:
            self.source.on_trial_complete(name, result, error)

    def _measured(self, trial_id: str, trial: TrialConfig) -> Any:
        told = {"share": 1.0, "probe": True}
        self._running[trial_id] = None, trial, told
        return {"trial": trial | told}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
