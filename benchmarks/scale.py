"""What ten thousand trials of no work cost, each, from the first to the last.

    python benchmarks/scale.py

The whole engine: dispatcher, Ray Tune, warm workers, one row and three epoch rows a trial committed to the store and synced to disk,
compaction while the study runs, the driver's records. Nothing is built or trained, so that what grows with the number of trials shows.
No peer: plain Tune keeps every trial it had, and is compared trial by trial in trial_overhead.py.
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from results import Store
from study import engine, plan
from study.config import load
from study.dispatch import Planned
from study.progress import Display
from study.records import curves
from study.spool import Spool
from study.trial_row import spec_row
from study.worker import Worker


class Quick(Worker):
    """Commits a trial that was never trained."""

    def step(self) -> dict[str, Any]:
        """Its rows, and done."""
        now = datetime.now(UTC)
        records: list[dict[str, Any]] = [{"epoch": epoch, "val_accuracy": 0.5, "slices": []} for epoch in (1, 2, 3)]
        row = spec_row(self.spec) | {"status": "done", "epochs": 3, "started_at": now, "ended_at": now}
        self.store.commit(self.spec.key, {"trials": [row], **curves(self.spec.key, records)})
        return {"record": records[-1], "row": row, "metric": 0.5, "committed": "done", "done": True}


class Quiet(Display):
    """Says nothing of single trials."""

    def ended(self, *given: Any) -> None:
        """Nothing."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    count = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        tiny = ["dataset.subjects=4", "dataset.per_class=1", "image_size=16", "folds=2", "method=softmax"]
        config = load([*tiny, f"dataset.cache={folder}/cache", f"storage.root={folder}/tables"]) | {"kind": "method"}
        spec = plan.members(config, plan.open_faces(config), "scale")[0].spec
        trials = [{"spec": replace(spec, seed=i).json(), "index": i} for i in range(count)]
        ends: list[float] = []
        with engine.cluster(config), Quiet("scale", count, "test_accuracy") as display:
            store, start = Store(config["storage"]["root"]), time.perf_counter()
            engine.run(config, Spool(store, "scale"), display, "test_accuracy", {"git_commit": None, "git_dirty": None},
                       lambda row: ends.append(time.perf_counter() - start), Planned(trials), worker=Quick)  # fmt: skip
            ends[-1] = time.perf_counter() - start  # with what comes after the last trial
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            own = int(next(line for line in status if line.startswith("RssAnon")).split()[1]) / 2**10
        there = len(store.statuses())
    print(
        f"{count} trials of no work, {there} in the store; {platform.machine()}, Python {platform.python_version()}\n"
    )
    print("| trials | ms each |\n|---|---:|")
    tenth = max(count // 10, 1)
    marks = [0.0, *(ends[i - 1] for i in range(tenth, count + 1, tenth))]
    for i, (begin, end) in enumerate(pairwise(marks)):
        print(f"| {i * tenth + 1} to {(i + 1) * tenth} | {(end - begin) / tenth * 1000:.1f} |")
    print(f"| all, start of the workers included | {ends[-1] / count * 1000:.1f} |\n")
    print(f"Most memory of the driver: {memory:.0f} MiB with mapped libraries; its own at the end: {own:.0f} MiB.")


if __name__ == "__main__":
    main()
