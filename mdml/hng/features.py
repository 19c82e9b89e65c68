"""The two frozen networks by which generated faces are judged: phi for what a face looks like, psi for whose face it is.

The paper takes VGG-Face for phi and Light CNN-4 for psi. Neither can be shipped, so that substitutes are trained here on the training
faces of the fold, then frozen; phi may instead be read from a local file of VGG-16 weights.

Each layer's features are divided by their deviation over the training faces, one number a layer, so that the weights of the losses mean
the same whichever network gives the features. That is our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdml.errors import MethodError

PLAN = (1, 1, 2, 2, 4)  # Filters of the first five convolutions of VGG-16, in units of the first's.
POOLED = (1, 3)  # Followed by a pool: 64 x 64 faces give 16 x 16 features.
VGG_LAYERS = (0, 2, 5, 7, 10)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Phi(nn.Module):
    """The output of the fifth convolution of a VGG, before its relu: (B, channels, 64, 64) in [-1, 1] -> (B, 4 width, 16, 16).

    As in VGG there is no batch normalisation. Trained with it for expressions, the features know nothing of the light and little of
    the person, and faces made by them are no faces.

    Args:
        channels: of the faces, 1 or 3.
        width: filters of the first convolution.

    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        widths = [channels, *(width * factor for factor in PLAN)]
        self.channels = widths[-1]
        self.layers = nn.Sequential()
        for i, (inner, outer) in enumerate(pairwise(widths)):
            self.layers.append(nn.Conv2d(inner, outer, 3, padding=1))
            if i < len(PLAN) - 1:
                self.layers.extend([nn.ReLU(), *[nn.MaxPool2d(2)] * (i in POOLED)])
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.deviation: Tensor
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, faces: Tensor) -> Tensor:
        """(B, channels, 64, 64) -> (B, 4 width, 16, 16), over their deviation."""
        features: Tensor = self.layers(faces) / self.deviation
        return features


class VggPhi(Phi):
    """The first five convolutions of a VGG-16 read from a file; grey faces are shown to it as three equal channels."""

    def __init__(self, weights: str) -> None:
        super().__init__(3, 64)
        convolutions = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        for layer, (weight, bias) in zip(convolutions, _read_vgg(weights), strict=True):
            if weight.shape != layer.weight.shape or bias.shape != layer.weight.shape[:1]:
                raise MethodError(
                    f"The weights of {weights} do not fit a VGG-16: expected a convolution of shape {tuple(layer.weight.shape)}, "
                    f"found {tuple(weight.shape)}."
                )
            layer.load_state_dict({"weight": weight, "bias": bias})
        mean, deviation = torch.tensor(IMAGENET)[:, :, None, None]
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("spread", deviation)

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 1 or 3, 64, 64) in [-1, 1] -> (B, 256, 16, 16), over their deviation."""
        return super().forward(((faces + 1) / 2 - self.mean) / self.spread)


class Psi(nn.Module):
    """A small network of max-feature-maps, after Light CNN-4: four times convolution, max-feature-map, pool; then one dense layer.

    (B, channels, 64, 64) in [-1, 1] -> the last two layers: the last pool (B, 64, 4, 4) and the dense layer (B, 128).
    """

    WIDTHS = (8, 16, 32, 64)
    DENSE = 128

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for inner, outer in zip((channels, *self.WIDTHS), self.WIDTHS, strict=False):
            self.layers.extend([nn.Conv2d(inner, 2 * outer, 3, padding=1, bias=False), nn.BatchNorm2d(2 * outer)])
            self.layers.extend([MaxFeatureMap(), nn.MaxPool2d(2)])
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * self.WIDTHS[-1], 2 * self.DENSE, bias=False), nn.BatchNorm1d(2 * self.DENSE)
        )
        self.dense.append(MaxFeatureMap())
        self.deviation: Tensor
        self.dense_deviation: Tensor
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("dense_deviation", torch.ones(()))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, 64, 64) -> (B, 64, 4, 4) and (B, 128), over their deviations."""
        maps = self.layers(faces)
        return maps / self.deviation, self.dense(maps) / self.dense_deviation


