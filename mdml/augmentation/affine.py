"""Affine augmentation: one warp a batch, then standardisation of every image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mdml.augmentation.base import Augmentation
from mdml.augmentation.maps import about_centre, warp
from mdml.augmentation.normalize import standardize


@dataclass(frozen=True)
class Affine(Augmentation):
    """Rotation, resizing, cropping and mirroring, which compose to one affine map, then standardisation of every image.

    Convention: angles in degrees, counter-clockwise; shifts in fractions of the side; the border is black.

    Args:
        angles: rotations to choose from, degrees.
        zoom: resize factor before cropping back to the same side; training and test see the same scale.
        shifts: moves (x to the right, y down) of the content to choose from, in fractions of the side; None draws both uniformly
            from whole pixels within +-`reach`.
        reach: largest shift when `shifts` is None, in fractions of the side.
        mirror: probability of a left-right flip.

    """

    angles: tuple[float, ...] = (0.0,)
    zoom: float = 1.0
    shifts: tuple[tuple[float, float], ...] | None = ((0.0, 0.0),)
    reach: float = 0.0
    mirror: float = 0.0

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a map for every image and standardise: (B, C, S, S) uint8 -> (B, C, S, S) float32; the border is black."""
        batch, side = images.shape[0], images.shape[-1]
        angles = torch.tensor(self.angles)[torch.randint(len(self.angles), (batch,), generator=generator)]
        if self.shifts is None:
            most = int(self.reach * side)
            shifts = torch.randint(-most, most + 1, (batch, 2), generator=generator).float()
        else:
            shifts = torch.tensor(self.shifts)[torch.randint(len(self.shifts), (batch,), generator=generator)] * side
        mirror = torch.rand(batch, generator=generator) < self.mirror
        return self._warp(images, angles, shifts, mirror)

    def test(self, images: Tensor) -> Tensor:
        """The centre crop, upright, standardised: (B, C, S, S) uint8 -> (B, C, S, S) float32."""
        if self.zoom == 1:
            return standardize(images.float())
        none = torch.zeros(len(images))
        return self._warp(images, none, none[:, None].expand(-1, 2), none > 0)

    def _warp(self, images: Tensor, angles: Tensor, shifts: Tensor, mirror: Tensor) -> Tensor:
        radians, across = angles * (math.pi / 180), torch.where(mirror, -1.0, 1.0)
        cos, sin = self.zoom * radians.cos(), self.zoom * radians.sin()
        linear = torch.stack([across * cos, across * sin, -sin, cos], 1).view(-1, 2, 2)
        moved = torch.stack([across, torch.ones_like(across)], 1) * shifts
        return standardize(warp(images.float(), about_centre(linear, moved, images.shape[-1]), "zeros"))
