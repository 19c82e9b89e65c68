"""Small network with fractional max pooling: 48 x 48 images to 1024 features."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdml.models.weights import draw_weights, load_weights

FEATURES = 1024
SIDE = 48


class FractionalMaxPool(nn.Module):
    """Largest value of 3 x 3 windows at fractional steps, half the side: (B, C, H, W) float -> (B, C, H // 2, W // 2), same dtype.

    Source: Graham 2014, "Fractional max-pooling". In training the windows are drawn anew for every image and channel, from torch's
    generator of the host, so that a trial draws the same on every device; in evaluation the draw is 0.5, so that an image always gives
    the same features, whatever else is in its batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) float -> (B, C, H // 2, W // 2)."""
        shape = (len(x), x.shape[1], 2)
        draws = torch.rand(shape) if self.training else torch.full(shape, 0.5)
        size = (x.shape[2] // 2, x.shape[3] // 2)
        # In half precision the places of the windows would be rounded.
        pooled = F.fractional_max_pool2d(
            x.float(), 3, output_size=size, _random_samples=draws.to(x.device, non_blocking=True)
        )
        return pooled.to(x.dtype)


class FMPNet(nn.Module):
    """The trunk that `fmpnet` fills."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, 64, 5, padding=2), nn.ReLU(), FractionalMaxPool(), nn.BatchNorm2d(64)),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
            *(FractionalMaxPool(), nn.BatchNorm2d(64)),
            *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1), nn.ReLU()),
            *(FractionalMaxPool(), nn.BatchNorm2d(128)),
        )
        self.hidden = nn.Sequential(
            *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(128 * 6 * 6, FEATURES), nn.ReLU()),
            *(nn.Dropout(0.5), nn.Linear(FEATURES, FEATURES), nn.ReLU()),
        )
        draw_weights(self, partial(nn.init.kaiming_normal_, nonlinearity="relu"))

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, 48, 48) float -> (B, 1024)."""
        features: Tensor = self.hidden(self.features(images))
        return features


def fmpnet(channels: int = 3, weights: str | None = None) -> nn.Module:
    """Five convolutions and two hidden layers: (B, channels, 48, 48) float -> (B, 1024); 6,069,888 parameters at 3 channels.

    Source: Yu and Zhang 2015, "Image based static facial expression recognition with multiple deep network learning", as
    Marrero-Fernandez et al. 2020 built it: Yu and Zhang pooled stochastically (recalled from the paper, not verified), here the pools are
    fractional, and batch normalisation follows each. Evaluation is made repeatable by a fixed draw. The start is Kaiming's, our choice.

    Args:
        channels: 1 (grey) or 3 (RGB).
        weights: None for a random start, or the path of a local state dict of this trunk.

    Raises:
        MethodError: where the weights cannot be had or do not fit.

    """
    return load_weights(FMPNet(channels), weights, channels, "an FMPNet", "features.0.weight")
