"""Several trials on a GPU: what each is given, with an allocator that refuses at its limit in the place of CUDA's."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import ray
import torch
from ray.tune.search import Searcher

from results import Store
from study import engine, gpus, growth, packing, plan
from study.config import ROOT
from study.dispatch import Dispatch, Planned
from study.faces import Faces
from study.gpus import Gpus
from study.packing import CONTEXT, Measured, NoShares, Place, Shares, fence, is_full, larger, part
from study.progress import Display
from study.spool import Spool
from study.trial import Trial
from tests.study.fenced import FencedWorker

GIB = 1 << 30
MEMORY = 24 * GIB


def trial(index, method="softmax", size=64, faces="f"):
    spec = {
        "method": method,
        "backbone": "resnet18",
        "image_size": size,
        "channels": 1,
        "batch_size": 32,
        "index": index,
    }
    return {"spec": json.dumps(spec | {"fingerprint": faces, "evaluation": {}}), "index": index}


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


def node_id(i):
    return f"{i:056x}"


class Nodes:
    """In the place of ray: nodes of which some have GPUs, and what each one's answer is; a lost one raises, a late one says nothing."""

    exceptions = ray.exceptions

    def __init__(self, *nodes, answers=()):
        self.answers, self.cancelled = {node_id(i): one for i, one in dict(answers).items()}, []
        self.alive = [
            {"NodeID": node_id(i), "Alive": alive, "Resources": resources} for i, (alive, resources) in enumerate(nodes)
        ]

    def nodes(self):
        return self.alive

    def cluster_resources(self):
        return sum((Counter(node["Resources"]) for node in self.alive if node["Alive"]), Counter())

    def options(self, scheduling_strategy):
        assert not scheduling_strategy.soft
        return SimpleNamespace(remote=lambda: scheduling_strategy.node_id)

    def wait(self, asked, num_returns, timeout):
        return [one for one in asked if one in self.answers], [one for one in asked if one not in self.answers]

    def cancel(self, one):
        self.cancelled.append(one)

    def get(self, one):
        if isinstance(self.answers[one], Exception):
            raise self.answers[one]
        return self.answers[one]


L4, H100 = ("cuda: NVIDIA L4", MEMORY), ("cuda: NVIDIA H100", 80 * GIB)
MIXED = [
    (True, {"CPU": 16.0, "GPU": 4.0}),
    (True, {"CPU": 64.0}),  # no GPU
    (True, {"CPU": 12.0, "GPU": 1.0, "accelerator_type:H100": 1.0}),
    (False, {"CPU": 64.0, "GPU": 8.0}),  # gone
    (True, {"CPU": 4.0, "GPU": 2.0}),
    (True, {"CPU": 8.0, "GPU": 1.0}),
]


def use_nodes(monkeypatch, *nodes, **given):
    made = Nodes(*nodes, **given)
    for module in (gpus, growth):
        monkeypatch.setattr(module, "ray", made)
    monkeypatch.setattr(gpus, "_device", made)
    return made


def test_a_survey_of_mixed_nodes(tiny_config, tmp_path, monkeypatch):
    """Four L4, one H100, two more GPUs whose node is lost while it is asked, and one whose node is busy."""
    answers = {0: L4, 2: H100, 4: ray.exceptions.WorkerCrashedError()}
    nodes = use_nodes(monkeypatch, *MIXED, answers=answers)
    assert gpus.survey(gpus.nodes()) == {
        "cuda: NVIDIA L4": Gpus(MEMORY, None),
        "cuda: NVIDIA H100": Gpus(80 * GIB, "accelerator_type:H100"),
    }
    assert nodes.cancelled == [node_id(5)]
    assert [packing._most(cpus) for cpus in (1, 2, 4, 100)] == [packing.MOST, 6, 3, 1]
    shares = packing.shares(tiny_config(), "val_accuracy", Store(tmp_path))
    assert shares.of(trial(0)) is None
    # Measured on the H100, where one in 8 would do: the L4 decides.
    shares.learn(trial(0), Measured(9 * GIB, CONTEXT, 80 * GIB))
    assert shares.of(trial(0)) == Place(part(2))
    # Two of these have room on it, and none on an L4.
    shares.learn(trial(0), Measured(30 * GIB, CONTEXT, 80 * GIB))
    assert shares.of(trial(0)) == Place(part(2), "accelerator_type:H100")


