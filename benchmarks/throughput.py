"""One study of 24 trials, from the command to its end: ours, plain Ray Tune, and Optuna alone.

    python benchmarks/throughput.py

The same for all: drawn faces and their split (30 % of the training subjects validate), ResNet-18 with the head of the method `softmax`,
cross-entropy, Adam, batches of 32, the augmentation `light`, the same epochs, and the same grid of 24 configurations (12 learning rates,
with and without cosine schedule). Every trial ends each epoch with its accuracy on the validation subjects. Each is a process of its own,
timed from its start to its end, on files that the system has cached.

- `ours` is what `python study/run.py --search` does, with plan, early stopping as by default (ASHA), checkpoints, evaluation, rows
  synced to disk, and report, and its step is as tuned: channels last, fused Adam, memory that malloc keeps. The faces are built before
  the clock runs, as the peers' files are. `ours, first rung later` lets every trial have twice as many epochs before it may be stopped,
  and `ours, unstopped` trains every trial to its end.
- The peers read the faces as they mostly come, a PNG file each in a folder a class: torchvision's ImageFolder and transforms, image by
  image, and a DataLoader. `tune` is a plain Tune function as in Ray's examples, one CPU a trial, as many at a time as there are CPUs;
  `optuna` optimises trial after trial with all CPUs. Neither stops a trial. `tune, asha` is the former with Tune's own scheduler, of the
  same rungs as ours. Each is run with every number of loader processes that is asked for.

Printed are the seconds, the best last validation accuracy among the trials that were trained to their end, its standard error,
sqrt(p (1 - p) / images), and what a row takes over the first. Of several seeds, each a study on faces of other people, the means, with
the standard error of the mean, and each one's.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

RATES = [round(10 ** (-4 + 0.15 * place), 6) for place in range(12)]
SCHEDULES = ["cosine", "constant"]
BATCH, TRIALS = 32, len(RATES) * len(SCHEDULES)
GRACE, REDUCTION = 2, 3  # The defaults of study/conf/search.


def training(config: dict[str, Any], folder: str, epochs: int, loaders: int) -> Iterator[float]:
    """The peers' trial: the validation accuracy of each epoch."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder
    from torchvision.models import resnet18

    standardize = transforms.Lambda(_standardized)
    moved = [transforms.RandomAffine(0, translate=(1 / 16, 1 / 16)), transforms.RandomHorizontalFlip()]
    views = {"train": [*moved, transforms.ToTensor(), standardize], "validation": [transforms.ToTensor(), standardize]}
    faces = {part: ImageFolder(f"{folder}/{part}", transforms.Compose(view)) for part, view in views.items()}
    torch.manual_seed(0)
    network = resnet18(weights=None)
    network.fc = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 7))
    optimizer = torch.optim.Adam(network.parameters(), lr=config["learning_rate"])
    train = DataLoader(faces["train"], BATCH, shuffle=True, num_workers=loaders)
    held_out = DataLoader(faces["validation"], 256, num_workers=loaders)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))
    for _ in range(epochs):
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            if config["schedule"] == "cosine":
                schedule.step()
        network.eval()
        with torch.no_grad():
            right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in held_out)
        yield right / len(faces["validation"])


def _standardized(image: Any) -> Any:
    return (image - image.mean((1, 2), keepdim=True)) / image.std((1, 2), keepdim=True, correction=0).clamp_min(1e-5)


