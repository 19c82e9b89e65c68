"""A forecast against arithmetic, what it is made of, and what would fit."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from results import Store
from study import outlook
from study.budget import Limits
from study.forecast import Job, Kind, Room, Sample, _wall, exceeded, forecast, like_samples, most_that_fit
from tests.study import working

KIND = Kind("softmax", "resnet18", 64, 32)


def test_equal_trials_are_arithmetic():
    """Ten trials of 2 + 100 x 0.01 x 5 = 7 s on three workers: four rounds, a start and three gaps."""
    found = forecast(
        [Job((KIND,), 100, 5, False)] * 10, {KIND: [Sample(2.0, 0.01)]}, Room(3, 3, "worker"), first=4, gap=1
    )
    assert found.wall == pytest.approx((4 + 4 * 7 + 3,) * 2)
    assert found.hours == pytest.approx((3 * 35 / 3600,) * 2)
    assert found.money(2.0) == pytest.approx((6 * 35 / 3600,) * 2)
    assert forecast([], {}, Room(1, 1, "GPU")).wall == (0, 0)


def test_few_trials_hold_few_workers():
    found = forecast(
        [Job((KIND,), 100, 1, False)] * 2, {KIND: [Sample(0.0, 0.36, final=0.36)]}, Room(8, 4, "GPU"), first=0
    )
    assert found.hours == pytest.approx((72 / 3600 * 4 * 2 / 8,) * 2)


def test_workers_are_taken_as_they_become_free():
    seconds = np.random.default_rng(0).uniform(1, 9, 40).tolist()
    ends = [3.0 - 0.5] * 4
    for one in seconds:
        ends[ends.index(min(ends))] += 0.5 + one
    assert _wall(seconds, 4, first=3.0, gap=0.5) == pytest.approx(max(ends))


def test_few_and_unlike_samples_make_a_wide_forecast():
    jobs, room = [Job((KIND,), 100, 10, False)] * 50, Room(1, 1, "worker")
    wide = forecast(jobs, {KIND: [Sample(0, 0.01), Sample(0, 0.03)]}, room)
    narrow = forecast(jobs, {KIND: [Sample(0, 0.01), Sample(0, 0.03)] * 100}, room)
    assert wide.wall[1] / wide.wall[0] > narrow.wall[1] / narrow.wall[0]
    assert narrow.wall[0] == pytest.approx(50 * 20, rel=0.1)


def test_a_search_trains_the_share_of_epochs_that_others_did():
    job, room = Job((KIND,), 100, 10, True), Room(1, 1, "worker")
    half, all_of_them = (
        forecast([job] * 20, {KIND: [Sample(0, 0.01, fraction=0.5)] * count}, room, 0, 0).wall[0] for count in (8, 7)
    )
    assert half == pytest.approx(20 * 5)
    assert all_of_them == pytest.approx(20 * 10)  # seven are too few to say


def test_like_trials_are_of_the_same_kind_and_device(tmp_path):
    store, row = (
        Store(tmp_path),
        {"status": "done", "method": "softmax", "image_size": 64, "batch_size": 32, "threads": 1},
    )
    row |= {
        "device": "cpu: A",
        "seconds": 22.0,
        "setup_seconds": 2.0,
        "epochs": 10,
        "epochs_planned": 20,
        "train_images": 100,
    }
    other = {"b": {"device": "cpu: B"}, "c": {"status": "failed"}, "d": {"image_size": 48}, "e": {"threads": 2}}
    for key, changes in {"a": {}, **other, "f": {"config": {"backbone": "vgg", "search": None}}}.items():
        config = changes.pop("config", {"backbone": "resnet18", "search": "s"})
        ended = {"ended_at": datetime.now(UTC), "config": json.dumps(config)}
        store.commit(key, {"trials": [row | {"trial_key": key} | ended | changes]})
    assert like_samples(store, {KIND}, "cpu: A", 1) == {KIND: [Sample(2.0, 20 / 10 / 100, fraction=0.5)]}
    assert len(like_samples(store, {KIND}, "cpu", None)[KIND]) == 3
    assert like_samples(store, {KIND}, "cuda", None) == {}


def test_what_exceeds_and_what_fits():
    jobs, samples, room = [Job((KIND,), 100, 36, False)] * 10, {KIND: [Sample(0, 1.0)]}, Room(1, 1, "GPU")
    found = forecast(jobs, samples, room, 0, 0)
    assert found.hours[0] == pytest.approx(10)
    assert exceeded(found, Limits(gpu_hours=10.1, money=20, price=3.0, deadline=3600), 0.0) == [
        "budget.money=20",
        "the 1 h until budget.deadline",
    ]
    assert exceeded(found, Limits(gpu_hours=11), 0.0, spent=2) == ["budget.gpu_hours=11"]

    def fits(count):
        return not exceeded(forecast(jobs[:count], samples, room, 0, 0), Limits(gpu_hours=6.5), 0.0)

    assert most_that_fit(10, fits) == 6
    assert most_that_fit(10, lambda count: False) == 0
    assert most_that_fit(10, lambda count: True) == 10


@pytest.mark.slow
def test_a_trial_that_is_tried_on_a_gpu_of_this_machine_leaves_nothing_in_this_process(tiny_config, monkeypatch):
    """The GPU is only promised, so that the process of its own tries it on its CPU."""
    monkeypatch.setattr(outlook, "_devices", lambda: 1)
    monkeypatch.setattr("study.pace.measure", lambda *given: pytest.fail("it was tried in this process"))
    config = tiny_config()
    samples = outlook._tried(SimpleNamespace(config=config), working.spec_of(config))
    assert len(samples) == 2
    assert all(sample.pace > 0 for sample in samples)
