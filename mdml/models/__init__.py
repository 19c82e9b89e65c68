"""Networks: a trunk (one backbone a file) under the head that a method asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.models import alexnet, cvgg13, fmpnet, incfer60, preact_resnet, resnet
from mdml.models.head import Output, SlicedHead


class Backbone(NamedTuple):
    """An architecture: how it is built and what it looks at.

    Attributes:
        build: (channels, weights) -> trunk.
        features: width of the trunk's feature.
        side: pixels a side of the images that it sees unless told otherwise.
        least: pixels a side of the smallest images that it takes; None where it takes those of `side` alone.
        channels: of the images unless told otherwise, 1 or 3.

    """

    build: Callable[[int, str | None], nn.Module]
    features: int
    side: int
    least: int | None
    channels: int


BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(resnet.resnet18, resnet.FEATURES, 48, 8, 3),
    "preact_resnet18": Backbone(preact_resnet.preact_resnet18, preact_resnet.FEATURES, 32, 8, 3),
    "alexnet": Backbone(alexnet.alexnet, alexnet.FEATURES, 227, 63, 3),
    "cvgg13": Backbone(cvgg13.cvgg13, cvgg13.FEATURES, cvgg13.SIDE, None, 1),
    "fmpnet": Backbone(fmpnet.fmpnet, fmpnet.FEATURES, fmpnet.SIDE, None, 3),
    "incfer60": Backbone(incfer60.incfer60, incfer60.FEATURES, incfer60.SIDE, None, 1),
}

__all__ = ["BACKBONES", "Backbone", "Network", "Output", "SlicedHead", "build_trunk", "check_images"]


class Network(nn.Module):
    """A trunk and a head: (B, C, H, W) float -> Output."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, images: Tensor) -> Output:
        """(B, C, H, W) float -> Output."""
        output: Output = self.head(self.trunk(images))
        return output


def check_images(backbone: str, side: int, channels: int, margin: int = 0) -> None:
    """Check that a backbone takes such images.

    Args:
        backbone: its name.
        side: pixels a side of the images of the data set.
        channels: of the images.
        margin: pixels a side that the augmentation crops away.

    Raises:
        MethodError: for an unknown backbone, or images that it does not take.

    """
    known = _known(backbone)
    if channels not in (1, 3):
        raise MethodError(
            f"The backbone {backbone} takes grey (channels=1) or RGB (channels=3) images, found channels={channels}."
        )
    smallest = known.side if known.least is None else known.least
    if side - margin < smallest or (known.least is None and side - margin > smallest):
        kind = "exactly" if known.least is None else "at least"
        cropped = f", of which the augmentation leaves {side - margin}" if margin else ""
        raise MethodError(
            f"The backbone {backbone} takes images of {kind} {smallest} pixels a side, found image_size={side}{cropped}: "
            f"set image_size={known.side + margin}, or leave it out."
        )


def build_trunk(backbone: str, channels: int, weights: str | None, seed: int) -> tuple[nn.Module, int]:
    """A fresh trunk and the width of its feature.

    The start depends on (backbone, channels, weights, seed) alone: every method of a study begins from the same trunk. The start is
    kept and copied, since drawing 11 million numbers anew takes longer than a short trial.

    Raises:
        MethodError: for an unknown backbone or weights that cannot be had.

    """
    features = _known(backbone).features
    return _copied(_start(backbone, channels, weights, seed)), features


def _copied(module: nn.Module) -> nn.Module:
    """What copy.deepcopy gives of a trunk, in half its time: modules hold numbers, functions, containers of those, and each other."""
    twin = module.__new__(type(module))
    made = vars(twin)
    made |= {
        name: copy.copy(value) if isinstance(value, (dict, set)) else value for name, value in vars(module).items()
    }
    for name, weight in module.named_parameters(recurse=False):
        made["_parameters"][name] = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    for name, buffer in module.named_buffers(recurse=False):
        made["_buffers"][name] = buffer.clone()
    for name, inner in module.named_children():
        made["_modules"][name] = _copied(inner)
    return twin


def _known(backbone: str) -> Backbone:
    if backbone not in BACKBONES:
        raise MethodError(f"Expected a backbone out of {', '.join(BACKBONES)}, found backbone.name={backbone}.")
    return BACKBONES[backbone]


@lru_cache(maxsize=4)
def _start(backbone: str, channels: int, weights: str | None, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BACKBONES[backbone].build(channels, weights).to(memory_format=torch.channels_last)
