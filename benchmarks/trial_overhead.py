"""What a trial costs beside its training: our warm workers against plain Tune, without and with reuse of actors.

    python benchmarks/trial_overhead.py

Trials that train nothing. Ours: a warm worker opens the data set's split, builds a fresh ResNet-18 with the Mul-DML head and its
augmentation, reports, and commits the trial's rows to the store, synced to disk. The peers import torch and kornia, build a ResNet-18 and
report; they store nothing: a Tune function without reuse of actors, as Tune runs it unless told otherwise, and a Tune class with it. One
run of each in turn, each on a local Ray of its own. "seconds a trial" is the whole wall time, start of the workers included, over the
trials; "once warm" is the time from the first trial's end to the last one's, over the trials between.
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


class Reused(tune.Trainable):
    """The trial of the peer whose actors are reused."""

    def setup(self, config: dict[str, Any]) -> None:
        """Once an actor."""
        self.config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial."""
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Build and report."""
        import kornia
        import torchvision

        torchvision.models.resnet18(weights=None)
        return {"metric": float(self.config["i"]), "kornia": kornia.__version__, "done": True}


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


def theirs(count: int, folder: Path, trainable: Any, reuse: bool) -> list[float]:
    """End times of a peer's trials."""
    with engine.cluster(load([])):
        clock = Clock()
        kept = tune.CheckpointConfig(checkpoint_at_end=False)
        run = tune.RunConfig(storage_path=str(folder), callbacks=[clock], verbose=0, checkpoint_config=kept)
        resources = tune.with_resources(trainable, {"cpu": 1})
        space = {"i": tune.grid_search(list(range(count)))}
        options = tune.TuneConfig(reuse_actors=reuse)
        found = tune.Tuner(resources, param_space=space, run_config=run, tune_config=options).fit()
    if found.errors:
        raise found.errors[0]
    return clock.ends


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--slow-trials", type=int, default=20, help="of the peer that reuses nothing")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ends = {
            "warm workers": ours(asked.trials, Path(folder)),
            "Tune class, actors reused": theirs(asked.trials, Path(folder) / "reused", Reused, True),
            "Tune function, none reused": theirs(asked.slow_trials, Path(folder) / "plain", plain, False),
        }
    print(f"Trials that train nothing; {platform.machine()}, Python {platform.python_version()}\n")
    print(
        "| | trials | seconds a trial | once warm | over ours | over ours, once warm |\n|---|---:|---:|---:|---:|---:|"
    )
    taken = {name: (times[-1] / len(times), (times[-1] - times[0]) / (len(times) - 1)) for name, times in ends.items()}
    own = taken["warm workers"]
    for name, (whole, warm) in taken.items():
        print(f"| {name} | {len(ends[name])} | {whole:.4f} | {warm:.4f} | {whole / own[0]:.1f} | {warm / own[1]:.1f} |")


if __name__ == "__main__":
    main()
