"""The warm worker without Ray: what it keeps, when it gives itself up, and where it goes on."""

import mmap
import os
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mdml.models import BACKBONES
from mdml.train import TrainingError
from results import Store, StoreError
from results.errors import StoreUnavailable
from study import health, plan
from study.health import HEAP, SLACK, Health, holdings
from study.lease import LEAST, MORE, TIMES, patience
from study.trial import Trial
from tests.mdml import tiny_model
from tests.study import working

ROOT = Path(__file__).resolve().parents[2]


class Ended(BaseException):
    """In the place of the end of this process."""


@pytest.fixture(autouse=True)
def _end_and_trunk(monkeypatch, torch_settings):
    def end(status):
        raise Ended

    monkeypatch.setattr("study.worker.os._exit", end)
    monkeypatch.setitem(BACKBONES, "small", tiny_model.SMALL)


@pytest.fixture
def study(tiny_config):
    """A configuration and a spec of 2 epochs on a trunk of one convolution."""
    config = tiny_config()
    return config, working.spec_of(config, backbone="small", method="softmax", options={})


def test_a_worker_that_is_lost_is_followed_by_one_that_goes_on(study, tmp_path):
    config, spec = study
    spec = replace(spec, epochs=3, protocol="paper", validation_fraction=0.0)
    kept = {"root": str(tmp_path / "kept"), "every": 1}
    lost = working.worker(spec, config, tmp_path / "lost", checkpoint=kept)
    seen = [lost.step(), lost.step()]
    follower = working.worker(spec, config, tmp_path / "lost", checkpoint=kept)
    found = working.results(follower)
    assert [result["record"]["epoch"] for result in found] == [1, 2, 3]
    assert [result["record"] for result in found[:2]] == [result["record"] for result in seen]
    assert found[0]["row"]["epochs"] == 1
    assert follower.trial.resumed_epochs == 2
    assert not list(Path(kept["root"]).iterdir()), "it has ended"
    working.results(working.worker(spec, config, tmp_path / "whole"))
    rows = [Store(tmp_path / name).read("trials").to_pylist()[0] for name in ("lost", "whole")]
    assert [row["resumed_epochs"] for row in rows] == [2, None]
    assert all(rows[0][name] == rows[1][name] for name in ("train_loss", "test_accuracy", "test_nmi", "best_epoch"))


def test_without_checkpoints_a_trial_begins_anew(study, tmp_path):
    config, spec = study
    kept = {"root": str(tmp_path / "kept"), "every": 1}
    working.worker(spec, config, tmp_path / "a", checkpoint=kept).step()
    follower = working.worker(spec, config, tmp_path / "a", checkpoint=kept | {"every": 0})
    working.results(follower)
    assert follower.trial.resumed_epochs is None


def test_what_a_store_refuses_for_good_is_no_failure_of_the_trial(study, tmp_path, monkeypatch):
    config, spec = study

    def refuse(*arguments):
        raise StoreError("It is read-only.")

    made = working.worker(spec, config, tmp_path / "tables")
    with monkeypatch.context() as patch:
        patch.setattr(made.store, "commit", refuse)
        *_, last = working.results(made)
    assert (last["row"]["status"], last["tables"]["trials"]) == ("done", [last["row"]])
    made.reset_config(working.asked(spec))
    monkeypatch.setattr(made.store, "write", refuse)  # of the audit row, without which the test fold stays closed
    *_, last = working.results(made)
    assert last["unwritable"] == "It is read-only."
    assert not {"committed", "tables"} & set(last)
    assert Store(tmp_path / "tables").statuses() == {}


def test_a_trial_that_waits_for_its_store_says_which_it_is(study, tmp_path, monkeypatch):
    config, spec = study

    def away(*arguments):
        raise StoreUnavailable("It is away.")

    made = working.worker(replace(spec, epochs=1), config, tmp_path / "tables")
    with monkeypatch.context() as patch:
        patch.setattr(made.store, "write", away)
        patch.setattr("study.worker.time.sleep", lambda seconds: None)
        waits = [result for result in (made.step() for _ in range(3)) if "waiting" in result]
    assert waits
    assert {(result["row"]["trial_key"], result["row"]["status"]) for result in waits} == {(made.spec.key, "stopped")}
    assert working.results(made)[-1]["committed"] == "done"


