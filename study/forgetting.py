"""Tune keeps every trial there was, for snapshots and cancelled requests: a study of ten thousand would take a gigabyte of its driver.

Nobody reads them, since resuming is a query of the store. What follows was found by looking for who refers to trials that have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.tune_controller import TuneController


@contextmanager
def forgetful() -> Iterator[None]:
    """Let Tune forget trials that have ended."""
    changes: list[tuple[type, str, Callable[..., Any]]] = [
        (TuneController, "_get_trial_checkpoints", lambda self: {}),
        (TuneController, "_mark_trial_to_checkpoint", lambda self, trial: None),
        (TuneController, "_set_trial_status", _moved(TuneController._set_trial_status)),
        (RayActorManager, "remove_actor", _removed(RayActorManager.remove_actor)),
    ]
    with ExitStack() as changed:
        for owner, name, function in changes:
            changed.enter_context(patch.object(owner, name, function))
        yield


def _moved(move: Callable[..., None]) -> Callable[..., None]:
    """Keeps, of the trials that have ended, the one that has just done so and may yet be tried again."""

    def moved(self: Any, trial: Any, status: str) -> None:
        move(self, trial, status)
        for ended in (self._stopped_trials, self._failed_trials):
            ended &= {trial}

    return moved


def _removed(remove: Callable[..., bool]) -> Callable[..., bool]:
    """Drops what an actor was to do that was asked for, and is not needed since a warm one takes its trial."""

    def removed(self: Any, tracked_actor: Any, *given: Any, **named: Any) -> bool:
        found = remove(self, tracked_actor, *given, **named)
        self._pending_actors_to_enqueued_actor_tasks.pop(tracked_actor, None)
        return found

    return removed
