"""Shared trunk of the two-branch inception network: 60 x 60 images to 1024 features."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mdml.models.weights import draw_weights, load_weights

FEATURES = 1024
SIDE = 60
SLOPE = 0.1


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.LeakyReLU(SLOPE))


class Inception(nn.Module):
    """1x1, 3x3 and 5x5 convolutions side by side, the larger two behind a 1x1 reduction.

    Args:
        inputs: channels.
        one: width of the 1x1 convolution.
        three: widths of the reduction and of the 3x3 convolution.
        five: widths of the reduction and of the 5x5 convolution.

    """

    def __init__(self, inputs: int, one: int, three: tuple[int, int], five: tuple[int, int]) -> None:
        super().__init__()
        self.one = _conv(inputs, one, 1)
        self.three = nn.Sequential(_conv(inputs, three[0], 1), _conv(*three, 3))
        self.five = nn.Sequential(_conv(inputs, five[0], 1), _conv(*five, 5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) float -> (B, one + three + five, H, W)."""
        return torch.cat([self.one(x), self.three(x), self.five(x)], 1)


class IncFER60(nn.Module):
    """The trunk that `incfer60` fills."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(_conv(channels, 64, 5), nn.MaxPool2d(3, 2, 1)),  # 60 -> 30
            *(_conv(64, 96, 3), nn.MaxPool2d(3, 2, 1)),  # 30 -> 15
            *(Inception(96, 64, (96, 128), (16, 32)), nn.MaxPool2d(3, 2, 1)),  # 15 -> 8
            *(Inception(224, 128, (128, 192), (32, 96)), nn.MaxPool2d(3, 2, 1)),  # 8 -> 4
        )
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(416 * 4 * 4, FEATURES), nn.LeakyReLU(SLOPE))
        draw_weights(self, partial(nn.init.kaiming_normal_, a=SLOPE))

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, 60, 60) float -> (B, 1024)."""
        features: Tensor = self.hidden(self.features(images))
        return features


def incfer60(channels: int = 1, weights: str | None = None) -> nn.Module:
    """Two convolutions, two inceptions, and the layer FC1: (B, channels, 60, 60) float -> (B, 1024); 7,377,520 parameters at 1 channel.

    Source: the networks of Liu et al. 2017 (2B(N+M)) and Liu et al. 2019 (IDFERM), of which is known that groups of 1x1, 3x3 and 5x5
    convolutions with leaky ReLU see 60 x 60 grey faces, and that two branches leave a common fully connected layer. The widths, the slope
    (.1, the middle of where the paper found accuracy flat) and Kaiming's start are our choice. The trunk ends at FC1, where the branches
    part, so that any head fits; the branches, and the dropout before them, are the head of the methods that need them.

    Args:
        channels: 1 (grey) or 3 (RGB).
        weights: None for a random start, or the path of a local state dict of this trunk.

    Raises:
        MethodError: where the weights cannot be had or do not fit.

    """
    return load_weights(IncFER60(channels), weights, channels, "an IncFER60", "features.0.0.weight")