@pytest.mark.parametrize(("error", "harmed"), [(TrainingError("not finite"), False), (RuntimeError("segment"), True)])
def test_a_worker_that_may_be_harmed_ends_at_the_next_trial(study, tmp_path, monkeypatch, capsys, error, harmed):
    def fail(self, state=None, **given):
        raise error
        yield

    config, spec = study
    worker = working.worker(spec, config, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Trial, "run", fail)
        assert worker.step()["committed"] == "failed"
    assert worker.reset_config(working.asked(replace(spec, seed=1))), "Tune loses a trial whose reset fails"
    if harmed:
        with pytest.raises(Ended):
            worker.step()
        assert "This worker is replaced: a trial failed in it by RuntimeError: segment" in capsys.readouterr().err
    else:
        assert working.results(worker)[-1]["committed"] == "done"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDNN_STATUS_ALLOC_FAILED")]
)
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_full_gpu_is_held_against_the_trial_only_where_it_had_all_of_it(study, tmp_path, monkeypatch, error, share):
    """What the failed step had made is gone before the memory that it took is handed back."""
    seen = []

    def fail(self, state=None, **given):
        activations = torch.ones(3)
        seen.append(weakref.ref(activations))
        raise error
        yield

    config, spec = study
    worker = working.worker(spec, config, tmp_path)
    worker.reset_config(working.asked(spec, share=share))
    release = type(worker)._release
    monkeypatch.setattr(Trial, "run", fail)
    monkeypatch.setattr(type(worker), "_release", lambda self: seen.append(seen[0]()) or release(self))
    found = worker.step()
    assert seen[1:] == [None]
    if share == 1:
        assert found["committed"] == "failed"
        assert found["row"]["error"] == f"{type(error).__name__}: {error}"
    else:
        assert found["refused"] == "its share 0.25 of the GPU's memory was full."
        assert "committed" not in found
        assert Store(tmp_path).is_empty()
    # Of the allocator's own error the process takes no harm; a library's may have left it half made.
    assert bool(worker.suspect) != isinstance(error, torch.OutOfMemoryError) or share == 1


@pytest.mark.slow
def test_no_trial_suffers_from_a_worker_that_dies_between_two(tiny_config, tmp_path):
    """Tune learns of it as it hands the next trial over."""
    from study import engine
    from study.dispatch import Planned
    from study.progress import Display
    from study.spool import Spool

    class Murderous(Planned):
        """Kills the worker before it gives the third trial, and once more before the fourth."""

        given = 0

        def suggest(self, trial_id):
            self.given += 1
            if self.given in (3, 4):
                os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
                time.sleep(1)
            return super().suggest(trial_id)

    config = tiny_config("method=softmax", "seeds=3", "cluster.workers=1", f"storage.root={tmp_path / 'tables'}")
    members = plan.members(config, plan.open_faces(config), "s")
    planned = Murderous([{"spec": member.spec.json(), "index": member.index} for member in members])
    store, ended = Store(tmp_path / "tables"), []
    with engine.cluster(config), Display("s", len(members), "val_accuracy") as display:
        spool, worker = Spool(store, "s"), working.named(tmp_path / "worker")
        engine.run(config, spool, display, "val_accuracy", working.CODE, ended.append, planned, worker=worker)
    assert len(members) >= 5
    assert [row["status"] for row in ended] == ["done"] * len(members)
    assert set(store.statuses().values()) == {"done"}


@pytest.mark.slow
def test_no_trial_suffers_from_the_worker_that_is_replaced(tiny_config, tmp_path, monkeypatch):
    """Tune gives up a trial whose worker ends while it is reset, and tries again one whose worker ends in a step.

    However many trials there are, Tune looks up what is registered once: whether it is there, and what it is.
    """
    from ray.tune import registry

    from study import engine
    from study.dispatch import Planned
    from study.progress import Display
    from study.spool import Spool

    config = tiny_config("method=softmax", "seeds=2", "cluster.workers=1", f"storage.root={tmp_path / 'tables'}")
    members = plan.members(config, plan.open_faces(config), "s")
    planned = Planned([{"spec": member.spec.json(), "index": member.index} for member in members])
    store, ended, asked = Store(tmp_path / "tables"), [], Counter()
    look = registry._internal_kv_get
    monkeypatch.setattr(registry, "_internal_kv_get", lambda key: asked.update([key]) or look(key))
    with engine.cluster(config), Display("s", len(members), "val_accuracy") as display:
        engine.run(
            config,
            Spool(store, "s"),
            display,
            "val_accuracy",
            working.CODE,
            ended.append,
            planned,
            worker=working.Harmed,
        )
    assert set(asked.values()) == {2}
    assert [row["status"] for row in ended] == ["done"] * len(members)
    assert set(store.statuses().values()) == {"done"}


def test_a_worker_that_grows_ends_at_the_next_trial(study, tmp_path, monkeypatch, capsys):
    held = dict.fromkeys(SLACK, 10)
    monkeypatch.setattr(health, "holdings", lambda: dict(held))
    config, spec = study
    worker = working.worker(spec, config, tmp_path)
    worker.health = Health(interval=0)
    for seed in range(3):
        worker.reset_config(working.asked(replace(spec, seed=seed)))
    held["open files"] = 10 + 5 + SLACK["open files"] + 1
    worker.reset_config(working.asked(spec))
    with pytest.raises(Ended):
        worker.step()
    assert "it holds more with every trial: open files from 10 to 80" in capsys.readouterr().err


