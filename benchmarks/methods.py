"""What the loss of every method costs: over a training step, and against pytorch-metric-learning.

    python benchmarks/methods.py

First table: forward and backward of the loss, from the output of the head to the gradients of it, over a training step of ResNet-18 with
cross-entropy alone (forward, backward, Adam) at 48, 112 and 224 pixels, all on as many images. A method with companions has the fewer
queries. Target: below 15 % of the step. Second table: losses that pytorch-metric-learning has too, forward and backward from the
embedding, in the form that the note says; where the two are the same, their values are checked against each other first. Target: a ratio
below 1.25. Float32, two CPU threads (or the GPU where there is one), all arms in turn in each repeat, medians and quartiles.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import DotProductSimilarity, LpDistance
from pytorch_metric_learning.losses import ArcFaceLoss, CircleLoss, ContrastiveLoss, NPairsLoss
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import Tensor

from mdml.losses import arcface_logits, circle, class_cosines, contrastive, npair
from mdml.losses.triplet import normalize_slices
from mdml.methods import Method, make_method, method_names
from mdml.session import TrainingSet
from mdml.train import build_network

CLASSES, WIDTH, FEATURES = 7, 256, 512
SIDES = (48, 112, 224)
# Calls of a loss within one measurement, since one alone is near the resolution of the machine's noise.
CALLS = 5
Arm = Callable[[], object]


class Rivals(NamedTuple):
    """A loss of ours and the peer's, of (B, WIDTH) embeddings and (B,) labels; `same` says that their values are equal."""

    ours: Callable[[Tensor, Tensor], Tensor]
    theirs: Callable[[Tensor, Tensor], Tensor]
    labels: Tensor
    same: bool
    note: str


