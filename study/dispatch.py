"""What Tune is handed next: the trials of a table in their order, or a search's proposals, and those that must run again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ray.tune.search import Searcher

TrialConfig = dict[str, Any]
FINISHED = Searcher.FINISHED


class Source(Protocol):
    """Where trials come from; StudySearch and Planned are sources."""

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

    """

    def __init__(self, trials: Sequence[TrialConfig]) -> None:
        self._waiting = deque(trials)

    def suggest(self, trial_id: str) -> Any:
        """The next one."""
        return {"trial": self._waiting.popleft()} if self._waiting else FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing follows from it."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing follows from it."""


class Dispatch(Searcher):
    """Hands trials to Tune while they may start, and again where a trial needs more memory than it was given.

    Args:
        source: where trials come from.
        over: says why no further trial may start, such as a budget that is spent; None while they may.
        wait: says why none may start now, such as a disk that is full; asked again and again.
        share: gives the share of a GPU of a trial; None where it is not known yet.
        grow: asks for a larger share after its memory was full; whether there is one.

    """

    def __init__(
        self,
        source: Source,
        over: Callable[[], str | None] = lambda: None,
        wait: Callable[[], str | None] = lambda: None,
        share: Callable[[TrialConfig], float | None] = lambda trial: 0.0,
        grow: Callable[[TrialConfig], bool] = lambda trial: False,
    ) -> None:
        super().__init__(metric="metric", mode="max")
        self.source, self._over, self._wait, self._share, self._grow = source, over, wait, share, grow
        self.ended: str | None = None  # why trials were left
        self._again: deque[tuple[str, TrialConfig]] = deque()  # by the name that the source knows it by
        self._running: dict[str, tuple[str, TrialConfig]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune's snapshots do not hold it: resuming is a query of the store."""
        return object, ()

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        """What is searched is the source's matter."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial, None to be asked again, or FINISHED."""
        self.ended = self.ended or self._over()
        if self.ended:
            return None if self._running else FINISHED
        if self._wait():
            return None
        if not self._again:
            config = self.source.suggest(trial_id)
            if config == FINISHED:
                return None if self._running else FINISHED  # one that runs may have to run again
            if config is None:
                return None
            self._again.append((trial_id, config["trial"]))
        name, trial = self._again[0]
        share = self._share(trial)
        if share is None:
            return None
        self._again.popleft()
        self._running[trial_id] = name, trial
        return {"trial": trial | {"share": share}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """An epoch has ended; the source is told the name that it knows the trial by."""
        if "record/epoch" in result:  # Tune flattens it; a worker that waits sends none
            self.source.on_trial_result(self._running[trial_id][0], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended; one whose memory was full goes to the front again, if there is a larger share."""
        name, trial = self._running.pop(trial_id)
        if result is not None and "refused" in result and self._grow(trial):
            self._again.appendleft((name, trial))
        else:
            self.source.on_trial_complete(name, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
