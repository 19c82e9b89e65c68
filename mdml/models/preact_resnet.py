"""Pre-activation ResNet-18 in its form for small images: images to 512 features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mdml.models.weights import load_weights

FEATURES = 512


class PreActBlock(nn.Module):
    """BN, ReLU, 3x3, BN, ReLU, 3x3 beside a shortcut.

    Where the shape changes the shortcut is a 1x1 convolution of the activated input, else the input itself.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) float -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        active = F.relu(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        added: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active)))) + kept
        return added


class PreActResNet18(nn.Module):
    """The trunk that `preact_resnet18` fills."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        self.layer1 = nn.Sequential(PreActBlock(64, 64, 1), PreActBlock(64, 64, 1))
        self.layer2 = nn.Sequential(PreActBlock(64, 128, 2), PreActBlock(128, 128, 1))
        self.layer3 = nn.Sequential(PreActBlock(128, 256, 2), PreActBlock(256, 256, 1))
        self.layer4 = nn.Sequential(PreActBlock(256, 512, 2), PreActBlock(512, 512, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) float -> (B, 512)."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(images))))).mean((2, 3))


def preact_resnet18(channels: int = 3, weights: str | None = None) -> nn.Module:
    """Pre-activation ResNet-18: (B, channels, H, W) float -> (B, 512); 11,166,016 parameters at 3 channels.

    Source: He et al. 2016, "Identity mappings in deep residual networks", in the form for 32 x 32 that Marrero-Fernandez et al. 2020
    used: a 3x3 stem without normalisation, and a global average pool. Unlike He et al.'s, it has no normalisation and ReLU after the
    last block, and it normalises and activates before the shortcut's convolution.

    Args:
        channels: 1 (grey) or 3 (RGB).
        weights: None for a random start, or the path of a local state dict; its classifier `linear` is ignored.

    Raises:
        MethodError: where the weights cannot be had or do not fit.

    """
    architecture = "a pre-activation ResNet-18"
    return load_weights(PreActResNet18(channels), weights, channels, architecture, "conv1.weight", "linear.")
