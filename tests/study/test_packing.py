"""Several trials on a GPU: what each is given, with an allocator that refuses at its limit in the place of CUDA's."""

import json
from collections import defaultdict
from itertools import count

import pytest
import torch
from ray.tune.search import Searcher

from results import Store
from study import packing
from study.dispatch import Dispatch, Planned
from study.packing import CONTEXT, Measured, NoShares, Shares, fence, is_full, larger, part

GIB = 1 << 30
MEMORY = 24 * GIB


def trial(index, method="softmax", size=64):
    spec = {"method": method, "backbone": "resnet18", "image_size": size, "channels": 1, "batch_size": 32}
    return {"spec": json.dumps(spec | {"index": index}), "index": index}


def whole(measured):
    return measured.share(MEMORY, packing.MOST)


@pytest.mark.parametrize("k", range(1, packing.MOST + 1))
def test_shares_of_a_gpu_are_never_more_than_a_whole_one_to_ray_and_to_cuda(k):
    units = round(part(k) * 10_000)  # Ray counts ten-thousandths
    assert units * k <= 10_000 < (units + 1) * k + k
    assert k * (fence(part(k), MEMORY) * MEMORY + CONTEXT) <= MEMORY + 1 or k == 1


@pytest.mark.parametrize(
    ("peak", "most", "share"),
    [
        (0.5, 8, part(8)),  # 0.6 + 1 GiB: 15 would fit, of which 8 may
        (0.5, 4, part(4)),  # the CPUs suffice for 4
        (2.0, 8, part(7)),  # 3.4 GiB
        (9.0, 8, part(2)),  # 11.8 GiB
        (9.2, 8, 1.0),  # 12.04 GiB
        (40, 8, 1.0),
    ],
)
def test_a_share_holds_what_was_measured_with_a_fifth_more_and_the_context(peak, most, share):
    assert Measured(int(peak * GIB), 0, MEMORY).share(MEMORY, most) == share
    assert share == 1 or fence(share, MEMORY) * 24 >= peak * 1.2


def test_a_larger_context_than_usual_counts():
    assert Measured(9 * GIB, 2 * GIB, MEMORY).share(MEMORY, 8) == 1.0


def test_shares_grow_to_a_whole_gpu_in_three_steps_at_most():
    for k in range(2, packing.MOST + 1):
        steps = [part(k)]
        while steps[-1] < 1:
            steps.append(larger(steps[-1]))
        assert steps == sorted(set(steps))
        assert len(steps) <= 4
    assert larger(0.7) == 1.0


def test_a_group_grows_once_for_all_that_were_too_small_beside_each_other():
    shares = Shares(lambda group: part(8), whole)
    one, other = trial(0) | {"share": part(8)}, trial(1) | {"share": part(8)}
    assert shares.of(one) == part(8)
    assert shares.grow(one)
    assert shares.grow(other)
    assert shares.of(other) == part(4)
    assert shares.of(trial(2, method="triplet")) == part(8)
    assert not shares.grow(trial(0) | {"share": 1.0})


def test_only_the_first_of_a_group_is_measured_and_the_others_wait():
    shares = Shares(lambda group: None, whole)
    dispatch = Dispatch(Planned([trial(0), trial(1), trial(2, "triplet")]), shares=shares)
    # Of both groups, before anything is trained.
    assert dispatch.suggest("a")["trial"] == trial(0) | {"share": 1.0, "probe": True}
    assert dispatch.suggest("b")["trial"] == trial(2, "triplet") | {"share": 1.0, "probe": True}
    assert dispatch.suggest("c") is None
    dispatch.on_trial_complete("b", {"measured": [9 * GIB, GIB, MEMORY]})
    assert dispatch.suggest("c") is None
    dispatch.on_trial_complete("a", {"measured": [GIB, GIB, MEMORY]})
    assert [dispatch.suggest(name)["trial"]["share"] for name in "def"] == [part(8), part(8), part(2)]
    assert dispatch.suggest("g") is None
    for name in "def":
        dispatch.on_trial_complete(name, {"committed": "done"})
    assert dispatch.suggest("g") == Searcher.FINISHED


