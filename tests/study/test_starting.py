import pickle
from functools import partial
from types import SimpleNamespace

import pytest
from ray import tune
from ray.tune.execution.tune_controller import TuneController

from study.starting import _resources, patient, requested


@pytest.fixture
def controller(monkeypatch):
    """One whose trial "starting" has a process that is being made for it; two others may wait; and what it does."""
    done = []

    def reuse(self, trial):
        done.append(f"reuse {trial.name}")
        return True

    monkeypatch.setattr(TuneController, "_maybe_reuse_cached_actor", reuse)
    monkeypatch.setattr(
        TuneController, "_maybe_update_trial_queue", lambda self: done.append(f"ask {self._max_pending_trials}")
    )
    trials = [Named(name) for name in ("starting", "queued")]
    return SimpleNamespace(
        trials=trials,
        done=done,
        _pending_trials=set(trials),
        _trial_to_actor=dict(zip(trials, ("made", "asked for"), strict=True)),
        _actor_manager=SimpleNamespace(_live_actors_to_ray_actors_resources={"made": None}),
        _resources_to_pending_trials={"one": trials},
        _staged_trials=set(),
        _actor_cache=SimpleNamespace(increase_max=lambda resources: done.append("staged")),
        _max_pending_trials=1,
    )


class Named:
    placement_group_factory = "one"

    def __init__(self, name):
        self.name = name


def test_a_warm_worker_is_given_to_a_trial_that_waits_for_resources(controller):
    starting, queued = controller.trials
    with patient():
        assert TuneController._maybe_reuse_cached_actor(controller, queued)
        assert not TuneController._maybe_reuse_cached_actor(controller, starting)
        assert controller.done == ["reuse queued", "reuse queued", "staged"]
        controller._resources_to_pending_trials["one"].remove(queued)
        assert not TuneController._maybe_reuse_cached_actor(controller, starting)
        assert len(controller.done) == 3, "its own process is left alone"


def test_while_one_starts_another_is_asked_for(controller):
    with patient():
        TuneController._maybe_update_trial_queue(controller)
        controller._actor_manager._live_actors_to_ray_actors_resources.clear()
        TuneController._maybe_update_trial_queue(controller)
    assert controller.done == ["ask 2", "ask 1"]
    assert controller._max_pending_trials == 1


def test_trials_of_a_share_ask_for_resources_by_one_object():
    """Also after Tune has pickled what they ask with, which it does for every trial."""
    asked = [pickle.loads(pickle.dumps(partial(requested, 1)))({"trial": {"share": 0.5}}) for _ in range(2)]
    assert asked[0] is asked[1] == tune.PlacementGroupFactory([{"CPU": 1, "GPU": 0.5}])
    assert _resources(1, 0.0) == tune.PlacementGroupFactory([{"CPU": 1}])
