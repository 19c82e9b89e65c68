"""Networks: a trunk (one backbone a file) under the head that a method asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.models import resnet
from mdml.models.head import Output, SlicedHead

BACKBONES: dict[str, tuple[Callable[..., nn.Module], int]] = {"resnet18": (resnet.resnet18, resnet.FEATURES)}

__all__ = ["BACKBONES", "Network", "Output", "SlicedHead", "build_trunk"]


class Network(nn.Module):
    """A trunk and a head: (B, C, H, W) float -> Output."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, images: Tensor) -> Output:
        """(B, C, H, W) float -> Output."""
        output: Output = self.head(self.trunk(images))
        return output


def build_trunk(backbone: str, channels: int, weights: str | None, seed: int) -> tuple[nn.Module, int]:
    """A fresh trunk and the width of its feature.

    The start depends on (backbone, channels, weights, seed) alone: every method of a study begins from the same trunk. The start is
    kept and copied, since drawing 11 million numbers anew takes longer than a short trial.

    Raises:
        MethodError: for an unknown backbone or weights that cannot be had.

    """
    if backbone not in BACKBONES:
        raise MethodError(f"Expected a backbone out of {', '.join(BACKBONES)}, found backbone.name={backbone}.")
    return copy.deepcopy(_start(backbone, channels, weights, seed)), BACKBONES[backbone][1]


@lru_cache(maxsize=4)
def _start(backbone: str, channels: int, weights: str | None, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BACKBONES[backbone][0](channels, weights).to(memory_format=torch.channels_last)
