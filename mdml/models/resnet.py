"""ResNet-18 trunk from torchvision: images to 512 features."""

from __future__ import annotations

import torchvision
from torch import nn

from mdml.models.weights import load_weights

FEATURES = 512


def resnet18(channels: int = 3, weights: str | None = None) -> nn.Module:
    """ResNet-18 up to its average pool: (B, channels, H, W) float -> (B, 512); 11,176,512 parameters at 3 channels.

    Source: He et al. 2016, "Deep residual learning for image recognition", the trunk of Yang et al. 2024. The public code of the latter
    has biases in its convolutions and a slower batch normalisation (momentum .99); this is torchvision's network.

    Args:
        channels: 1 (grey) or 3 (RGB).
        weights: None for a random start, "imagenet", or the path of a local state dict; see `load_weights`.

    Raises:
        MethodError: where the weights cannot be had or do not fit.

    """
    network = torchvision.models.resnet18(weights=None)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.fc = nn.Identity()
    imagenet = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    return load_weights(network, weights, channels, "a ResNet-18", "conv1.weight", "fc.", imagenet)
