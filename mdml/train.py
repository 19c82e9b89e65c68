"""The training loop: a generator of epoch records that never learns who called it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml import evaluation
from mdml.augmentation import augmentation
from mdml.diagnostics import RATES, class_distances, spread
from mdml.errors import MethodError
from mdml.methods import Method, StepLoss
from mdml.models import Network, build_trunk
from mdml.sampling import SAMPLERS, batches

# Raised whenever a change of the shared loop, trunk, augmentation or evaluation changes the numbers of every method.
NUMERICS = 1


class TrainingError(RuntimeError):
    """A training that cannot go on, such as one whose loss is no longer finite."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, the same for every arm of a study.

    Args:
        epochs: passes over the training set.
        batch_size: images a step.
        learning_rate: of Adam (0.9, 0.999, 1e-8), at its peak.
        schedule: "constant" (the paper's) or "cosine" to 0 over all steps.
        sampler: "shuffle" or "balanced".
        augmentation: name of an augmentation.

    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str = "constant"
    sampler: str = "shuffle"
    augmentation: str = "light"

    def __post_init__(self) -> None:
        augmentation(self.augmentation)
        for name, least in (("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise MethodError(f"{name} must be at least {least}, found {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise MethodError(f"learning_rate must be positive and finite, found {self.learning_rate}.")
        if self.schedule not in ("constant", "cosine"):
            raise MethodError(f"schedule must be constant or cosine, found {self.schedule}.")
        if self.sampler not in SAMPLERS:
            raise MethodError(f"sampler must be {' or '.join(SAMPLERS)}, found {self.sampler}.")


def derived_seed(*parts: object) -> int:
    """A seed of 63 bits that depends on all parts and is the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def build_network(
    method: Method, backbone: str, weights: str | None, channels: int, classes: int, seed: int, device: torch.device
) -> Network:
    """A fresh network whose start depends on the seed alone; all methods share the trunk's start."""
    trunk, features = build_trunk(backbone, channels, weights, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("head", seed))
        head = method.head(features, classes)
    return Network(trunk, head).to(memory_format=torch.channels_last).to(device)


def train(
    network: Network,
    method: Method,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    index: Tensor,
    watch: Mapping[str, Tensor],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Train, and yield one record an epoch; the network is then the one of that epoch.

    Args:
        network: on the device of images; trained in place.
        method: gives the loss.
        recipe: how.
        images: (N, C, S, S) uint8.
        labels: (N,) int64, on the same device.
        index: (M,) int64 on the host, the samples to train on.
        watch: name -> (K,) int64, sets to evaluate after every epoch without learning from them.
        seed: of the order, the augmentation and the dropout: all methods of one seed meet the same images in the same order.

    Yields:
        dict of epoch (from 1), train_loss, classification_loss, metric_loss (None without one), train_accuracy,
        training_seconds, seconds (with the watched sets), NAME_loss, NAME_accuracy, NAME_balanced_accuracy for each watched
        set, and `slices`: a list of one dict a slice.

    Raises:
        TrainingError: when a loss is not finite.
        MethodError: for fewer than two images, on which neither batch normalisation nor a triplet is defined.

    """
    if len(index) < 2:
        raise MethodError(f"Training needs at least 2 images, found {len(index)}: use fewer folds or more faces.")
    device, view = images.device, augmentation(recipe.augmentation)
    order = torch.Generator().manual_seed(derived_seed("order", seed))
    warps = torch.Generator().manual_seed(derived_seed("augmentation", seed))
    torch.manual_seed(derived_seed("dropout", seed))
    host_labels = labels[index.to(device)].cpu()
    steps = sum(1 for _ in batches(host_labels, recipe.batch_size, "shuffle", torch.Generator()))
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    horizon = recipe.epochs * steps
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, horizon) if recipe.schedule == "cosine" else None
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        network.train()
        totals = _Totals(method, device)
        for batch in batches(host_labels, recipe.batch_size, recipe.sampler, order):
            chosen = index[batch].to(device, non_blocking=True)
            inputs, truth = view.train(images[chosen], warps), labels[chosen]
            with evaluation.mixed_precision(device):
                output = network(inputs.contiguous(memory_format=torch.channels_last))
                loss = method.loss(output, truth)
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            if cosine is not None:
                cosine.step()
            totals.add(loss, output.logits, output.slices, truth)
        record = totals.record(epoch) | {"training_seconds": time.perf_counter() - start}
        for name, members in watch.items():
            record |= _judge(name, evaluation.embed(network, images, labels, members, view), record["slices"])
        yield record | {"seconds": time.perf_counter() - start}


class _Totals:
    """Sums over the steps of an epoch, kept on the device: the step never waits for the host."""

    def __init__(self, method: Method, device: torch.device) -> None:
        self.layout = method.layout
        self.scalars = torch.zeros(4, device=device)  # total loss, cross-entropy, right answers, images
        self.slices = torch.zeros(2, self.layout.slices, device=device)  # metric loss, spread
        self.rates = torch.zeros(len(RATES) + 1, self.layout.slices, device=device)

    @torch.no_grad()
    def add(self, loss: StepLoss, logits: Tensor, slices: Tensor, labels: Tensor) -> None:
        images = len(labels)
        right = (logits.argmax(1) == labels).sum()
        self.scalars += torch.stack(
            [loss.total.detach() * images, loss.classification * images, right, torch.full_like(right, images)]
        )
        metric = loss.metric if loss.metric is not None else torch.zeros_like(self.slices[0])
        self.slices += torch.stack([metric, spread(slices)]) * images
        if loss.rates is not None:
            self.rates += loss.rates

    def record(self, epoch: int) -> dict[str, Any]:
        total, cross_entropy, right, images = self.scalars.tolist()
        if not (math.isfinite(total) and math.isfinite(cross_entropy)):
            raise TrainingError(f"The loss is not finite in epoch {epoch}.")
        metric, spreads = (self.slices / images).tolist()
        has_metric = bool(self.layout.thresholds)
        sums, valid = self.rates[:-1].tolist(), self.rates[-1].tolist()
        slices = []
        for i in range(self.layout.slices):
            row: dict[str, Any] = {"epoch": epoch, "slice": i, "spread": spreads[i]}
            if has_metric:
                row |= {"threshold": self.layout.thresholds[i], "metric_loss": metric[i]}
                row |= {rate: sums[r][i] / valid[i] if valid[i] else None for r, rate in enumerate(RATES)}
            slices.append(row)
        return {
            "epoch": epoch,
            "train_loss": total / images,
            "classification_loss": cross_entropy / images,
            "metric_loss": sum(metric) / len(metric) if has_metric else None,
            "train_accuracy": right / images,
            "slices": slices,
        }


def _judge(name: str, embedded: evaluation.Embedded, slices: list[dict[str, Any]]) -> dict[str, Any]:
    """Scores of a watched set; the class distances of its slices are written into the slice rows."""
    counts = evaluation.confusion(embedded.logits.argmax(1), embedded.labels, embedded.logits.shape[1])
    inter, intra = class_distances(embedded.slices, embedded.labels)
    for row, between, within in zip(slices, inter.tolist(), intra.tolist(), strict=True):
        row |= {"inter_distance": between, "intra_distance": within}
    return {
        f"{name}_loss": F.cross_entropy(embedded.logits, embedded.labels).item(),
        f"{name}_accuracy": evaluation.accuracy(counts),
        f"{name}_balanced_accuracy": evaluation.balanced_accuracy(counts),
    }
