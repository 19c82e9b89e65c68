"""The three networks that the hard-negative generator is made of: encoder, decoder, discriminator.

Source: Liu et al., Hard negative generation for identity-disentangled FER (Pattern Recognition 88, 2019), section 3, for the code of
256 units, 64 x 64 faces, fractionally strided convolutions and the slope 0.1 of the leaky relus. Filters, their number and batch
normalisation are our choice, after DCGAN: four convolutions 4 x 4 of stride 2, and none of the normalisation in the first and last
layer of a network.
"""

from __future__ import annotations

from torch import Tensor, nn

SIDE = 64
CODE = 256
SLOPE = 0.1
WIDTH = 64  # Channels next to the image: 64, 128, 256, 512 from there to the code.
_LEVELS = 4
_LEAST = SIDE >> _LEVELS


class Encoder(nn.Sequential):
    """Faces (B, channels, 64, 64) in [-1, 1] -> codes (B, 256)."""

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        super().__init__(*_down(channels, width, running=True), nn.Linear(8 * width * _LEAST**2, CODE))


class Decoder(nn.Sequential):
    """Codes (B, 256) -> faces (B, channels, 64, 64) in [-1, 1]."""

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        layers: list[nn.Module] = [
            nn.Linear(CODE, 8 * width * _LEAST**2),
            nn.Unflatten(1, (8 * width, _LEAST, _LEAST)),
            nn.LeakyReLU(SLOPE),
        ]
        for level in reversed(range(1, _LEVELS)):
            inner, outer = width << level, width << (level - 1)
            layers += [nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer)]
            layers += [nn.LeakyReLU(SLOPE)]
        super().__init__(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh())


class Discriminator(nn.Sequential):
    """Faces (B, channels, 64, 64) -> logits (B,): above 0 where a face seems to be a real neutral one.

    It is used in training alone and normalises by the batch at hand, so that it keeps no statistics that a step of the others could
    change.
    """

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        last = nn.Linear(8 * width * _LEAST**2, 1)
        super().__init__(*_down(channels, width, running=False), last, nn.Flatten(0))

    def forward(self, faces: Tensor) -> Tensor:
        """(B, channels, 64, 64) -> (B,)."""
        logits: Tensor = super().forward(faces)
        return logits


def _down(channels: int, width: int, running: bool) -> list[nn.Module]:
    """(B, channels, 64, 64) -> (B, 8 width x 4 x 4)."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
    for level in range(1, _LEVELS):
        inner, outer = width << (level - 1), width << level
        layers += [nn.Conv2d(inner, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer, track_running_stats=running)]
        layers += [nn.LeakyReLU(SLOPE)]
    return [*layers, nn.Flatten()]
