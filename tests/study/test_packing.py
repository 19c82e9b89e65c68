"""Several trials on a GPU: what each is given, with an allocator that refuses at its limit in the place of CUDA's."""

from collections import defaultdict
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from ray.tune.search import Searcher

from results import Store
from study import packing, plan
from study.dispatch import Dispatch, Planned
from study.faces import Faces
from study.packing import CONTEXT, Measured, NoShares, Place, Shares, fence, is_full, larger, part
from study.trial import Trial
from tests.study.fenced import GIB, MEMORY, trial


def whole(measured):
    return Place(measured.share(MEMORY, packing.MOST))


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
    shares = Shares(lambda group: Place(part(8)), whole)
    one, other = trial(0) | {"share": part(8)}, trial(1) | {"share": part(8)}
    assert shares.of(one) == Place(part(8))
    assert shares.grow(one, MEMORY)
    assert shares.grow(other, MEMORY)
    assert shares.of(other) == Place(part(4))
    assert shares.of(trial(2, method="triplet")) == Place(part(8))
    assert not shares.grow(trial(0) | {"share": 1.0}, MEMORY)


MODELS = {"accelerator_type:H100": 80 * GIB, "accelerator_type:A100": 40 * GIB, "accelerator_type:L4": MEMORY}


@pytest.mark.parametrize(
    ("peak", "place"),
    [
        (0.5, Place(part(8))),
        (9.0, Place(part(2))),
        (22.9, Place(1.0)),  # 23.9 GiB with the context: a whole GPU needs no margin, as there is the next model
        (23.1, Place(1.0, "accelerator_type:A100")),
        (30.0, Place(1.0, "accelerator_type:A100")),
        (39.1, Place(1.0, "accelerator_type:H100")),
        (90.0, Place(1.0, "accelerator_type:H100")),
    ],
)
def test_of_mixed_gpus_the_smallest_that_holds_a_trial_is_shared(peak, place):
    for memory in (MEMORY, 80 * GIB):  # wherever it was measured
        assert Measured(int(peak * GIB), 0, memory).place(MODELS, packing.MOST) == place
    assert Measured(int(peak * GIB), 0, MEMORY).place({}, packing.MOST).model is None


def test_what_is_too_large_for_a_whole_gpu_goes_to_the_next_larger_model_up_to_the_largest():
    shares, asked = Shares(lambda group: Place(1.0), whole, MODELS), trial(0)
    seen = []
    for memory in (MEMORY, 40 * GIB, 80 * GIB):
        told = shares.given(shares.of(asked))
        seen.append(told)
        grown = shares.grow(asked | told, memory)
        assert grown == ("largest" in told), "the worker and the driver agree on whether it runs again"
    assert seen == [
        {"share": 1.0, "largest": 80 * GIB},
        {"share": 1.0, "model": "accelerator_type:A100", "largest": 80 * GIB},
        {"share": 1.0, "model": "accelerator_type:H100"},
    ]
    # One that was put on the middle one by chance goes past it, and one that ran beside it on a smaller one follows.
    shares = Shares(lambda group: Place(1.0), whole, MODELS)
    told = shares.given(shares.of(asked))
    assert shares.grow(asked | told, 40 * GIB)
    assert shares.of(asked) == Place(1.0, "accelerator_type:H100")
    assert shares.grow(asked | told, MEMORY)
    assert shares.of(asked) == Place(1.0, "accelerator_type:H100")


def test_what_is_too_large_for_a_whole_gpu_of_as_much_memory_as_all_others_is_too_large():
    shares = Shares(lambda group: Place(1.0), whole, {"accelerator_type:L4": MEMORY, "accelerator_type:A5000": MEMORY})
    assert not shares.grow(trial(0) | {"share": 1.0}, MEMORY)


def test_a_trial_that_moves_to_the_largest_model_is_not_told_again_that_there_is_a_larger_one():
    """Ray calls GPUs of 40 and of 80 GiB A100: on a smaller one than is known its memory may be full, and then it fails."""
    models = {"accelerator_type:L4": MEMORY, "accelerator_type:A100": 80 * GIB}
    dispatch = Dispatch(Planned([trial(0)]), shares=Shares(lambda group: Place(1.0), whole, models))
    assert dispatch.suggest("a")["trial"] == trial(0) | {"share": 1.0, "largest": 80 * GIB}
    dispatch.on_trial_complete("a", {"refused": "full", "memory": MEMORY})
    assert dispatch.suggest("b")["trial"] == trial(0) | {"share": 1.0, "model": "accelerator_type:A100"}


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