def test_what_cannot_be_measured_gets_whole_gpus():
    dispatch = Dispatch(Planned([trial(0)]), shares=Shares(lambda group: None, whole))
    assert dispatch.suggest("a")["trial"]["probe"]
    dispatch.on_trial_complete("a", {"measured": None})
    assert dispatch.suggest("b")["trial"] == trial(0) | {"share": 1.0}


def test_without_a_gpu_nothing_is_shared_or_measured():
    dispatch = Dispatch(Planned([trial(0)]), shares=NoShares())
    assert dispatch.suggest("a")["trial"] == trial(0) | {"share": 0.0}


class Gpus:
    """GPUs whose allocator refuses at its limit, and the part of Tune that starts a trial where there is room."""

    def __init__(self, count, needs, wrong):
        self.free, self.needs, self.wrong = [1.0] * count, needs, wrong
        self.running, self.done, self.failed, self.given = {}, set(), set(), defaultdict(list)

    def run(self, dispatch):
        for number in count():
            config = dispatch.suggest(f"t{number}")
            if config == Searcher.FINISHED:
                return
            while config and (room := self.room(config["trial"]["share"])) is None:
                self.end_oldest(dispatch)
            if config:
                self.free[room] -= config["trial"]["share"]
                self.running[f"t{number}"] = config["trial"], room
            else:
                self.end_oldest(dispatch)

    def room(self, share):
        return next((place for place, left in enumerate(self.free) if left >= share - 1e-9), None)

    def end_oldest(self, dispatch):
        name, (asked, place) = next(iter(self.running.items()))
        del self.running[name]
        self.free[place] += asked["share"]
        dispatch.on_trial_complete(name, self.result(asked))

    def result(self, asked):
        share, need = asked["share"], self.needs[asked["index"]]
        if "probe" in asked:
            return {"measured": [int(need * self.wrong), CONTEXT, MEMORY]}
        self.given[asked["index"]].append(share)
        if need <= MEMORY * (1 if share == 1 else fence(share, MEMORY)):
            self.done.add(asked["index"])
            return {"committed": "done"}
        if share < 1:
            return {"refused": "full"}
        self.failed.add(asked["index"])
        return {"committed": "failed"}


@pytest.mark.parametrize("gpus", [1, 3])
@pytest.mark.parametrize("wrong", [0.2, 1.0, 3.0])
def test_every_trial_is_done_and_no_more_memory_is_handed_out_than_there_is(gpus, wrong):
    """What the measurement said is wrong by a factor; trials vary, and one is larger than any GPU."""
    needs = {i: int((0.5 + 3.0 * (i % 5)) * GIB) for i in range(40)} | {17: 60 * GIB}
    dispatch = Dispatch(
        Planned([trial(i, ("softmax", "triplet")[i % 2]) for i in needs]), shares=Shares(lambda group: None, whole)
    )
    fake = Gpus(gpus, needs, wrong)
    fake.run(dispatch)
    assert fake.done == set(needs) - {17}
    assert fake.failed == {17}
    assert all(given == sorted(set(given)) for given in fake.given.values())
    assert fake.free == pytest.approx([1.0] * gpus)


def test_words_for_a_full_memory():
    assert is_full(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_full(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_full(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_full(ValueError("CUDA out of memory"))


def test_recorded_trials_on_the_same_gpu_need_no_measurement(tmp_path):
    store = Store(tmp_path)
    rows = [
        ("cuda: NVIDIA L4", "done", 3, 0),
        ("cuda: NVIDIA L4", "stopped", 4, 1),
        ("cuda: NVIDIA L4", "failed", 20, 2),
        ("cuda: NVIDIA H100", "done", 9, 3),
        ("cpu: EPYC", "done", 1, 4),
    ]
    for device, status, peak, i in rows:
        row = {"trial_key": f"k{i}", "status": status, "device": device, "peak_memory_bytes": peak}
        store.commit(f"k{i}", {"trials": [row | {"config": trial(i)["spec"]}]})
    group = packing.group_of(trial(0))
    assert packing._recorded(store, {"cuda: NVIDIA L4"}) == {group: 4}
    assert packing._recorded(store, {"cuda: NVIDIA L4", "cuda: NVIDIA H100"}) == {group: 9}
