"""Augmentation on the device: one affine warp a batch (Kornia), then standardisation of every image.

Rotation, resizing, cropping and mirroring of the paper's pipeline compose to one affine map, so that an image is resampled once and
a batch costs one kernel. Parameters are drawn from a generator of the trial's own, on the host, so that a trial's augmentation
depends on its seed alone, whatever the device.

Convention: pixel coordinates with pixel centres at integers; angles in degrees, counter-clockwise; shifts in fractions of the side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from kornia.geometry.transform import warp_affine
from torch import Tensor

from mdml.errors import MethodError


@dataclass(frozen=True)
class Augmentation:
    """A distribution over affine maps.

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
        centre = (images.shape[-1] - 1) / 2
        radians, across = angles * (math.pi / 180), torch.where(mirror, -1.0, 1.0)
        cos, sin = self.zoom * radians.cos(), self.zoom * radians.sin()
        linear = torch.stack([across * cos, across * sin, -sin, cos], 1).view(-1, 2, 2)
        moved = torch.stack([across, torch.ones_like(across)], 1) * shifts
        offset = centre + moved - linear.sum(2) * centre
        maps = torch.cat([linear, offset[:, :, None]], 2).to(images.device, non_blocking=True)
        side = (images.shape[-2], images.shape[-1])
        return standardize(warp_affine(images.float(), maps, side, padding_mode="zeros", align_corners=True))


def standardize(images: Tensor) -> Tensor:
    """Zero mean and unit deviation per image and channel; a constant channel becomes 0: (B, C, H, W) float -> same."""
    centred = images - images.mean((2, 3), keepdim=True)
    deviation = centred.square().mean((2, 3), keepdim=True).sqrt()
    # Resampling leaves about 1e-5 of deviation in a constant channel; the faintest real edge leaves over 1e-3.
    return centred / torch.where(deviation < 1e-3, torch.inf, deviation)


_CORNER = 6 / 224
AUGMENTATIONS = {
    "none": Augmentation(),
    # Yang et al. 2024, public code: rotate by one of five angles, resize 224 -> 236, crop at a corner or the centre, flip.
    "paper": Augmentation(
        angles=(-10.0, -5.0, 0.0, 5.0, 10.0),
        zoom=236 / 224,
        shifts=((0.0, 0.0), *((x, y) for x in (-_CORNER, _CORNER) for y in (-_CORNER, _CORNER))),
        mirror=0.5,
    ),
    # For small images: whole-pixel shifts and a flip, which leave the pixels as they are.
    "light": Augmentation(shifts=None, reach=1 / 16, mirror=0.5),
}


def augmentation(name: str) -> Augmentation:
    """The augmentation of that name.

    Raises:
        MethodError: where there is none.

    """
    if name not in AUGMENTATIONS:
        raise MethodError(
            f"Expected an augmentation out of {', '.join(AUGMENTATIONS)}, found augmentation.name={name}."
        )
    return AUGMENTATIONS[name]
