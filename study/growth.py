"""What the Ray that is running has, and what it may grow to."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

from study.errors import StudyError

# Ray tells nobody what a cluster may grow to: the file that `ray up` was given lies here on the head, where a study's driver runs.
ASKED = Path("~/ray_bootstrap_config.yaml")
# Seconds in which the first machine that trains comes, where machines come by themselves.
PATIENCE = 120.0
# Most trials whose room a search waits for at a time, as Tune does for a table.
AT_ONCE = 64


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


class Demand:
    """Has a cluster that grows begin all machines at once that a search will use.

    Ray rents machines for what waits for them, and of a search, which proposes as late as it can, that is one trial: its machines would
    come one after the other. So what the others will need waits in their place, and gives its room to them as soon as it has one. It
    ends with the driver, however that ends.

    Args:
        cpus: of a trial.
        workers: trials at a time at most; None for as many as there is room for.

    """

    def __init__(self, cpus: float, workers: int | None) -> None:
        self._cpus, self._workers, self._begun, self._looked = cpus, workers, False, 0.0
        self._lacking, self._waiting = 0, list[PlacementGroup]()
        self._each: dict[str, float] = {}

    def begin(self, share: float, left: int) -> None:
        """The first trial begins, on this share of a GPU; so many more are left."""
        if self._begun or not _on_a_head():
            return
        self._begun = True
        self._each = {"CPU": self._cpus, "GPU": share} if share else {"CPU": self._cpus}
        room = self._room(resources(share), share)
        most = min(room, left + 1, self._workers or room)
        self._lacking = most - max(self._room(ray.cluster_resources(), share), 1)
        self._wait()

    def look(self) -> None:
        """Once a second: make room."""
        if self._waiting and time.monotonic() >= self._looked + 1:
            self._looked, found = time.monotonic(), placement_group_table()
            self._leave([one for one in self._waiting if found.get(one.id.hex(), {}).get("state") == "CREATED"])
            self._wait()

    def end(self) -> None:
        """No more trials are left."""
        self._lacking = 0
        self._leave(list(self._waiting))

    def _wait(self) -> None:
        while self._lacking > 0 and len(self._waiting) < AT_ONCE:
            self._waiting.append(placement_group([self._each]))
            self._lacking -= 1

    def _leave(self, ready: list[PlacementGroup]) -> None:
        for one in ready:
            remove_placement_group(one)
            self._waiting.remove(one)

    def _room(self, there: dict[str, float], share: float) -> int:
        """How many trials have room at a time."""
        by_cpus = int(there.get("CPU", 0.0) // self._cpus)
        return min(by_cpus, int(there.get("GPU", 0.0)) * int(1 / share)) if share else by_cpus


def _on_a_head() -> bool:
    return bool(os.environ.get("RAY_ADDRESS")) and ASKED.expanduser().exists()
