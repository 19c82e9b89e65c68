"""AlexNet trunk from torchvision: images to 4096 features."""

from __future__ import annotations

import torchvision
from torch import nn

from mdml.models.weights import load_weights

FEATURES = 4096


def alexnet(channels: int = 3, weights: str | None = None) -> nn.Module:
    """AlexNet without its last layer: (B, channels, H, W) float, sides >= 63 -> (B, 4096); 57,003,840 parameters at 3 channels.

    Source: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", as in torchvision: narrower than the
    network of 2012 and without its local response normalisation. Its average pool makes any side from 63 on fit; Marrero-Fernandez et
    al. 2020 gave it 227. The dropouts (.5) before both hidden layers are kept; there is none after the second, where the head begins.

    Args:
        channels: 1 (grey) or 3 (RGB).
        weights: None for a random start, "imagenet", or the path of a local state dict; see `load_weights`.

    Raises:
        MethodError: where the weights cannot be had or do not fit.

    """
    network = torchvision.models.alexnet(weights=None)
    if channels != 3:
        network.features[0] = nn.Conv2d(channels, 64, kernel_size=11, stride=4, padding=2)
    network.classifier = network.classifier[:-1]
    imagenet = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
    return load_weights(network, weights, channels, "an AlexNet", "features.0.weight", "classifier.6.", imagenet)
