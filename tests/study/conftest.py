import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Project:
    """The command line, on a data set and a store of the test's own."""

    def __init__(self, folder):
        self.folder, self.tables = folder, folder / "tables"
        self.places = [f"dataset.cache={folder / 'cache'}", f"storage.root={self.tables}"]
        # 4 people, 16 pixels, 2 epochs: a trial takes half a second, and another worker five seconds to start.
        self.tiny = [
            "dataset.subjects=4",
            "dataset.per_class=1",
            "image_size=16",
            "epochs=2",
            "folds=2",
            "cluster.workers=1",
            *self.places,
        ]

    def start(self, *arguments, ray_address=None, **options):
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
            "OMP_NUM_THREADS": "1",
            **({"RAY_ADDRESS": ray_address} if ray_address else {}),
        }
        command = [sys.executable, str(ROOT / "study" / "run.py"), *arguments]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment,
            **options,
        )

    def run(self, *arguments, status=0):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=280)
        assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
        process.out, process.err = out, err
        return process

    def read(self, table, *columns):
        from results import Store

        return Store(self.tables).read(table, list(columns) or None).to_pylist()


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def torch_settings():
    """Put back what a trial sets in its process."""
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def ray_cluster():
    """Makes a Ray of a head that trains nothing, and of nodes as they are asked for, each with an address of its own on loopback."""
    from ray.cluster_utils import Cluster

    made = []

    def make(*nodes):
        # Ray would take 127.0.0.1 for the address of this machine's network.
        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.9"}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        made.append(cluster)
        cluster.nodes = [cluster.add_node(node_ip_address=f"127.0.1.{i}", **node) for i, node in enumerate(nodes)]
        return cluster

    yield make
    for cluster in made:
        cluster.shutdown()


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """A composed configuration of one-arm studies on a data set that is drawn in a moment."""
    from study.config import load

    folder = tmp_path_factory.mktemp("study")

    def make(*overrides, kind="method", ablation=None):
        tiny = ["dataset.subjects=4", "dataset.per_class=1", "image_size=16", "epochs=2", "folds=2"]
        config = load(
            [*tiny, f"dataset.cache={folder / 'cache'}", f"storage.root={folder / 'tables'}", *overrides], ablation
        )
        return config | {"kind": kind, "overrides": list(overrides)}

    return make