def rivals(batch: int, device: torch.device) -> dict[str, Rivals]:
    """The losses that both have."""
    classes = torch.arange(batch, device=device) % CLASSES
    pairs = torch.arange(batch, device=device) // 2
    terms = ContrastiveLoss(distance=LpDistance(), reducer=DoNothingReducer())
    product = DotProductSimilarity(normalize_embeddings=False)
    arc = ArcFaceLoss(CLASSES, WIDTH, margin=math.degrees(0.5), scale=64).to(device)

    def squared_terms(embeddings: Tensor, labels: Tensor) -> Tensor:
        found = terms(embeddings, labels)
        return sum(part["losses"].square().sum() for part in found.values()) / (2 * batch * (batch - 1))

    def ours_arcface(embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(arcface_logits(class_cosines(embeddings, arc.W.T), labels), labels)

    normalized = "its terms, squared and halved, mean over all pairs"
    return {
        "contrastive": Rivals(
            lambda e, y: contrastive(normalize_slices(e), y), squared_terms, classes, True, normalized
        ),
        "npair, 2 a class": Rivals(
            partial(npair, regularization=0), NPairsLoss(distance=product), pairs, True, "the same"
        ),
        "npair, 7 classes": Rivals(
            partial(npair, regularization=0),
            NPairsLoss(distance=product),
            classes,
            False,
            "theirs has one pair a class",
        ),
        "circle, original": Rivals(
            partial(circle, form="original"), CircleLoss(0.25, 256), classes, False, "theirs is the mean over anchors"
        ),
        "circle, batch": Rivals(
            partial(circle, form="batch"), CircleLoss(0.25, 32), classes, False, "theirs is the mean over anchors"
        ),
        "arcface": Rivals(ours_arcface, arc, classes, True, "the same"),
    }


def companions(method: Method) -> int:
    """How many images go with a query: two of every person and class train, so that any rule finds some."""
    index = torch.arange(2 * CLASSES * 4)
    images = torch.zeros(len(index), 1, 64, 64, dtype=torch.uint8)
    training = TrainingSet(images, index % CLASSES, index // (2 * CLASSES), index, CLASSES, 0, 0)
    found = method.session(training).companions
    return 0 if found is None else found.per_query


def loss_arm(method: Method, batch: int, device: torch.device) -> Arm:
    """The loss of a method and its gradient with respect to all that the head gives."""
    together = 1 + companions(method)
    rows = batch - batch % together
    head = method.head(FEATURES, CLASSES).to(device)
    output = head(torch.randn(rows, FEATURES, device=device))
    leaves = output._replace(**{name: _leaf(part) for name, part in output._asdict().items()})
    labels = torch.arange(rows, device=device) % CLASSES

    def arm() -> None:
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                leaf.grad = None
        method.loss(leaves, labels).total.backward()

    return arm


def step_arm(side: int, batch: int, device: torch.device) -> Arm:
    """A training step of ResNet-18 with cross-entropy alone."""
    method = make_method("softmax", {})
    network = build_network(method, "resnet18", None, 3, CLASSES, 0, device).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    images = torch.randn(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) % CLASSES

    def arm() -> None:
        optimizer.zero_grad()
        method.loss(network(images), labels).total.backward()
        optimizer.step()

    return arm


def rival_arms(pair: Rivals, device: torch.device) -> tuple[Arm, Arm]:
    """Ours and theirs, checked against each other where they are the same."""
    embeddings = torch.randn(len(pair.labels), WIDTH, device=device, requires_grad=True)
    if pair.same:
        torch.testing.assert_close(pair.ours(embeddings, pair.labels), pair.theirs(embeddings, pair.labels))

    def arm(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        embeddings.grad = None
        loss(embeddings, pair.labels).backward()

    return partial(arm, pair.ours), partial(arm, pair.theirs)


def measure(arms: dict[str, Arm], repeats: int, calls: dict[str, int]) -> dict[str, list[float]]:
    """Milliseconds of a call, a number a repeat; the arms in turn, each called as often as `calls` says in a row."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm()
    for _ in range(repeats):
        for name, arm in arms.items():
            _wait()
            start = time.perf_counter()
            for _ in range(calls[name]):
                arm()
            _wait()
            times[name].append((time.perf_counter() - start) * 1e3 / calls[name])
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    print(
        f"{arguments.batch} images, {WIDTH} units a slice, {CLASSES} classes, float32, {device.type} ({machine}), torch {torch.__version__}"
    )
    methods = {name: loss_arm(make_method(name, {}), arguments.batch, device) for name in method_names()}
    # The activations of a step at 224 pixels take gigabytes, but none stay once it is done.
    steps = {f"step at {side}": step_arm(side, arguments.batch, device) for side in SIDES}
    calls = dict.fromkeys(methods, CALLS) | dict.fromkeys(steps, 1)
    times = measure(methods | steps, arguments.repeats, calls)
    print("\n| method | loss, ms |" + "".join(f" of the {step} |" for step in steps))
    print("|---|---:|" + "---:|" * len(steps))
    for name in methods:
        shares = "".join(f" {statistics.median(times[name]) / statistics.median(times[step]):.2%} |" for step in steps)
        print(f"| {name} | {_text(times[name])} |{shares}")
    print("| the step itself, ms | |" + "".join(f" {_text(times[step])} |" for step in steps))

    print("\n| loss | ours, ms | pytorch-metric-learning, ms | ratio | its form |\n|---|---:|---:|---:|---|")
    for name, pair in rivals(arguments.batch, device).items():
        ours, theirs = rival_arms(pair, device)
        found = measure({"ours": ours, "theirs": theirs}, 3 * arguments.repeats, {"ours": CALLS, "theirs": CALLS})
        ratio = statistics.median(a / b for a, b in zip(found["ours"], found["theirs"], strict=True))
        print(f"| {name} | {_text(found['ours'])} | {_text(found['theirs'])} | {ratio:.2f} | {pair.note} |")


def _leaf(part: object) -> object:
    return part.detach().clone().requires_grad_() if isinstance(part, Tensor) and part.is_floating_point() else part


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _text(times: list[float]) -> str:
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return f"{statistics.median(times):.2f} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
