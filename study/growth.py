"""What the Ray that is running has, and what it may grow to."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

from study.config import Config
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
    promise = promised(_asked()) if _on_a_head() else {}
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
    come one after the other. So groups of resources wait in the place of the trials to come. They stand aside for a moment when one of
    them gets room, which a trial then takes, and end with the driver, however that ends.

    Args:
        cpus: of a trial.
        workers: trials at a time at most; None for as many as there is room for.

    """

    def __init__(self, cpus: float, workers: int | None) -> None:
        self._cpus, self._workers = cpus, workers
        self._share: float | None = None
        self._left, self._looked = 0, 0.0
        self._waiting: list[PlacementGroup] = []

    def note(self, share: float, left: int) -> None:
        """Trials get this share of a GPU, and so many have not ended."""
        self._share, self._left = share, left

    def look(self) -> None:
        """Once a second, after Tune has asked for what its trials need."""
        now = time.monotonic()
        if self._share is None or now < self._looked + 1 or not _on_a_head():
            return
        self._looked = now
        if self._waiting:
            states = placement_group_table()
            if any(states.get(one.id.hex(), {}).get("state") == "CREATED" for one in self._waiting):
                self.end()
                return
        room = self._room(resources(self._share), self._share)
        # Of those that lack room one waits by itself.
        lacking = min(room, self._left, self._workers or room) - self._room(ray.cluster_resources(), self._share) - 1
        lacking = max(0, min(lacking, AT_ONCE))
        self._leave(self._waiting[lacking:])
        each = {"CPU": self._cpus, "GPU": self._share} if self._share else {"CPU": self._cpus}
        self._waiting += [placement_group([each]) for _ in range(lacking - len(self._waiting))]

    def end(self) -> None:
        """Ask for nothing."""
        self._leave(list(self._waiting))

    def _leave(self, groups: list[PlacementGroup]) -> None:
        for one in groups:
            self._waiting.remove(one)
            remove_placement_group(one)

    def _room(self, there: dict[str, float], share: float) -> int:
        """How many trials have room at a time."""
        by_cpus = int(there.get("CPU", 0.0) // self._cpus)
        return min(by_cpus, int(there.get("GPU", 0.0)) * int(1 / share)) if share else by_cpus


def check_storage(config: Config) -> None:
    """Check that all machines of the cluster that this is the head of see the results.

    Raises:
        StudyError: where they are on a disk, and the machines are rented.

    """
    root = str(config["storage"]["root"])
    if "://" not in root and _on_a_head() and _asked()["provider"]["type"] == "aws":
        raise StudyError(
            "Expected storage.root to be s3://BUCKET/PREFIX, since the machines of this cluster are rented and share no disk, "
            f"found {root}: say it with storage=s3, or send the study by python study/cluster.py submit, which does."
        )


def _asked() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(ASKED.expanduser().read_text())
    return found


def _on_a_head() -> bool:
    return bool(os.environ.get("RAY_ADDRESS")) and ASKED.expanduser().exists()
