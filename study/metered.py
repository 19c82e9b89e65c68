"""A budget between the trials of a study and the engine: asked before each starts, told of each that starts and ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from study.budget import Budget
from study.dispatch import Source, TrialConfig
from study.stopping import part_of

# Seconds between two looks at how many GPUs are held.
_LOOK = 5.0


class Metered:
    """A source of trials whose cost is counted.

    Args:
        source: where trials come from.
        budget: of the study.
        held: how many GPUs (workers, on machines without) are held now.
        expected: seconds that a trial is expected to take.
        share: of a GPU that a trial has; 1 where workers are counted.
        clock: seconds since 1970.

    """

    def __init__(
        self,
        source: Source,
        budget: Budget,
        held: Callable[[], float],
        expected: float,
        share: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source, self.budget, self.expected, self.share = source, budget, expected, share
        self._held, self._clock, self._looked = held, clock, float("-inf")

    @property
    def ahead(self) -> Sequence[TrialConfig]:
        """Those of the source."""
        return self.source.ahead

    @property
    def left(self) -> int:
        """Those of the source."""
        return self.source.left

    def suggest(self, trial_id: str) -> Any:
        """What the source suggests; a trial that it does is running from now on."""
        found = self.source.suggest(trial_id)
        if isinstance(found, dict):
            method = json.loads(found["trial"]["spec"])["method"]
            self.budget.started(trial_id, self._clock(), method, self.share, self.expected)
        return found

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass it on."""
        self.source.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended."""
        row = part_of(result or {}, "row")
        took = None if row.get("seconds") is None else row["seconds"] * (row.get("gpu_share") or self.share)
        self.budget.ended(trial_id, self._clock(), took)
        self.source.on_trial_complete(trial_id, result, error)

    def over(self) -> str | None:
        """Why no further trial may start."""
        self._look()
        return self.budget.may_start(self._clock(), self.expected)

    def must_stop(self) -> str | None:
        """Why those that run must stop."""
        self._look()
        return self.budget.must_stop(self._clock())

    def _look(self) -> None:
        now = self._clock()
        if abs(now - self._looked) >= _LOOK:
            self._looked = now
            self.budget.hold(now, self._held())
