"""What GPUs a cluster has, and what shares of them its trials get: with nodes in the place of Ray's."""

from collections import Counter
from types import SimpleNamespace

import ray

from results import Store
from study import gpus, growth, packing
from study.gpus import Gpus
from study.packing import CONTEXT, Measured, Place, part
from tests.study.fenced import GIB, MEMORY, trial


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
