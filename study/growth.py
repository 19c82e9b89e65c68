"""What the Ray that is running has, and what it may grow to."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import ray
import yaml

from study.errors import StudyError

# Ray tells nobody what a cluster may grow to: the file that `ray up` was given lies here on the head, where a study's driver runs.
ASKED = Path("~/ray_bootstrap_config.yaml")
# Seconds in which the first machine that trains comes, where machines come by themselves.
PATIENCE = 120.0


def resources(share: float | None) -> dict[str, float]:
    """CPUs and GPUs of all nodes; on the head of a cluster that grows, of all that it may have at the most.

    Args:
        share: of a GPU that a trial shall get; where that is not said, the first machine that trains is waited for.

    Raises:
        StudyError: where a trial gets what there is, and no machine comes that trains.

    """
    promise = promised(yaml.safe_load(ASKED.expanduser().read_text())) if _on_a_head() else {}
    deadline = time.monotonic() + PATIENCE
    while True:
        there = ray.cluster_resources()
        if share is not None or there.get("CPU") or promise.get("CPU"):
            return {name: max(there.get(name, 0.0), promise.get(name, 0.0)) for name in ("CPU", "GPU")}
        if time.monotonic() > deadline:
            raise StudyError(
                f"Expected a machine of the cluster that trains, found none in {PATIENCE:.0f} s: where they come when they are "
                "asked for, say what a trial needs, as in cluster.gpus_per_trial=1, or 0 for CPUs alone."
            )
        time.sleep(0.5)


def promised(asked: dict[str, Any]) -> dict[str, float]:
    """CPUs and GPUs of as many workers as a file for `ray up` allows, the ones with most GPUs first."""
    left, found = int(asked.get("max_workers") or 0), {"CPU": 0.0, "GPU": 0.0}
    types = [
        (node.get("resources") or {}, node.get("max_workers") or 0) for node in asked["available_node_types"].values()
    ]
    for has, most in sorted(types, key=lambda one: one[0].get("GPU", 0), reverse=True):
        count = min(left, most)
        left -= count
        found = {name: value + count * has.get(name, 0) for name, value in found.items()}
    return found


def _on_a_head() -> bool:
    return bool(os.environ.get("RAY_ADDRESS")) and ASKED.expanduser().exists()
