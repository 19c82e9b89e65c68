"""What a trial costs beside its training: our warm workers against a plain Tune function.

    python benchmarks/trial_overhead.py

30 trials that train nothing. Ours: a warm worker opens the data set's split, builds a fresh ResNet-18 with the Mul-DML head and its
augmentation, reports, and commits the trial's rows to the store, synced to disk. The peer: a Tune function without actor reuse that
imports torch and kornia, builds a ResNet-18 and reports; it stores nothing. One run of each, the peer after ours, on one local Ray.
"seconds a trial" is the whole wall time, start of the workers included, over the trials; "once warm" is the time from the first trial's
end to the last one's, over the trials between.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ray import tune

from results import Store
from study import engine, plan
from study.config import load
from study.dispatch import Planned
from study.progress import Display
from study.spool import Spool
from study.worker import Worker


class IdleWorker(Worker):
    """Does all that a worker does but train and evaluate."""

    def step(self) -> dict[str, Any]:
        """Set the trial up, commit its row, be done."""
        self.trial = self._prepare()
        row = self.trial.row("done")
        self.store.commit(self.spec.key, {"trials": [row]})
        return {"record": {}, "row": row, "metric": 0.0, "committed": "done", "done": True}


def plain(config: dict[str, Any]) -> None:
    """The peer's trial."""
    import kornia
    import torchvision

    torchvision.models.resnet18(weights=None)
    tune.report({"metric": float(config["i"]), "kornia": kornia.__version__})


class Clock(tune.Callback):
    """When trials ended, in seconds since it was made."""

    def __init__(self) -> None:
        self.start, self.ends = time.perf_counter(), list[float]()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter() - self.start)


def ours(count: int, folder: Path) -> list[float]:
    """End times of our trials."""
    config = load(
        [
            "dataset.subjects=6",
            "dataset.per_class=1",
            "image_size=64",
            "folds=2",
            f"dataset.cache={folder}/cache",
            "method=mul_dml",
        ]
    )
    config["kind"] = "method"
    spec = plan.members(config, plan.open_faces(config), "overhead")[0].spec
    trials = [
        {"spec": replace(spec, learning_rate=spec.learning_rate + i * 1e-6).json(), "index": i} for i in range(count)
    ]
    ends: list[float] = []
    with engine.cluster(config):
        start = time.perf_counter()
        with Display("overhead", count, "test_accuracy") as display:
            spool = Spool(Store(folder / "tables"), "overhead")
            engine.run(config, spool, display, "test_accuracy", {"git_commit": None, "git_dirty": None},
                       lambda row: ends.append(time.perf_counter() - start), Planned(trials), worker=IdleWorker)  # fmt: skip
    return ends


def theirs(count: int, folder: Path) -> list[float]:
    """End times of the peer's trials."""
    with engine.cluster(load([])):
        clock = Clock()
        run = tune.RunConfig(storage_path=str(folder / "peer"), callbacks=[clock], verbose=0)
        resources = tune.with_resources(plain, {"cpu": 1})
        tune.Tuner(resources, param_space={"i": tune.grid_search(list(range(count)))}, run_config=run).fit()
    return clock.ends


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30)
    count = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        rows = {"warm workers": ours(count, Path(folder)), "Tune function, no actor reuse": theirs(count, Path(folder))}
    print(f"{count} trials that train nothing; {platform.machine()}, Python {platform.python_version()}\n")
    print("| | seconds a trial | once warm |\n|---|---:|---:|")
    figures = {name: (ends[-1] / count, (ends[-1] - ends[0]) / (count - 1)) for name, ends in rows.items()}
    for name, (whole, warm) in figures.items():
        print(f"| {name} | {whole:.3f} | {warm:.3f} |")
    (whole, warm), (peer_whole, peer_warm) = figures.values()
    print(f"| ratio | {whole / peer_whole:.3f} | {warm / peer_warm:.3f} |")


if __name__ == "__main__":
    main()
