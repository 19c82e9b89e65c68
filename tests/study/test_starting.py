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
    assert _resources(1, 0.0, None) == tune.PlacementGroupFactory([{"CPU": 1}])


def test_a_model_of_gpu_is_a_resource_that_a_trial_asks_for():
    config = {"trial": {"share": 0.5, "model": "accelerator_type:H100"}}
    assert requested(2, config).bundles == [{"CPU": 2, "GPU": 0.5, "accelerator_type:H100": 0.001}]


@pytest.fixture
def told(monkeypatch):
    """What Tune does of a death: of an actor it tries again what runs or was handed to it, of a task it gives up what waits."""
    done = []

    def actor_failed(self, actor, exception):
        trial = self._actor_to_trial[actor]
        if trial.status == "PENDING":
            done.append("again")

    def task_failed(self, trial, exception):
        done.append("again" if trial.status == "RUNNING" else "given up")

    monkeypatch.setattr(TuneController, "_actor_failed", actor_failed)
    monkeypatch.setattr(TuneController, "_trial_task_failure", task_failed)
    return done


def test_a_trial_that_is_handed_to_a_dead_worker_is_tried_again_and_given_up_if_it_then_fails(told):
    trial = Hashed("PENDING")
    controller = SimpleNamespace(_actor_to_trial={"actor": trial}, _resetting_trials={trial})
    error = RuntimeError("it died")
    with patient():
        TuneController._actor_failed(controller, "actor", error)
        TuneController._trial_task_failure(controller, trial, error)
        assert told == ["again"]
        assert not controller._resetting_trials, "Tune waits for its reset without end"
        TuneController._trial_task_failure(controller, trial, error)  # of something else, while it waits
        trial.status = "RUNNING"
        TuneController._actor_failed(controller, "actor", error)
        TuneController._trial_task_failure(controller, trial, error)
    assert told == ["again", "given up", "again"]


class Hashed:
    def __init__(self, status):
        self.status = status
