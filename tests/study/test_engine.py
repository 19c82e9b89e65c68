"""What the engine makes of workers that die, without Ray: on what account, and when it gives a trial up."""

import types

import pytest
from ray.tune.experiment import Trial as TuneTrial

from study import engine
from study import recorder as recording
from study.errors import StudyError
from study.health import HEAP
from study.recorder import SILENCE, WORKER_DEATHS, Recorder


@pytest.fixture
def recorder():
    display = types.SimpleNamespace(started=lambda name: None, note=lambda text: None)
    spool = types.SimpleNamespace(catch_up=lambda: True, reason=None)
    return Recorder(spool, {}, display, "val_accuracy", lambda row: None, {}, 10.0)


@pytest.fixture
def die(recorder, monkeypatch):
    """Kill a trial's worker on a node: whether the trial is tried again should that happen once more."""
    lost = set()
    monkeypatch.setattr(recording, "_node_of", lambda actor: actor)
    monkeypatch.setattr(recording, "_lost_nodes", lambda: lost)
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


def running(actor):
    return types.SimpleNamespace(
        trial_id="t", temporary_state=types.SimpleNamespace(ray_actor=actor), status=TuneTrial.RUNNING
    )


def pending(told):
    state = types.SimpleNamespace(ray_actor=None)
    return types.SimpleNamespace(trial_id="u", temporary_state=state, status=TuneTrial.PENDING, config={"trial": told})


def test_a_trial_that_waits_for_a_model_of_gpu_that_is_gone_says_so(recorder, monkeypatch):
    said, there = [], {"CPU": 4.0, "accelerator_type:L4": 1.0}
    monkeypatch.setattr(recording.ray, "cluster_resources", lambda: there)
    recorder.display.note = said.append

    def look(*trials):
        recorder._looked = -10.0
        recorder.on_step_end(0, list(trials))
        return said

    assert look(running("actor"), pending({}), pending({"model": "accelerator_type:L4"})) == []
    for _ in range(3):
        [line] = look(pending({"model": "accelerator_type:H100"}))
    assert "needs a GPU with the memory of H100 waits" in line


