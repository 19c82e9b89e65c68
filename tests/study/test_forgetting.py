from types import SimpleNamespace

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.tune_controller import TuneController

from study.forgetting import _moved, _removed, forgetful


def test_of_the_trials_that_have_ended_the_last_one_is_kept():
    controller = SimpleNamespace(_stopped_trials={"a"}, _failed_trials={"b"})
    _moved(lambda self, trial, status: self._failed_trials.add(trial))(controller, "c", "ERROR")
    assert (controller._stopped_trials, controller._failed_trials) == (set(), {"c"})


def test_what_a_removed_actor_was_to_do_is_dropped():
    manager = SimpleNamespace(_pending_actors_to_enqueued_actor_tasks={"a": ["train"], "b": ["train"]})
    assert _removed(lambda self, tracked_actor, kill=False: kill)(manager, tracked_actor="a", kill=True)
    assert manager._pending_actors_to_enqueued_actor_tasks == {"b": ["train"]}


def test_tune_is_as_it_was_afterwards():
    names = [(TuneController, "_set_trial_status"), (TuneController, "_mark_trial_to_checkpoint")]
    names += [(TuneController, "_get_trial_checkpoints"), (RayActorManager, "remove_actor")]
    before = [vars(owner)[name] for owner, name in names]
    with forgetful():
        assert all(vars(owner)[name] is not one for (owner, name), one in zip(names, before, strict=True))
    assert [vars(owner)[name] for owner, name in names] == before