def test_growth_is_told_from_the_level_after_the_second_trial():
    held = dict.fromkeys(SLACK, 0)
    own = Health(0.0, lambda: dict(held))
    held["threads"] = 1000
    assert own.complaint() is None, "the first trial fills caches"
    held["threads"] = 100
    assert own.complaint() is None
    for name, slack in SLACK.items():
        level = held[name]
        held[name] = int(1.5 * (100 if name == "threads" else 0)) + slack
        assert own.complaint() is None
        held[name] += 1
        assert own.complaint() == f"it holds more with every trial: {name} from {level} to {held[name]}"
        held[name] = level
    assert own.complaint() is None


def test_holdings_are_those_of_this_process():
    before = holdings()
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE) as child:
        # Pages of its own: an allocator may hand out what it was given back before.
        block = mmap.mmap(-1, 100 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(bytes(len(block)))
        now = holdings()
        child.kill()
    assert now["child processes"] == before["child processes"] + 1
    assert now["open files"] == before["open files"] + 1
    assert now["memory in bytes"] - before["memory in bytes"] >= 0.9 * len(block)
    assert holdings()["child processes"] == before["child processes"]


def test_what_the_heap_keeps_is_not_held():
    """Workers are told to keep what a step frees."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from study.health import holdings
before = holdings()["memory in bytes"]
blocks = [b"x" * (1 << 20) for _ in range(300)]
held = holdings()["memory in bytes"] - before
del blocks
print(held >> 20, holdings()["memory in bytes"] - before >> 20)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | HEAP, capture_output=True, text=True, check=True, timeout=120
    )
    held, kept = map(int, done.stdout.split())
    assert held >= 290
    assert kept < 30


def trials(study, root, count):
    """What one worker holds after each of so many trials of all kinds, failing ones among them."""
    config, spec = study
    worker, found = working.worker(spec, config, root, checkpoint={"root": f"{root}/kept", "every": 1}), []
    for i in range(count):
        method = ("softmax", "center", "dgms", "tuplet_clusters")[i % 4]
        changes = {"learning_rate": 1e30} if i % 10 == 9 else {"evaluation": {"probe": True}} if i % 10 == 5 else {}
        worker.reset_config(working.asked(replace(spec, method=method, seed=i, search="s", **changes)))
        working.results(worker)
        worker._release()
        found.append(holdings())
    assert len(Store(root).committed_keys()) == count
    return found


def flat(found):
    warm, last = found[len(found) // 3], found[-1]
    assert last["memory in bytes"] <= warm["memory in bytes"] + (16 << 20)
    for name in ("open files", "threads", "child processes"):
        assert last[name] <= warm[name], name


def test_a_hundred_trials_leave_nothing_behind(study, tmp_path):
    flat(trials(study, tmp_path, 100))


@pytest.mark.slow
def test_a_thousand_trials_leave_nothing_behind(study, tmp_path):
    flat(trials(study, tmp_path, 1000))


def test_patience_follows_the_longest_epoch_and_has_more_for_the_ends_of_a_trial():
    assert patience(None, [], more=False) == LEAST
    assert patience(None, [1.0, LEAST, 2.0], more=False) == TIMES * LEAST
    assert patience(None) == MORE * LEAST
    assert patience(30.0, [1000.0], more=False) == 30
    assert patience(30.0) == MORE * 30


HUNG = {
    "sleeping": "time.sleep(60)",
    "with the interpreter's lock": "re.match('(a+)+$', 'a' * 40 + 'b')",
}


@pytest.mark.parametrize("hang", HUNG.values(), ids=HUNG)
def test_a_process_that_hangs_ends_itself_and_says_where(hang):
    code = f"""
import re, sys, time
sys.path.insert(0, {str(ROOT)!r})
from study.lease import lease
with lease(30):
    pass
def hang():
    {hang}
with lease(0.3):
    hang()
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert time.monotonic() - begun < 55
    assert "in hang" in done.stderr


def test_a_step_is_under_lease_and_what_follows_is_not(study, tmp_path, monkeypatch):
    armed = []
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda seconds, **given: armed.append(seconds))
    monkeypatch.setattr("faulthandler.cancel_dump_traceback_later", lambda: armed.append(None))
    config, spec = study
    found = working.results(working.worker(replace(spec, epochs=3), config, tmp_path, lease=5.0))
    assert armed == [5 * MORE, None, 5, None, 5 * MORE, None]
    assert [result["patience"] for result in found[:2]] == [5, 5 * MORE]
