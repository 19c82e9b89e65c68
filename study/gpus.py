"""The GPUs of the Ray that is running: which models there are, and how much memory they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

# Seconds to wait for the nodes to name their GPUs.
PATIENCE = 120.0
# What Ray calls a node's model of GPU: a resource, of which a trial asks for a trifle to be put there.
MODEL = "accelerator_type:"


class Gpus(NamedTuple):
    """GPUs of one name: memory of one in bytes, and Ray's name of the model, where it has one."""

    memory: int
    model: str | None


def nodes(cpus: float = 0, share: float = 0) -> list[dict[str, Any]]:
    """The nodes that live and have GPUs, and the CPUs and GPUs of a trial."""
    return [
        node
        for node in ray.nodes()
        if node["Alive"]
        and node["Resources"].get("GPU", 0) >= max(share, 0.001)
        and node["Resources"].get("CPU", 0) >= cpus
    ]


def models(there: Sequence[dict[str, Any]]) -> set[str | None]:
    """Ray's names of the models of these nodes; None is one that has no name."""
    return {_model_of(node) for node in there}


def survey(there: Sequence[dict[str, Any]]) -> dict[str, Gpus] | None:
    """GPUs by their name, as in the column `device`, of those of these nodes that answer; None where theirs are no GPUs.

    The GPUs of one node are taken for alike, as Ray does, and those of one name for as large as the smallest of them. Nodes whose GPUs
    are all in use do not answer: theirs are measured later, and no larger model to go to.
    """
    asked = {
        _device.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(): node
        for node in there
    }
    answers, late = ray.wait([*asked], num_returns=len(asked), timeout=PATIENCE) if asked else ([], [])
    for one in late:
        ray.cancel(one)
    found: dict[str, Gpus] = {}
    promised = False
    for answer in answers:
        with suppress(ray.exceptions.RayError):  # a node that is lost has none
            if (device := ray.get(answer)) is None:
                promised = True
                continue
            name, memory = device
            known = found.get(name, Gpus(memory, None))
            found[name] = Gpus(min(memory, known.memory), _model_of(asked[answer]) or known.model)
    return None if promised and not found else found


def memories(devices: Iterable[Gpus]) -> dict[str, int]:
    """Bytes of a GPU by its model, the smallest of each."""
    found: dict[str, int] = {}
    for one in devices:
        if one.model is not None:
            found[one.model] = min(one.memory, found.get(one.model, one.memory))
    return found


def _model_of(node: dict[str, Any]) -> str | None:
    return next((name for name in sorted(node["Resources"]) if name.startswith(MODEL)), None)


@ray.remote(num_cpus=0, num_gpus=0.001, max_retries=0)
def _device() -> tuple[str, int] | None:
    if not torch.cuda.is_available():
        return None
    device = torch.cuda.get_device_properties(0)
    return f"cuda: {device.name}", device.total_memory
