"""VGG-13 for expressions: 64 x 64 images to 1024 features."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mdml.models.weights import draw_weights, load_weights

FEATURES = 1024
SIDE = 64
_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (256, 256, 256))


class CVGG13(nn.Module):
    """The trunk that `cvgg13` fills."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = channels
        for block in _WIDTHS:
            for before, width in pairwise((last, *block)):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
            last = block[-1]
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(256 * 4 * 4, FEATURES), nn.ReLU(), nn.Dropout(0.5))
        draw_weights(self, nn.init.xavier_uniform_)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, 64, 64) float -> (B, 1024)."""
        features: Tensor = self.hidden(self.features(images))
        return features


def cvgg13(channels: int = 1, weights: str | None = None) -> nn.Module:
    """Ten 3x3 convolutions and a hidden layer: (B, channels, 64, 64) float -> (B, 1024); 7,699,904 parameters at 1 channel.

    Source: Barsoum et al. 2016, "Training deep networks for facial expression recognition with crowd-sourced label distribution", and
    its public code: four blocks of convolutions and ReLU, each with a pool and dropout .25, no normalisation, Glorot's start. Their
    network has two hidden layers of 1024: the first is this trunk's, the second is the embedding of the head, so that
    `method=softmax method.slice_dim=1024` is their whole network. Marrero-Fernandez et al. 2020, who put the embedding in the second
    one's place as here, leave out the dropouts of .25; they stay here.

    Args:
        channels: 1 (grey) or 3 (RGB).
        weights: None for a random start, or the path of a local state dict of this trunk.

    Raises:
        MethodError: where the weights cannot be had or do not fit.

    """
    return load_weights(CVGG13(channels), weights, channels, "a CVGG13", "features.0.weight")
