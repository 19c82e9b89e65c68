"""The training loop: it yields epoch records, can be cut between epochs, and never learns who called it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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
from mdml.schedule import SCHEDULES, Schedule
from mdml.session import Session, TrainingSet

# Raised whenever a change of the shared loop, trunk, augmentation or evaluation changes the numbers of every method.
NUMERICS = 1
# What is left to chance, each part with a generator of its own on the host.
CHANCES = ("order", "augmentation", "companions' augmentation", "companions")

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,  # 0.9, 0.999, 1e-8, as in the public code of Yang et al. 2024
    "amsgrad": partial(torch.optim.Adam, amsgrad=True),  # as in the public code of Marrero-Fernandez et al. 2020
    "sgd": partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-4),  # Liu et al. 2019
}


class TrainingError(RuntimeError):
    """A training that cannot go on, such as one whose loss is no longer finite."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, the same for every arm of a study.

    Args:
        epochs: passes over the training set.
        batch_size: training images a step; what a method adds to them as companions comes on top.
        learning_rate: at its peak.
        schedule: one of mdml.schedule.SCHEDULES.
        sampler: "shuffle" or "balanced", for the methods that do not need one of the two.
        augmentation: name of an augmentation.
        optimizer: one of OPTIMIZERS.

    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str = "constant"
    sampler: str = "shuffle"
    augmentation: str = "light"
    optimizer: str = "adam"

    def __post_init__(self) -> None:
        augmentation(self.augmentation)
        for name, least in (("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise MethodError(f"{name} must be at least {least}, found {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise MethodError(f"learning_rate must be positive and finite, found {self.learning_rate}.")
        for name, known in (("schedule", SCHEDULES), ("sampler", SAMPLERS), ("optimizer", tuple(OPTIMIZERS))):
            if getattr(self, name) not in known:
                raise MethodError(f"{name} must be {' or '.join(known)}, found {getattr(self, name)}.")


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


class Training:
    """One training of a network: iterating trains, and yields one record an epoch; the network is then the one of that epoch.

    Args:
        network: on the device of images; trained in place.
        method: gives the loss.
        recipe: how.
        images: (N, C, S, S) uint8.
        labels: (N,) int64, on the same device.
        index: (M,) int64 on the host, the samples to train on.
        watch: name -> (K,) int64, sets to evaluate after every epoch without learning from them.
        seed: of the order, the augmentation and the dropout: all methods of one seed and sampler meet the same images in the same
            order and the same views.
        session: of the method for these images; None makes one that knows neither subjects nor the neutral class.
        after_step: called after every optimiser step, such as the look of a probe.

    Attributes:
        records: one dict an epoch of epoch (from 1), train_loss, classification_loss, metric_loss, train_accuracy (None where the
            method has none), training_seconds, seconds (with the watched sets), NAME_loss, NAME_accuracy, NAME_balanced_accuracy for
            each watched set, and `slices`: a list of one dict a slice.

    Raises:
        TrainingError: while iterating, when a loss is not finite.
        MethodError: for fewer than two images, on which neither batch normalisation nor a triplet is defined, or too few epochs.

    """

    def __init__(
        self,
        network: Network,
        method: Method,
        recipe: Recipe,
        images: Tensor,
        labels: Tensor,
        index: Tensor,
        watch: Mapping[str, Tensor],
        seed: int,
        session: Session | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        if len(index) < 2:
            raise MethodError(f"Training needs at least 2 images, found {len(index)}: use fewer folds or more faces.")
        method.check_epochs(recipe.epochs)
        self.network, self.method, self.recipe, self.watch = network, method, recipe, watch
        self.images, self.labels, self.index, self.after_step = images, labels, index, after_step
        self.device, self.view = images.device, augmentation(recipe.augmentation)
        self.chances = {part: torch.Generator().manual_seed(derived_seed(part, seed)) for part in CHANCES}
        torch.manual_seed(derived_seed("dropout", seed))
        host_labels = labels[index.to(self.device)].cpu()
        if session is None:
            classes = int(labels.max()) + 1
            session = method.session(TrainingSet(images, host_labels, None, index, classes, None, seed))
        self.session = session
        steps = sum(1 for _ in batches(host_labels, recipe.batch_size, "shuffle", torch.Generator()))
        self.optimizer = OPTIMIZERS[recipe.optimizer](network.parameters(), lr=recipe.learning_rate, fused=True)
        self.schedule = Schedule(recipe.schedule, network, self.optimizer, recipe.epochs * steps)
        self.records: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Train the epochs that are left."""
        for epoch in range(len(self.records) + 1, self.recipe.epochs + 1):
            if self.records:
                # Only now: going back to the best weights would put another network in the place of the one that was judged.
                self.schedule.after_epoch(self.records[-1])
            self.records.append(self._epoch(epoch))
            yield self.records[-1]

    def state(self) -> dict[str, Any]:
        """All that the epochs to come depend on, between two of them, as plain data: it changes when the training goes on."""
        chances = {part: generator.get_state() for part, generator in self.chances.items()}
        chances["host"] = torch.get_rng_state()
        if self.device.type == "cuda":
            chances["device"] = torch.cuda.get_rng_state(self.device)
        return {
            "network": dict(self.network.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "session": self.session.state(),
            "chances": chances,
            "records": self.records,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of a training that was made alike: the epochs to come are bit for bit the same on a CPU."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, kept in self.optimizer.state.items():
            for name, value in kept.items():
                # As the fused step needs them: laid out in memory as their parameter is, and no one else's.
                own = torch.empty_like(parameter if value.shape == parameter.shape else value, dtype=value.dtype)
                kept[name] = own.copy_(value)
        self.schedule.restore(state["schedule"])
        self.session.restore(state["session"])
        self.records = list(state["records"])
        for part, generator in self.chances.items():
            generator.set_state(state["chances"][part].cpu())
        torch.set_rng_state(state["chances"]["host"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["chances"]["device"].cpu(), self.device)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        """Train an epoch and judge the watched sets."""
        session, method, recipe = self.session, self.method, self.recipe
        order, warps, more_warps, more_order = (self.chances[part] for part in CHANCES)
        start = time.perf_counter()
        session.begin_epoch(epoch, recipe.epochs, lambda: self._embedded(self.index).slices.transpose(0, 1).flatten(1))
        targets = session.labels.to(self.device)
        self.network.train()
        totals = _Totals(method, self.device)
        for batch in batches(session.labels, recipe.batch_size, method.sampler or recipe.sampler, order):
            chosen = self.index[batch].to(self.device, non_blocking=True)
            truth, target = self.labels[chosen], targets[batch.to(self.device, non_blocking=True)]
            state = warps.get_state()
            inputs = self.view.train(self.images[chosen], warps)
            if session.companions is not None:
                company, company_labels = session.companions.draw(batch, more_order)
                if session.companions.shares_view:
                    more_warps.set_state(state)
                inputs = torch.cat([inputs, self.view.train(company, more_warps)])
                target = torch.cat([target, company_labels])
            with evaluation.mixed_precision(self.device):
                output = self.network(inputs.contiguous(memory_format=torch.channels_last))
                loss = method.loss(output, target)
            self.optimizer.zero_grad()
            loss.total.backward()
            self.optimizer.step()
            self.schedule.after_step()
            if self.after_step is not None:
                self.after_step()
            totals.add(loss, output.slices, truth)
        record = totals.record(epoch) | {"training_seconds": time.perf_counter() - start}
        memory = self._embedded(self.index) if self.watch and method.prediction == "knn" else None
        for name, members in self.watch.items():
            judged = self._embedded(members)
            if memory is not None:
                judged = evaluation.with_neighbours(judged, memory, session.training.classes)
            record |= _judge(name, judged, record["slices"])
        return record | {"seconds": time.perf_counter() - start}

    def _embedded(self, members: Tensor) -> evaluation.Embedded:
        return evaluation.embed(self.network, self.method, self.images, self.labels, members, self.view)


class _Totals:
    """Sums over the steps of an epoch, kept on the device: the step never waits for the host."""

    def __init__(self, method: Method, device: torch.device) -> None:
        self.layout = method.layout
        self.scalars = torch.zeros(4, device=device)  # total loss, cross-entropy, right answers, images
        self.slices = torch.zeros(2, self.layout.slices, device=device)  # metric loss, spread
        self.rates = torch.zeros(len(RATES) + 1, self.layout.slices, device=device)
        self.parts: set[str] = set()  # which parts of a StepLoss the method gives

    @torch.no_grad()
    def add(self, loss: StepLoss, slices: Tensor, labels: Tensor) -> None:
        """Add a step: slices (N, B, D) of queries and companions, labels (K,) of the queries."""
        images = len(labels)
        self.parts = {name for name, part in loss._asdict().items() if part is not None}
        right = loss.total.new_zeros(()) if loss.scores is None else (loss.scores.argmax(1) == labels).sum()
        cross_entropy = loss.total.new_zeros(()) if loss.classification is None else loss.classification
        self.scalars += torch.stack(
            [loss.total.detach() * images, cross_entropy * images, right, torch.full_like(right, images)]
        )
        metric = loss.metric if loss.metric is not None else torch.zeros_like(self.slices[0])
        self.slices += torch.stack([metric, spread(slices[:, :images])]) * images
        if loss.rates is not None:
            self.rates += loss.rates

    def record(self, epoch: int) -> dict[str, Any]:
        total, cross_entropy, right, images = self.scalars.tolist()
        if not (math.isfinite(total) and math.isfinite(cross_entropy)):
            raise TrainingError(f"The loss is not finite in epoch {epoch}.")
        metric, spreads = (self.slices / images).tolist()
        sums, valid = self.rates[:-1].tolist(), self.rates[-1].tolist()
        slices = []
        for i in range(self.layout.slices):
            row: dict[str, Any] = {"epoch": epoch, "slice": i, "spread": spreads[i]}
            if self.layout.thresholds:
                row["threshold"] = self.layout.thresholds[i]
            if "metric" in self.parts:
                row["metric_loss"] = metric[i]
            if "rates" in self.parts:
                row |= {rate: sums[r][i] / valid[i] if valid[i] else None for r, rate in enumerate(RATES)}
            slices.append(row)
        return {
            "epoch": epoch,
            "train_loss": total / images,
            "classification_loss": cross_entropy / images if "classification" in self.parts else None,
            "metric_loss": sum(metric) / len(metric) if "metric" in self.parts else None,
            "train_accuracy": right / images if "scores" in self.parts else None,
            "slices": slices,
        }


def _judge(name: str, embedded: evaluation.Embedded, slices: list[dict[str, Any]]) -> dict[str, Any]:
    """Scores of a watched set; the class distances of its slices are written into the slice rows."""
    counts, logits = embedded.counts, embedded.logits
    inter, intra = class_distances(embedded.slices, embedded.labels)
    for row, between, within in zip(slices, inter.tolist(), intra.tolist(), strict=True):
        row |= {"inter_distance": between, "intra_distance": within}
    return {
        f"{name}_loss": None if logits is None else F.cross_entropy(logits, embedded.labels).item(),
        f"{name}_accuracy": evaluation.accuracy(counts),
        f"{name}_balanced_accuracy": evaluation.balanced_accuracy(counts),
    }