class Machines:
    """GPUs whose allocator refuses at its limit, and the part of Tune that starts a trial where there is room.

    Args:
        gpus: (memory, model) of each.
        needs: bytes that a trial takes, by its index.
        wrong: factor by which a measurement is wrong.

    """

    def __init__(self, gpus, needs, wrong):
        self.gpus, self.needs, self.wrong = gpus, needs, wrong
        self.free = [1.0] * len(gpus)
        self.running, self.done, self.failed, self.given = {}, {}, set(), defaultdict(list)

    def run(self, dispatch):
        for number in count():
            config = dispatch.suggest(f"t{number}")
            if config == Searcher.FINISHED:
                return
            while config and (room := self.room(config["trial"])) is None:
                self.end_oldest(dispatch)
            if config:
                self.free[room] -= config["trial"]["share"]
                self.running[f"t{number}"] = config["trial"], room
            else:
                self.end_oldest(dispatch)

    def room(self, asked):
        places = [place for place, (_, model) in enumerate(self.gpus) if asked.get("model", model) == model]
        return next((place for place in places if self.free[place] >= asked["share"] - 1e-9), None)

    def end_oldest(self, dispatch):
        name, (asked, place) = next(iter(self.running.items()))
        del self.running[name]
        self.free[place] += asked["share"]
        dispatch.on_trial_complete(name, self.result(asked, self.gpus[place][0]))

    def result(self, asked, memory):
        share, need = asked["share"], self.needs[asked["index"]]
        if "probe" in asked:
            full = need * self.wrong > memory
            return {"measured": None if full else [int(need * self.wrong), CONTEXT, memory]}
        self.given[asked["index"]].append((memory, share))
        if need <= memory * (1 if share == 1 else fence(share, memory)):
            self.done[asked["index"]] = memory
            return {"committed": "done"}
        if share < 1 or memory < asked.get("largest", 0):
            return {"refused": "full", "memory": memory}
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
    fake = Machines([(MEMORY, None)] * gpus, needs, wrong)
    fake.run(dispatch)
    assert set(fake.done) == set(needs) - {17}
    assert fake.failed == {17}
    assert all(given == sorted(set(given)) for given in fake.given.values())
    assert fake.free == pytest.approx([1.0] * gpus)


@pytest.mark.parametrize("known", [None, Place(1.0), Place(0.25)])
@pytest.mark.parametrize("wrong", [0.2, 1.0, 1.5])
@pytest.mark.parametrize("reverse", [False, True])
def test_on_mixed_gpus_a_trial_fails_only_where_the_largest_is_too_small(known, wrong, reverse):
    """Whether shares are measured, rightly or wrongly, or set; trials vary, and one is larger than any GPU."""
    needs = {i: (2 + 9 * (i % 8)) * GIB for i in range(40)} | {17: 90 * GIB}
    gpus = [(MODELS[model], model) for model in sorted(MODELS, reverse=reverse) for _ in range(2)]
    shares = Shares(lambda group: known, lambda measured: measured.place(MODELS, packing.MOST), MODELS)
    dispatch = Dispatch(Planned([trial(i, f"method{i % 8}") for i in needs]), shares=shares)
    fake = Machines(gpus, needs, wrong)
    fake.run(dispatch)
    assert set(fake.done) == set(needs) - {17}
    assert fake.failed == {17}
    assert all(len(given) == len(set(given)) <= 4 + 2 for given in fake.given.values()), "nothing is tried twice"
    assert fake.free == pytest.approx([1.0] * len(gpus))


def test_words_for_a_full_memory():
    assert is_full(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_full(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_full(RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"))
    assert is_full(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"))
    assert is_full(RuntimeError("FIND was unable to find an engine to execute this computation"))
    assert is_full(torch.AcceleratorError("CUDA error: out of memory"))
    assert not is_full(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    assert not is_full(
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes: out of memory")
    )
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
    other = {"trial_key": "k9", "status": "done", "device": "cuda: NVIDIA L4", "peak_memory_bytes": 50}
    store.commit("k9", {"trials": [other | {"config": trial(9, faces="of more people")["spec"]}]})
    group = packing.group_of(trial(0))
    assert packing._recorded(store, {"cuda: NVIDIA L4"})[group] == 4
    assert packing._recorded(store, {"cuda: NVIDIA L4", "cuda: NVIDIA H100"})[group] == 9


def test_a_cluster_is_asked_for_machines_by_trials_that_any_gpu_holds(monkeypatch):
    models = {"accelerator_type:L4": MEMORY, "accelerator_type:A100": 80 * GIB}
    said = []
    demand = SimpleNamespace(note=lambda share, left: said.append((share, left)))
    shares = Shares(lambda group: Place(1.0), whole, models)
    dispatch = Dispatch(Planned([trial(0), trial(1, "triplet")]), shares=shares, demand=demand)
    dispatch.suggest("a")
    dispatch.on_trial_complete("a", {"refused": "full", "memory": MEMORY})
    assert dispatch.suggest("b")["trial"]["model"] == "accelerator_type:A100"
    assert "model" not in dispatch.suggest("c")["trial"]
    assert said == [(1.0, 2), (0.0, 0), (1.0, 2)]


def test_a_measurement_takes_two_steps_and_a_batch_of_evaluation(tiny_config, monkeypatch):
    config = tiny_config("batch_size=4", "method=mul_dml")
    faces = plan.open_faces(config)
    made = Trial(plan.members(config, faces, "s")[0].spec, Faces(faces, torch.device("cpu")), {}, lambda row: None)
    steps, batches = [], []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: steps.append(1))
    embed = packing.evaluation.embed
    monkeypatch.setattr(packing.evaluation, "embed", lambda *given: batches.append(given[4]) or embed(*given))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GIB, MEMORY))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 5 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    assert packing.measure(made, torch.device("cpu")) == Measured(5 * GIB, 11 * GIB, MEMORY)
    assert len(steps) == packing.STEPS
    assert len(batches) == 1
