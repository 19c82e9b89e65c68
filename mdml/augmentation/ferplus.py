"""Augmentation of Barsoum's VGG-13: small affine distortions, evenly lit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdml.augmentation.base import Augmentation
from mdml.augmentation.maps import about_centre, mirrors, rotations, warp
from mdml.augmentation.normalize import equalize_plane

SHIFT, SCALE, ANGLE, SKEW = 0.08, 1.05, 20 * math.pi / 180, 0.05


class FERPlus(Augmentation):
    """Shift, scale, rotate, skew and mirror in one map, then histogram equalisation and plane fitting per channel.

    Shifts are uniform within 8 % of the side. Each axis is scaled by its own factor, uniform from 1 to 1.05 and turned upside down half
    the time. The angle is uniform within 20 degrees, the skew along each axis within .05. Half the images are mirrored.

    Source: Barsoum et al. 2016 and their public code, which sees 64 x 64 grey faces. As there, the map from the view back to the image
    is rotation, skew and scale in this order, and pixels are rounded before their histogram is taken. Beyond the border the image is
    reflected about the centres of its last pixels, there about their edges.
    """

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a map for every image: (B, C, S, S) uint8 -> (B, C, S, S) float32."""
        draws = torch.rand(len(images), 10, generator=generator)
        around, side = 2 * draws - 1, images.shape[-1]
        factors = 1 + (SCALE - 1) * draws[:, :2]
        scale = torch.diag_embed(torch.where(draws[:, 2:4] < 0.5, 1 / factors, factors))
        skew = torch.eye(2).repeat(len(images), 2, 1, 1)
        skew[:, 0, 0, 1], skew[:, 1, 1, 0] = SKEW * around[:, 4], SKEW * around[:, 5]
        back = scale @ skew[:, 0] @ skew[:, 1] @ rotations(ANGLE * around[:, 6])
        mirror = mirrors(draws[:, 7] < 0.5)
        shifts = (mirror @ (SHIFT * side * around[:, 8:, None])).squeeze(2)
        maps = about_centre(mirror @ torch.linalg.inv(back), shifts, side)
        seen = warp(images.float(), maps, "reflection")
        return equalize_plane(seen.round().clamp(0, 255).to(torch.uint8))

    def test(self, images: Tensor) -> Tensor:
        """The image as it is, evenly lit: (B, C, S, S) uint8 -> (B, C, S, S) float32."""
        return equalize_plane(images)
