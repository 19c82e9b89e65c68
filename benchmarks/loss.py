"""Our batched triplet loss against a loop of pytorch-metric-learning over the slices.

    python benchmarks/loss.py

Both mine batch-hard on L2-normalised slices and return the mean over valid anchors; their values are checked against each other before
timing. Measured: forward and backward, float32, one CPU thread (or the GPU where there is one), the two in turn, median and
interquartile range of the repeats. Prints a Markdown table and the machine; a ratio below 1 says that ours takes less time.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from mdml.losses import batch_hard_triplet
from mdml.losses.triplet import Form

SLICES = (1, 7, 13, 32, 64)


def peer(thresholds: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The same loss as a loop: one miner, and one TripletMarginLoss a slice, made beforehand."""
    distance = LpDistance(normalize_embeddings=True)
    miner = BatchHardMiner(distance=distance)
    losses = [TripletMarginLoss(margin=tau, distance=distance, reducer=MeanReducer()) for tau in thresholds.tolist()]

    def loss(slices: Tensor, labels: Tensor, thresholds: Tensor) -> Tensor:
        each = zip(losses, slices, strict=True)
        return torch.stack([triplet(embeddings, labels, miner(embeddings, labels)) for triplet, embeddings in each])

    return loss


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=256, help="of one slice")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    print(
        f"Batch {arguments.batch}, {arguments.width} units a slice, 7 classes, {device.type} ({machine}), torch {torch.__version__}"
    )
    print("\n| slices | form | ours, ms | loop of pytorch-metric-learning, ms | ratio |\n|---:|---|---:|---:|---:|")
    for count in SLICES:
        slices = torch.randn(count, arguments.batch, arguments.width, device=device, requires_grad=True)
        labels = torch.randint(0, 7, (arguments.batch,), device=device)
        thresholds = torch.linspace(0.15, 0.75, count, device=device)
        loop = peer(thresholds)
        torch.testing.assert_close(batch_hard_triplet(slices, labels, thresholds), loop(slices, labels, thresholds))
        theirs: list[float] = []
        ours: dict[Form, list[float]] = {"conventional": [], "dual": []}
        for _ in range(arguments.repeats):
            theirs.append(_time(loop, slices, labels, thresholds))
            for form, times in ours.items():
                times.append(_time(partial(batch_hard_triplet, form=form), slices, labels, thresholds))
        for form, times in ours.items():
            ratio = statistics.median(a / b for a, b in zip(times, theirs, strict=True))
            print(f"| {count} | {form} | {_text(times)} | {_text(theirs)} | {ratio:.2f} |")
    print("\nThe loop has the conventional form alone: the dual form is compared with that.")


def _time(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], slices: Tensor, labels: Tensor, thresholds: Tensor
) -> float:
    """Milliseconds of a forward and backward pass."""
    slices.grad = None
    if slices.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    loss(slices, labels, thresholds).mean().backward()
    if slices.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def _text(times: list[float]) -> str:
    low, _, high = statistics.quantiles(times, n=4)
    return f"{statistics.median(times):.2f} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