def test_a_worker_that_says_nothing_is_replaced_once_its_patience_is_over(recorder, monkeypatch):
    """Its first step may take the study's patience, a later one as much as the worker last said."""
    now, killed = [0.0], []
    monkeypatch.setattr(recording, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(recording.ray, "kill", killed.append)
    trial = running("actor")
    waiting = pending({})

    def at(moment):
        now[0] = moment
        recorder.on_step_end(0, [trial, waiting])
        return list(killed)

    recorder._looked = -10.0
    recorder.on_trial_start(0, [trial], trial)
    assert at(SILENCE * 10) == []
    assert at(SILENCE * 10 + 2) == ["actor"]
    recorder.on_trial_start(0, [trial], trial)
    begun = now[0]
    recorder.on_trial_result(0, [trial], trial, {"patience": 100.0})
    assert at(begun + SILENCE * 100) == ["actor"]
    assert at(begun + SILENCE * 100 + 2) == ["actor", "actor"]


def test_who_speaks_while_the_driver_waits_for_a_store_is_not_silent(recorder, monkeypatch):
    now, killed = [0.0], []
    monkeypatch.setattr(recording, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(recording.ray, "kill", killed.append)
    trial = running("actor")
    recorder._looked = -10.0
    recorder.on_trial_start(0, [trial], trial)

    def wait(*given):
        now[0] += 100.0

    recorder.spool.commit = wait
    recorder._commit("another", {})
    recorder.on_step_end(0, [trial])
    assert killed == []
    now[0] += SILENCE * 10 + 2
    recorder.on_step_end(0, [trial])
    assert killed == ["actor"]


@pytest.mark.parametrize("reason", ["asha", "budget"])
def test_what_a_scheduler_stops_leaves_no_checkpoint_unless_it_is_to_go_on(recorder, reason):
    removed, committed = [], []
    recorder.checkpoints = types.SimpleNamespace(remove=removed.extend)
    recorder.spool.commit, recorder.spool.reason = lambda key, tables: committed.append(key), None
    recorder.display.dropped = recorder.display.ended = lambda *given: None
    recorder.reasons = {"t": reason}
    row = {"trial_key": "k", "arm": "a", "status": "stopped"}
    trial = types.SimpleNamespace(trial_id="t", last_result={"row": row, "record": {}}, temporary_state=None)
    recorder.on_trial_complete(0, [trial], trial)
    assert removed == committed == (["k"] if reason == "asha" else [])


def test_a_trial_that_waits_for_its_store_is_cut_off_by_a_budget_as_any_other(recorder):
    said = []
    recorder.display.dropped = lambda name, text: said.append(text)
    recorder.reasons = {"t": "budget"}
    result = {"row": {"arm": "softmax"}, "waiting": "A trial waits for its store."}
    trial = types.SimpleNamespace(trial_id="t", last_result=result, temporary_state=None)
    recorder.on_trial_result(0, [trial], trial, result)
    recorder.on_trial_complete(0, [trial], trial)
    assert said == ["softmax is cut off: the budget ends before it does."]


def test_a_node_must_hold_all_that_a_trial_needs(tiny_config, monkeypatch, capsys):
    nodes = [{"CPU": 64.0}, {"CPU": 4.0, "GPU": 2.0}]
    alive = [{"Alive": True, "Resources": one} for one in nodes] + [{"Alive": False, "Resources": {"CPU": 99.0}}]
    monkeypatch.setattr(engine.ray, "nodes", lambda: alive)

    def check(cpus, gpus, *, scales):
        wanted = f"cluster.cpus_per_trial={cpus}", f"cluster.gpus_per_trial={gpus}"
        engine._check_resources(tiny_config(*wanted), scales)
        return capsys.readouterr().err

    assert check(4, 2, scales=True) == check(64, 0, scales=False) == ""
    said = "No node of the cluster has the 64 CPUs and 1 GPUs of a trial: waiting until one comes.\n"
    assert check(64, 1, scales=True) == said
    with pytest.raises(StudyError, match=r"cluster.gpus_per_trial to be at most 2, the GPUs of this machine, found 3"):
        check(1, 3, scales=False)


def test_a_trial_that_kills_its_workers_is_given_up(die):
    assert [die("a") for _ in range(WORKER_DEATHS)] == [True] * (WORKER_DEATHS - 1) + [False]


def test_workers_that_never_began_count(die):
    assert [die(None) for _ in range(WORKER_DEATHS)] == [True] * (WORKER_DEATHS - 1) + [False]


def test_lost_nodes_are_not_counted_although_ray_knows_of_each_too_late(die):
    assert all(die(f"spot{i}", known=True) for i in range(5 * WORKER_DEATHS))
    # The last of them is known to be lost by now: all that count are of the node that lives.
    assert [die("a") for _ in range(WORKER_DEATHS)] == [True] * (WORKER_DEATHS - 1) + [False]


def test_what_a_worker_died_of_is_said_without_rays_list(tmp_path):
    file = tmp_path / "error.txt"
    file.write_text("Traceback\nray.exceptions.ActorDiedError: The actor died.\n\tclass_name: Worker\n\tactor_id: 0a\n")
    assert recording._last_line(types.SimpleNamespace(error_file=file)).endswith("ActorDiedError: The actor died.")
    assert recording._last_line(types.SimpleNamespace(error_file=None)) == "no reason known"


@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_workers_keep_their_heap_and_what_the_user_says_of_it(address, tiny_config, monkeypatch):
    asked = {}

    def init(**options):
        asked.update(options["runtime_env"]["env_vars"])
        raise ConnectionError("nobody")

    monkeypatch.setattr(engine.ray, "init", init)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    monkeypatch.setenv("RAY_ADDRESS", address) if address else monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(StudyError, match="No Ray answers"), engine.cluster(tiny_config()):
        raise AssertionError
    assert {name: asked[name] for name in HEAP} == HEAP | {"MALLOC_TRIM_THRESHOLD_": "7"}