def tuned(folder: str, epochs: int, loaders: int, stopping: bool = False) -> float:
    """Plain Ray Tune, with its own ASHA if trials are to be stopped; the best last accuracy."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    def trial(config: dict[str, Any]) -> None:
        for accuracy in training(config["point"], folder, epochs, loaders):
            tune.report({"accuracy": accuracy})

    rungs = {"max_t": epochs, "grace_period": GRACE, "reduction_factor": REDUCTION}
    scheduler = ASHAScheduler("training_iteration", "accuracy", "max", **rungs) if stopping else None
    ray.init(include_dashboard=False, log_to_driver=False)
    # In no order, as ours: what a scheduler stops depends on who came before.
    grid = [{"learning_rate": rate, "schedule": schedule} for rate, schedule in product(RATES, SCHEDULES)]
    random.Random(0).shuffle(grid)
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={"point": tune.grid_search(grid)},
            tune_config=tune.TuneConfig(scheduler=scheduler),
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        )
        found = [result.metrics["accuracy"] for result in tuner.fit() if result.metrics["training_iteration"] == epochs]
    ray.shutdown()
    return max(found)


def optimized(folder: str, epochs: int, loaders: int) -> float:
    """Optuna alone; the best last accuracy."""
    import optuna

    def objective(trial: Any) -> float:
        rate, schedule = (
            trial.suggest_categorical("learning_rate", RATES),
            trial.suggest_categorical("schedule", SCHEDULES),
        )
        *_, last = training({"learning_rate": rate, "schedule": schedule}, folder, epochs, loaders)
        return last

    sampler = optuna.samplers.GridSampler({"learning_rate": RATES, "schedule": SCHEDULES})
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=TRIALS)
    return float(study.best_value)


PEERS: dict[str, Callable[[str, int, int], float]] = {
    "tune": tuned,
    "optuna": optimized,
    "tune, asha": partial(tuned, stopping=True),
}
# Epochs before a trial may be stopped.
OURS = {"ours": GRACE, "ours, first rung later": 2 * GRACE, "ours, unstopped": None}


def configured(folder: str, seed: int, subjects: int, side: int, epochs: int, grace: int | None) -> dict[str, Any]:
    """Ours, as the command line would compose it, but for the space, which it takes from a file."""
    from study.config import load

    overrides = [f"dataset.cache={folder}/cache", f"dataset.subjects={subjects}", f"dataset.seed={seed}"]
    overrides += [f"image_size={side}", f"epochs={epochs}", f"batch_size={BATCH}", "method=softmax", "study=throughput"]
    overrides += [f"search.trials={TRIALS}", "search.sampler=grid", f"search.reduction={REDUCTION}"]
    overrides += [f"search.grace={grace or epochs}", f"storage.root={folder}/tables-{grace}"]
    overrides += ["protocol.validation_fraction=0.3"]
    config = load(overrides) | {"kind": "search", "overrides": overrides}
    config["search"]["space"]["common"] = {"learning_rate": RATES, "schedule": SCHEDULES}
    return config


def searched(folder: str, seed: int, subjects: int, side: int, epochs: int, grace: int | None) -> float:
    """Ours: what `python study/run.py --search` does, from its checks to its report; the best accuracy."""
    from rich.console import Console

    from results import Store
    from study import conduct
    from study.outlook import look_ahead
    from study.report import best_value, report

    config, console = configured(folder, seed, subjects, side, epochs, grace), Console(stderr=True)
    study = conduct.prepare(config, Store(config["storage"]["root"]))
    conduct.show_plan(study, console)
    conduct.carry_out(study, look_ahead(study, console, probe=False))
    if report(study, console) or len(study.new) != TRIALS:
        raise SystemExit(f"Expected {TRIALS} trials to be trained, found {len(study.new)}.")
    return float(best_value(study) or 0)


def prepare(folder: str, seed: int, subjects: int, side: int, epochs: int) -> int:
    """Build our faces and the peers' files, the same pixels; the number of validation images."""
    from PIL import Image

    from datasets.splits import split_fold
    from study import plan

    config = configured(folder, seed, subjects, side, epochs, None)
    faces = plan.open_faces(config)
    fraction = config["protocol"]["validation_fraction"]
    split = split_fold(faces, fold=0, folds=config["folds"], validation_fraction=fraction)
    for part in ("train", "validation"):
        for place in getattr(split, part):
            of_class = Path(folder, part, faces.classes[faces.labels[place]])
            of_class.mkdir(parents=True, exist_ok=True)
            Image.fromarray(faces.images[place]).save(of_class / f"{place}.png")
    return len(split.validation)


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds of a process of Python, and the number that it prints last."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start, float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the drawn people: a study each")
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--loaders", type=int, nargs="+", default=[0], help="processes of the peers' DataLoader")
    parser.add_argument("--rows", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--only", choices=[*PEERS, *OURS], help="run one alone")
    parser.add_argument("--folder", help="of its files")
    asked = parser.parse_args()
    size = asked.subjects, asked.side, asked.epochs
    if asked.only:
        if asked.only in OURS:
            best = searched(asked.folder, asked.seeds[0], *size, OURS[asked.only])
        else:
            best = PEERS[asked.only](asked.folder, asked.epochs, asked.loaders[0])
        print(best, flush=True)
        return
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
            images = prepare(folder, seed, *size)
            of_size = map(str, ("--subjects", size[0], "--side", size[1], "--epochs", size[2], "--seeds", seed))
            same = [__file__, "--folder", folder, *of_size]
            for name, loaders in [*product(OURS, [0]), *product(PEERS, asked.loaders)]:
                if name in asked.rows:
                    one = timed([*same, "--only", name, "--loaders", str(loaders)])
                    found.setdefault((name, loaders), []).append(one)
                    print(
                        f"seed {seed}, {name}, {loaders} loaders: {one[0]:.1f} s, {one[1]:.3f}",
                        file=sys.stderr,
                        flush=True,
                    )
    print(
        f"{TRIALS} trials of {asked.epochs} epochs, {images} validation images of {asked.side} pixels, studies of seeds {asked.seeds}; "
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n"
    )
    print("| | loader processes | seconds | best validation accuracy | standard error | over the first |")
    print("|---|---:|---:|---:|---:|---:|")
    [first, *_] = [sum(seconds for seconds, _ in studies) for studies in found.values()]
    for (name, loaders), studies in found.items():
        seconds, bests = zip(*studies, strict=True)
        mean = statistics.mean(bests)
        error = math.sqrt(mean * (1 - mean) / images / len(studies))
        each = [", ".join(f"{one:{form}}" for one in of) for of, form in ((seconds, ".0f"), (bests, ".3f"))]
        print(
            f"| {name} | {loaders} | {statistics.mean(seconds):.1f} ({each[0]}) | {mean:.3f} ({each[1]}) | {error:.3f} "
            f"| {sum(seconds) / first:.2f} |"
        )


if __name__ == "__main__":
    main()