def test_shares_of_a_cluster_without_gpus_with_promised_ones_and_as_they_are_set(tiny_config, tmp_path, monkeypatch):
    def share(*overrides, metric="val_accuracy"):
        place = packing.shares(tiny_config(*overrides), metric, Store(tmp_path)).of(trial(0))
        return None if place is None else place.share

    use_nodes(monkeypatch, (True, {"CPU": 4.0}))
    assert share() == 0.0
    with monkeypatch.context() as grows:
        grows.setattr(growth, "resources", lambda share: {"CPU": 64.0, "GPU": 8.0})
        assert share() is None, "nodes come when GPUs are asked for"
    use_nodes(monkeypatch, *MIXED, answers=dict.fromkeys((0, 2, 4, 5)))
    assert share() == 1.0, "there are none behind the promise"
    use_nodes(monkeypatch, *MIXED)
    assert share() is None, "no node answers, since its GPUs are in use: they are measured when they are free"
    use_nodes(monkeypatch, *MIXED, answers={0: L4})
    assert share() is None
    assert share(metric="seconds") == 1.0, "what is timed has its GPU for itself"
    assert [share(f"cluster.gpus_per_trial={given}") for given in (0, 0.25, 1, 2)] == [0.0, 0.25, 1.0, 2.0]


def test_a_larger_model_is_one_of_which_a_node_can_hold_the_trial(tiny_config, tmp_path, monkeypatch):
    """The A100's node has no CPU to spare, and the H100 is alone on its own."""
    resources = [
        {"CPU": 16.0, "GPU": 4.0, "accelerator_type:L4": 1.0},
        {"CPU": 1.0, "GPU": 8.0, "accelerator_type:A100": 1.0},
        {"CPU": 12.0, "GPU": 1.0, "accelerator_type:H100": 1.0},
    ]
    answers = {0: L4, 1: ("cuda: NVIDIA A100", 40 * GIB), 2: H100}
    use_nodes(monkeypatch, *((True, one) for one in resources), answers=answers)

    def grown(given):
        config = tiny_config(
            "cluster.cpus_per_trial=2", *([] if given is None else [f"cluster.gpus_per_trial={given}"])
        )
        shares = packing.shares(config, "val_accuracy", Store(tmp_path))
        share = shares.of(trial(0)).share if given else 1.0
        return shares.grow(trial(0) | {"share": share}, MEMORY) and shares.of(trial(0))

    assert grown(None) == grown(1) == Place(1.0, "accelerator_type:H100")
    assert grown(2) is False


def test_a_gpu_that_cannot_hold_a_trial_does_not_make_the_shares_of_the_others_larger(
    tiny_config, tmp_path, monkeypatch
):
    tiny, large = {"CPU": 1.0, "GPU": 1.0}, {"CPU": 12.0, "GPU": 1.0, "accelerator_type:H100": 1.0}
    use_nodes(monkeypatch, (True, tiny), (True, large), answers={0: ("cuda: K620", 2 * GIB), 1: H100})
    shares = packing.shares(tiny_config("cluster.cpus_per_trial=2"), "val_accuracy", Store(tmp_path))
    shares.learn(trial(0), Measured(9 * GIB, CONTEXT, 80 * GIB))
    assert shares.of(trial(0)) == Place(part(6))


def test_a_model_has_the_name_that_any_of_its_nodes_has_for_it(monkeypatch):
    named = {"CPU": 4.0, "GPU": 1.0, "accelerator_type:L4": 1.0}
    for two in ((named, {"CPU": 4.0, "GPU": 1.0}), ({"CPU": 4.0, "GPU": 1.0}, named)):
        use_nodes(monkeypatch, *((True, one) for one in two), answers={0: L4, 1: (L4[0], MEMORY - GIB)})
        assert gpus.survey(gpus.nodes()) == {"cuda: NVIDIA L4": Gpus(MEMORY - GIB, "accelerator_type:L4")}


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