class MaxFeatureMap(nn.Module):
    """The larger of the two halves of the channels: (B, 2 K, ...) -> (B, K, ...)."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, 2 K, ...) -> (B, K, ...)."""
        one, other = features.chunk(2, 1)
        return other + F.relu(one - other)  # Several times as fast as torch.maximum, backward.


class Classifier(nn.Module):
    """What phi and psi are trained in: their features, a pool where they have places, and one linear layer to the classes."""

    def __init__(self, features: Phi | Psi, classes: int) -> None:
        super().__init__()
        self.features = features
        # Without batch normalisation, the larger rate may not train at all.
        self.learning_rate = 1e-3 if isinstance(features, Psi) else 3e-4
        if isinstance(features, Psi):
            self.head = nn.Sequential(nn.Linear(features.DENSE, classes))
        else:
            width = features.channels
            pool = [nn.ReLU(), nn.MaxPool2d(4), nn.Flatten()]
            self.head = nn.Sequential(*pool, nn.Linear(16 * width, classes))

    def forward(self, faces: Tensor) -> Tensor:
        """(B, channels, 64, 64) -> logits (B, classes)."""
        features = self.features(faces)
        logits: Tensor = self.head(features[1] if isinstance(features, tuple) else features)
        return logits


def train_classifier(
    classifier: Classifier,
    faces: Callable[[Tensor], Tensor],
    labels: Tensor,
    epochs: int,
    generator: torch.Generator,
    batch_size: int = 64,
) -> float:
    """Train by cross-entropy on mirrored or unmirrored faces with Adam (rate falling to 0 as a cosine), then freeze.

    Args:
        classifier: on the device of the faces; its features are frozen afterwards.
        faces: positions (B,) on the host -> (B, channels, 64, 64) in [-1, 1].
        labels: (M,) int64 on the host.
        epochs: passes over the M faces.
        generator: on the host, of the order and the mirroring.
        batch_size: faces a step; a last one alone is left out.

    Returns:
        Share of the last epoch's faces that were told right while training.

    """
    right, met = 0, 0
    steps = epochs * -(-len(labels) // batch_size)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=classifier.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    classifier.train()
    for _ in range(epochs):
        hits = []
        for batch in torch.randperm(len(labels), generator=generator).split(batch_size):
            if len(batch) < 2:
                continue
            shown = faces(batch)
            mirrored = (torch.rand(len(batch), generator=generator) < 0.5).to(shown.device)
            truth = labels[batch].to(shown.device)
            logits = classifier(torch.where(mirrored[:, None, None, None], shown.flip(-1), shown))
            optimizer.zero_grad()
            F.cross_entropy(logits, truth).backward()
            optimizer.step()
            schedule.step()
            hits.append(logits.detach().argmax(1) == truth)
        right, met = int(torch.cat(hits).sum()), len(torch.cat(hits))
    freeze(classifier)
    return right / met if met else 0.0


def freeze(network: nn.Module) -> None:
    """Evaluation mode, and no gradient to its parameters any more."""
    network.eval().requires_grad_(False)


@torch.no_grad()
def calibrate(features: Phi | Psi, faces: Tensor) -> None:
    """Set the deviations by which features are divided to those over faces (B, channels, 64, 64); constant features keep 1."""
    found = features(faces)
    if isinstance(features, Psi):
        _rescale(features.deviation, found[0])
        _rescale(features.dense_deviation, found[1])
    else:
        _rescale(features.deviation, found)


def _rescale(deviation: Tensor, found: Tensor) -> None:
    measured = (found - found.mean(0)).square().mean().sqrt()
    deviation.mul_(torch.where(measured > 1e-6, measured, 1.0))


def _read_vgg(weights: str) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of the first five convolutions in a state dict of torchvision's layout."""
    if not Path(weights).is_file():
        raise MethodError(
            f"method.vgg_weights must be null or the path of a VGG-16 state dict, but there is no file {weights}."
        )
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        return [(state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]) for layer in VGG_LAYERS]
    except Exception as error:
        raise MethodError(
            f"method.vgg_weights must hold a state dict of torchvision's VGG-16; {weights} does not: {error!r}."
        ) from error
