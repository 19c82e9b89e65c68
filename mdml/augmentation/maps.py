"""Affine maps of the plane of an image, composed on the host and applied in one kernel.

Convention: pixel coordinates (x to the right, y down) with pixel centres at integers; maps lead from the image to its view, as (B, 2, 3)
float32, and their linear parts act about the centre of the image. Angles in radians, counter-clockwise.
"""

from __future__ import annotations

import torch
from kornia.geometry.transform import warp_affine
from torch import Tensor


def rotations(angles: Tensor) -> Tensor:
    """(B,) -> (B, 2, 2)."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2)


def mirrors(mirror: Tensor) -> Tensor:
    """(B,) bool -> (B, 2, 2): a left-right flip where it is true."""
    return torch.diag_embed(torch.stack([torch.where(mirror, -1.0, 1.0), torch.ones(len(mirror))], 1))


def about_centre(linear: Tensor, shifts: Tensor, side: int) -> Tensor:
    """Act by `linear` (B, 2, 2) about the centre of an image of that side, then move by `shifts` (B, 2) pixels: (B, 2, 3)."""
    centre = (side - 1) / 2
    return torch.cat([linear, (centre + shifts - linear.sum(2) * centre)[:, :, None]], 2)


def warp(images: Tensor, maps: Tensor, border: str) -> Tensor:
    """Resample bilinearly: (B, C, S, S) float and maps (B, 2, 3) on the host -> (B, C, S, S).

    Args:
        images: on the device.
        maps: from the image to its view.
        border: what lies beyond the image: "zeros", "border" (its last pixels) or "reflection" (about the centres of its last pixels).

    """
    side = (images.shape[-2], images.shape[-1])
    maps = maps.to(images.device, non_blocking=True)
    return warp_affine(images, maps, side, padding_mode=border, align_corners=True)