@pytest.fixture
def fenced_study(tiny_config, tmp_path, monkeypatch):
    """Runs trials that train nothing on a cluster; gives (method, status, share) of the rows, and what the workers noted."""

    def run(cluster, surveyed, large, methods, each):
        @ray.remote(num_cpus=0, num_gpus=0.001, max_retries=0)
        def device():
            is_large = ray.util.get_node_ip_address() == large
            return ("cuda: large", 80 << 30) if is_large else ("cuda: small", 24 << 30)

        monkeypatch.setattr(gpus, "_device", device)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "spool"))
        specs = []
        for method, trials in zip(methods, each, strict=True):
            config = tiny_config(f"method={method}", "epochs=1", f"storage.root={tmp_path / 'tables'}")
            faces = plan.open_faces(config)
            spec = plan.members(config, faces, "s")[0].spec
            specs += [replace(spec, learning_rate=0.001 + i / 1e6) for i in range(trials)]
        (tmp_path / "notes").mkdir()
        config["dataset"]["cache"] = str(tmp_path / "notes")
        config["checkpoint"]["root"] = str(tmp_path / "checkpoints")
        store, ended = Store(tmp_path / "tables"), []
        ray.init(
            address=cluster.address,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
        )
        try:
            assert gpus.survey(gpus.nodes(1, 1)) == surveyed
            with Display("s", len(specs), "val_accuracy") as display:
                trials = [{"spec": spec.json(), "index": i} for i, spec in enumerate(specs)]
                code = {"git_commit": None, "git_dirty": None}
                engine.run(config, Spool(store, "s"), display, "val_accuracy", code, ended.append, Planned(trials),
                           worker=FencedWorker)  # fmt: skip
        finally:
            ray.shutdown()
        assert len(ended) == len(specs)
        rows = store.read("trials", ["method", "status", "gpu_share"]).to_pylist()
        notes = [json.loads(file.read_text()) for file in (tmp_path / "notes").glob("*.json")]
        return sorted((row["method"], row["status"], row["gpu_share"]) for row in rows), notes

    return run


@pytest.mark.slow
def test_a_study_on_two_gpus_of_mixed_nodes(fenced_study, ray_cluster):
    """Four trials that fit two on a GPU, as measured, and four of which each turns out to need a whole one.

    Beside the node with the GPUs are one without, and one whose GPU has no CPU beside it, so that it holds nothing.
    """
    cluster = ray_cluster({"num_cpus": 8, "num_gpus": 2}, {"num_cpus": 8}, {"num_cpus": 0, "num_gpus": 1})
    surveyed = {"cuda: small": Gpus(MEMORY, None)}
    rows, notes = fenced_study(cluster, surveyed, large="127.0.1.2", methods=("softmax", "triplet"), each=(4, 4))
    assert rows == [*[("softmax", "done", 0.5)] * 4, *[("triplet", "done", 1.0)] * 4]
    assert Counter((note["what"], note["method"], note["share"]) for note in notes if note["what"] != "full") == {
        ("measured", "softmax", 1.0): 1,
        ("measured", "triplet", 1.0): 1,
        ("done", "softmax", 0.5): 4,
        ("done", "triplet", 1.0): 4,
    }
    assert {(note["method"], note["share"]) for note in notes if note["what"] == "full"} == {("triplet", 0.5)}
    done = [note for note in notes if note["what"] == "done"]
    for note in done:
        beside = [one for one in done if one["gpu"] == note["gpu"] and one["start"] <= note["start"] < one["end"]]
        assert sum(one["share"] for one in beside) <= 1
    assert {note["gpu"] for note in done} == {"127.0.1.0:0", "127.0.1.0:1"}


@pytest.mark.slow
def test_what_the_smaller_model_cannot_hold_is_trained_on_the_larger(fenced_study, ray_cluster):
    """Two trials of which it was measured that they fit a whole one of either, and one that is known to need the larger."""
    small, large = ({"num_cpus": 4, "num_gpus": 1, "resources": {f"accelerator_type:{name}": 1}} for name in ("S", "L"))
    surveyed = {"cuda: small": Gpus(MEMORY, "accelerator_type:S"), "cuda: large": Gpus(80 * GIB, "accelerator_type:L")}
    cluster = ray_cluster(small, large)
    rows, notes = fenced_study(cluster, surveyed, large="127.0.1.1", methods=("mul_dml", "contrastive"), each=(2, 1))
    assert rows == [("contrastive", "done", 1.0), *[("mul_dml", "done", 1.0)] * 2]
    assert {note["gpu"] for note in notes if note["what"] == "done"} == {"127.0.1.1:0"}
    full = {(note["method"], note["gpu"], note["share"]) for note in notes if note["what"] == "full"}
    assert full == {("mul_dml", "127.0.1.0:0", 1.0)}, (
        "on the smaller one first, and never what is known to need the larger"
    )
