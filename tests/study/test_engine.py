"""What the engine makes of workers that die, without Ray: on what account, and when it gives a trial up."""

import types

import pytest

from study import engine
from study.engine import WORKER_DEATHS, Recorder


@pytest.fixture
def die(monkeypatch):
    """Kill a trial's worker on a node: whether the trial is tried again should that happen once more."""
    lost = set()
    monkeypatch.setattr(engine, "_node_of", lambda actor: actor)
    monkeypatch.setattr(engine, "_lost_nodes", lambda: lost)
    display = types.SimpleNamespace(started=lambda name: None, note=lambda text: None)
    recorder = Recorder(None, {}, display, "val_accuracy", lambda row: None, {}, 1.0)
    trial = types.SimpleNamespace(trial_id="t", config={"trial": {}}, max_failures=-1, error_file=None)
    trial.run_metadata = types.SimpleNamespace(num_failures=0)

    def once(node, *, known=False):
        trial.temporary_state = types.SimpleNamespace(ray_actor=node)
        if node is not None:
            recorder.on_trial_start(0, [trial], trial)
        trial.run_metadata.num_failures += 1
        recorder.on_trial_recover(0, [trial], trial)
        if known:
            lost.add(node)
        assert trial.config["trial"]["attempt"] == trial.run_metadata.num_failures
        return trial.max_failures < 0

    return once


def test_a_trial_that_kills_its_workers_is_given_up(die):
    assert [die("a") for _ in range(WORKER_DEATHS)] == [True] * (WORKER_DEATHS - 1) + [False]


def test_workers_that_never_began_count(die):
    assert [die(None) for _ in range(WORKER_DEATHS)] == [True] * (WORKER_DEATHS - 1) + [False]


def test_lost_nodes_are_not_counted_although_ray_knows_of_each_too_late(die):
    assert all(die(f"spot{i}", known=True) for i in range(5 * WORKER_DEATHS))
    # The last of them is known to be lost by now: all that count are of the node that lives.
    assert [die("a") for _ in range(WORKER_DEATHS)] == [True] * (WORKER_DEATHS - 1) + [False]
