"""Studies on GPUs that a real Ray only promises, by workers that train nothing."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import ray

from results import Store
from study import engine, gpus, plan
from study.config import ROOT
from study.dispatch import Planned
from study.gpus import Gpus
from study.progress import Display
from study.spool import Spool
from tests.study.fenced import GIB, MEMORY, FencedWorker


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
