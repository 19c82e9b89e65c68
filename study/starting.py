"""Workers that are starting are let start, and a trial whose warm worker turns out to be dead is tried again.

Tune gives a warm actor to any trial that waits, also to one whose own actor is just starting, which it then ends. Trials that are shorter
than a start, some ten seconds, so keep all but the first worker from ever beginning.

It learns that an idle worker has died as it hands a trial to it, and then is told twice: of the actor, for which it tries the trial again,
and of what the actor was asked, for which it would give up the trial that waits again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest.mock import patch

from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from study.config import Config


@contextmanager
def patient() -> Iterator[None]:
    """Let Tune give a warm actor to a trial that waits for resources, ask for one where all others are starting, and try a trial again."""
    reuse, ask = TuneController._maybe_reuse_cached_actor, TuneController._maybe_update_trial_queue
    died, failed, waits_again = TuneController._actor_failed, TuneController._trial_task_failure, set[Any]()

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

    def dead(self: Any, actor: Any, exception: Exception) -> None:
        trial = self._actor_to_trial[actor]
        handed = trial in self._resetting_trials
        self._resetting_trials.discard(trial)
        died(self, actor, exception)
        if handed:
            waits_again.add(trial)

    def unanswered(self: Any, trial: Any, exception: Exception) -> None:
        if trial in waits_again and trial.status == Trial.PENDING:
            waits_again.remove(trial)
        else:
            failed(self, trial, exception)

    with (
        patch.object(TuneController, "_actor_failed", dead),
        patch.object(TuneController, "_trial_task_failure", unanswered),
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
    return _resources(cpus, config["trial"]["share"], config["trial"].get("model"))


@lru_cache
def _resources(cpus: float, share: float, model: str | None) -> tune.PlacementGroupFactory:
    """One object for all trials of a place: Tune looks trials up by it, and compares two that are equal slowly."""
    gpu = {"GPU": share} if share else {}
    return tune.PlacementGroupFactory([{"CPU": cpus} | gpu | ({model: 0.001} if model else {})])
