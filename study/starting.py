"""Workers that are starting are let start.

Tune gives a warm actor to any trial that waits, also to one whose own actor is just starting, which it then ends. Trials that are shorter
than a start, some ten seconds, so keep all but the first worker from ever beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest.mock import patch

from ray import tune
from ray.tune.execution.tune_controller import TuneController

from study.config import Config


@contextmanager
def patient() -> Iterator[None]:
    """Let Tune give a warm actor to a trial that waits for resources, and ask for one where all others are starting."""
    reuse, ask = TuneController._maybe_reuse_cached_actor, TuneController._maybe_update_trial_queue

    def reused(self: Any, trial: Any) -> bool:
        if not is_starting(self, trial):
            return bool(reuse(self, trial))
        waiting = self._resources_to_pending_trials[trial.placement_group_factory]
        other = next((one for one in waiting if one is not trial and not is_starting(self, one)), None)
        if other is not None and reuse(self, other) and other not in self._staged_trials:
            self._staged_trials.add(other)  # as the caller does for a trial that gets a warm actor
            self._actor_cache.increase_max(other.placement_group_factory)
        return False

    def asked(self: Any) -> None:
        most = self._max_pending_trials
        self._max_pending_trials += sum(is_starting(self, trial) for trial in self._pending_trials)
        try:
            ask(self)
        finally:
            self._max_pending_trials = most

    with (
        patch.object(TuneController, "_maybe_reuse_cached_actor", reused),
        patch.object(TuneController, "_maybe_update_trial_queue", asked),
    ):
        yield


def is_starting(controller: Any, trial: Any) -> bool:
    """Whether a trial that has not begun has resources, and a process that is being made for it."""
    actor = controller._trial_to_actor.get(trial)
    return (
        trial in controller._pending_trials and actor in controller._actor_manager._live_actors_to_ray_actors_resources
    )


def requested(cpus: float, config: Config) -> tune.PlacementGroupFactory:
    """What a trial asks for."""
    return _resources(cpus, config["trial"]["share"])


@lru_cache
def _resources(cpus: float, share: float) -> tune.PlacementGroupFactory:
    """One object for all trials of a share: Tune looks trials up by it, and compares two that are equal slowly."""
    return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": share} if share else {"CPU": cpus}])
