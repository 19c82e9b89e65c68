"""Our training step against a bare PyTorch loop, and what a trial costs beside its steps.

    python benchmarks/train_step.py

The step: ResNet-18, drawn faces of 64 pixels on the device, the augmentation `light`, Adam, cross-entropy, batches of 32. The peer is the
loop that one would write without us, with the same network, faces and augmentation, and none of our records. Epochs of the two take
turns; on a CPU the process's own time is taken, with one thread, since other processes may be at work; on a GPU the wall time up to when
it is idle. Printed: the median of each and of the ratios of neighbours, with the quartiles of these.

The trial: a warm worker, in this process, does everything that it does for a trial of ResNet-18 with the Mul-DML head but train and
evaluate: the fresh network, the sealed test fold, the loop with its optimiser, the rows, the commit with its syncs to disk. CPU time, and
the wall time beside it.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import open_dataset
from mdml.augmentation import augmentation
from mdml.methods import make_method
from mdml.models import Network
from mdml.train import Recipe, Training, build_network
from results import Store
from study import plan
from study.config import load
from study.trial import Trial
from study.worker import Worker

BATCH, SIDE, RATE = 32, 64, 1e-3


def bare(network: Network, images: Tensor, labels: Tensor, view: str) -> Iterator[None]:
    """The peer: an epoch each time."""
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    augment, generator = augmentation(view).train, torch.Generator().manual_seed(0)
    half = images.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    while True:
        network.train()
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            chosen = batch.to(images.device)
            inputs = augment(images[chosen], generator)
            with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
                logits = network(inputs.contiguous(memory_format=torch.channels_last)).logits
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), labels[chosen]).backward()
            optimizer.step()
        yield


def steps(count: int, repeats: int, device: torch.device, folder: str) -> tuple[list[float], list[float]]:
    """Seconds a step of ours and of the peer's, in turn."""
    faces = open_dataset(
        "synthetic", image_size=SIDE, channels=3, cache=Path(folder), subjects=count // 14, per_class=2
    )
    images = torch.from_numpy(faces.images[:count].copy()).permute(0, 3, 1, 2).to(device)
    labels = torch.tensor(faces.labels[:count], device=device)
    method = make_method("softmax", {})
    networks = [build_network(method, "resnet18", None, 3, len(faces.classes), 0, device) for _ in range(2)]
    recipe = Recipe(repeats + 2, BATCH, RATE)
    ours = iter(Training(networks[0], method, recipe, images, labels, torch.arange(len(images)), {}, 0))
    theirs = bare(networks[1], images, labels, recipe.augmentation)
    each = -(-len(images) // BATCH)
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 2):
        # Who is first changes, so that nobody always finds the other's caches.
        for i, epochs in ((0, ours), (1, theirs)) if turn % 2 else ((1, theirs), (0, ours)):
            found[i].append(timed(lambda epochs=epochs: next(epochs), device) / each)  # type: ignore[misc]
    return found[0][2:], found[1][2:]


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds: of this process on a CPU, else until the GPU is idle."""
    if device.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def trials(count: int, folder: Path) -> dict[str, tuple[list[float], list[float]]]:
    """CPU and wall seconds of the parts of each trial."""
    tiny = ["dataset.subjects=6", "dataset.per_class=1", f"image_size={SIDE}", "folds=2", "method=mul_dml"]
    config = load([*tiny, f"dataset.cache={folder}/cache", f"storage.root={folder}/tables"])
    config["kind"] = "method"
    spec = plan.members(config, plan.open_faces(config), "cost")[0].spec
    specs = [replace(spec, learning_rate=RATE + i * 1e-6) for i in range(count)]
    worker = Worker.__new__(Worker)
    asked = [{"trial": {"spec": one.json(), "index": i, "share": 0.0}} for i, one in enumerate(specs)]
    worker.setup(asked[0], {
        "store_root": f"{folder}/tables", "cache": f"{folder}/cache", "cpus": 1, "metric": "val_accuracy",
        "code": {"git_commit": None, "git_dirty": None}, "checkpoint": config["checkpoint"], "lease": None,
    })  # fmt: skip
    held: list[Trial] = []
    store, found = Store(f"{folder}/tables"), dict[str, tuple[list[float], list[float]]]()

    def part(name: str, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        cpus, walls = found.setdefault(name, ([], []))
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)

    def prepare() -> None:
        held.append(worker._prepare())

    def loop() -> None:
        # The optimiser makes its state in its first step, which is training.
        [trial] = held
        index = torch.from_numpy(trial.split.train)
        Training(trial.network, trial.method, trial.spec.recipe(), trial.faces.images, trial.faces.labels, index, {}, 0)

    for one, config_of in zip(specs, asked, strict=True):
        held.clear()
        part("let go of the last trial", lambda config_of=config_of: worker.reset_config(config_of))  # type: ignore[misc]
        part("network, sealed fold", prepare)
        part("loop, optimiser", loop)
        part("row", lambda: held[0].row("done"))
        row = held[0].row("done")
        part("commit", lambda one=one, row=row: store.commit(one.key, {"trials": [row]}))  # type: ignore[misc]
    return {name: (cpus[2:], walls[2:]) for name, (cpus, walls) in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=112)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--trials", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"ResNet-18, {SIDE} pixels, batches of {BATCH}; {machine}, torch {torch.__version__}\n")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = steps(arguments.images, arguments.repeats, device, folder)
        ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4)
        print("| | ms a step |\n|---|---:|")
        print(
            f"| ours | {1000 * statistics.median(ours):.1f} |\n| bare loop | {1000 * statistics.median(theirs):.1f} |"
        )
        print(f"| ratio (quartiles) | {middle:.3f} ({low:.3f} to {high:.3f}) |\n")
        parts = trials(arguments.trials, Path(folder))
    print("| of a warm trial, beside training | CPU ms | wall ms |\n|---|---:|---:|")
    for name, (cpus, walls) in parts.items():
        print(f"| {name} | {1000 * statistics.median(cpus):.1f} | {1000 * statistics.median(walls):.1f} |")
    whole = [[sum(each) for each in zip(*(part[i] for part in parts.values()), strict=True)] for i in range(2)]
    cpu, wall = (1000 * statistics.median(each) for each in whole)
    early, late = (
        1000 * statistics.median(each) for each in (whole[0][: len(whole[0]) // 3], whole[0][-(len(whole[0]) // 3) :])
    )
    print(
        f"| all | {cpu:.1f} | {wall:.1f} |\n\nThe first third of the trials: {early:.1f} CPU ms each, the last: {late:.1f}."
    )


if __name__ == "__main__":
    main()
