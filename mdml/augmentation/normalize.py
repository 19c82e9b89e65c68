"""Normalisation of an image by itself."""

from __future__ import annotations

import torch
from torch import Tensor


def standardize(images: Tensor) -> Tensor:
    """Zero mean and unit deviation per image and channel; a constant channel becomes 0: (B, C, H, W) float -> same."""
    centred = images - images.mean((2, 3), keepdim=True)
    deviation = centred.square().mean((2, 3), keepdim=True).sqrt()
    # Resampling leaves about 1e-5 of deviation in a constant channel; the faintest real edge leaves over 1e-3.
    return centred / torch.where(deviation < 1e-3, torch.inf, deviation)


def equalize_plane(images: Tensor) -> Tensor:
    """Equalise the histogram and take off the slope of the light: (B, C, H, W) uint8 -> (B, C, H, W) float32.

    Per image and channel: e = 2 cdf(v) / N - 1 for every one of the N pixels, cdf(v) being the number of pixels <= v; less the plane
    a + b x + c y that fits e best in least squares; divided by its root mean square, unless that is below 1e-6 (a constant channel, which
    becomes 0). The result has mean 0.

    Source: Barsoum et al. 2016 in their public code; the "histogram equalisation and linear plane fitting" of Liu et al. 2019. Kornia's
    equalisation follows another formula and walks the images one by one. Nothing here waits for the device.
    """
    height, width = images.shape[2:]
    levels = images.flatten(2).long()
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=images.device)
    cdf = counts.scatter_add(2, levels, torch.ones_like(levels)).cumsum(2)
    equal = (cdf.gather(2, levels).float() * (2 / (height * width)) - 1).unflatten(2, (height, width))
    # Coordinates about their mean: the three terms of the plane are then orthogonal, and each is fitted by itself.
    across = torch.arange(width, device=images.device) - (width - 1) / 2
    down = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    flat = equal - equal.mean((2, 3), keepdim=True)
    for axis in (across, down):
        flat = flat - axis * (flat * axis).mean((2, 3), keepdim=True) / axis.square().mean().clamp(min=0.25)
    size = flat.square().mean((2, 3), keepdim=True).sqrt()
    return flat / torch.where(size > 1e-6, size, torch.inf)
