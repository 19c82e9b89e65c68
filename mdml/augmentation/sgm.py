"""Augmentation of the SGMLoss networks: strong affine distortions and changes of light."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_gamma,
    equalize_clahe,
)
from kornia.filters import gaussian_blur2d
from torch import Tensor

from mdml.augmentation.base import Augmentation
from mdml.augmentation.maps import about_centre, mirrors, rotations, warp

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
SCALE, ANGLE, SHIFT, WARP, LIGHT = 0.2, 30 * math.pi / 180, 0.2, 0.02, 0.25
BLURS = (0.8, 1.1, 1.4)


class _Draws(NamedTuple):
    """Uniform numbers in [0, 1), one row an image, by what they decide."""

    scale: Tensor
    angle: Tensor
    shift: Tensor
    corners: Tensor
    light: Tensor
    crop: Tensor
    chances: Tensor  # of the affine map, the mirror, brightness, contrast, gamma, CLAHE, blur
    blur: Tensor


_WIDTHS = (1, 1, 2, 6, 3, 2, 7, 1)


class SGM(Augmentation):
    """Grey in every channel; one affine map; brightness, contrast, gamma, CLAHE and blur, each by chance; fixed normalisation.

    The map: resize from S to S + 5 and crop S at a whole pixel, scale by 1 +- .2 (uniform), then with probability .5 rotate within 30
    degrees, shift within .2 of the side and move three corners within .02 of it, then mirror with probability .5. The light: brightness,
    contrast about the mean and gamma by factors within 1 +- .25, each with probability .5; CLAHE (limit 2, 8 x 8 tiles) and a Gaussian
    blur of .8, 1.1 or 1.4 pixels, each with probability .25. Last (x - mean) / deviation with the published constants of three channels
    (their averages for one channel). The test view is the grey image, normalised.

    Source: Marrero-Fernandez et al. 2020 in their public code, which resamples at every step and adds noise before a blur; there the blur
    is given by windows of 3, 5 and 7 pixels, of which OpenCV makes these deviations. Beyond the border its last pixels are repeated. CLAHE
    is Kornia's, whose tiles are laid slightly otherwise than OpenCV's; images below 32 pixels have fewer tiles, of 4 pixels at least.
    """

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a map and a light for every image: (B, C, S, S) uint8 -> (B, C, S, S) float32."""
        draws = _Draws(*torch.rand(len(images), sum(_WIDTHS), generator=generator).split(_WIDTHS, 1))
        seen = warp(_grey(images), _maps(draws, images.shape[-1]), "border")
        return _normalize(_relight(seen, draws), images.shape[1])

    def test(self, images: Tensor) -> Tensor:
        """The grey image, normalised: (B, C, S, S) uint8 -> (B, C, S, S) float32."""
        return _normalize(_grey(images), images.shape[1])


def _grey(images: Tensor) -> Tensor:
    """(B, C, S, S) uint8 -> (B, 1, S, S) float32 in [0, 1]."""
    scaled = images.float() / 255
    return rgb_to_grayscale(scaled) if images.shape[1] == 3 else scaled


def _maps(draws: _Draws, side: int) -> Tensor:
    """(B, 2, 3)."""
    distorted = draws.chances[:, :1] < 0.5
    resize = (side + 5) / side * (1 + SCALE * (2 * draws.scale - 1))
    turn = rotations(torch.where(distorted, ANGLE * (2 * draws.angle - 1), 0.0)[:, 0])
    shift = torch.where(distorted, SHIFT * side * (2 * draws.shift - 1), 0.0)
    # Three corners, upper left, lower left and upper right, move each by its own step.
    corners = torch.where(distorted, WARP * (2 * draws.corners - 1), 0.0)
    first, lower, right = corners.view(-1, 3, 2).unbind(1)
    bend = torch.eye(2) + torch.stack([right - first, lower - first], 2)
    # Away from the corner that it is told by, the bend moves the centre too.
    drift = side * (first + (right - first + lower - first) / 2)
    mirror = mirrors(draws.chances[:, 1] < 0.5)
    crop = 2.5 - (6 * draws.crop).floor()
    moved = mirror @ ((bend @ shift[:, :, None]).squeeze(2) + drift)[:, :, None]
    linear = mirror @ bend @ turn * resize[:, :, None]
    return about_centre(linear, moved.squeeze(2) + crop, side)


def _relight(images: Tensor, draws: _Draws) -> Tensor:
    """(B, 1, S, S) float32 in [0, 1] -> the same."""
    factors = torch.where(draws.chances[:, 2:5] < 0.5, 1 + LIGHT * (2 * draws.light - 1), 1.0)
    brightness, contrast, gamma = factors.T.contiguous().to(images.device, non_blocking=True)
    lit = adjust_brightness_accumulative(images, brightness)
    lit = adjust_gamma(adjust_contrast_with_mean_subtraction(lit, contrast), gamma)
    # Which images are equalised or blurred is known on the host: the others are not computed.
    equalised, blurred = ((draws.chances[:, i] < 0.25).nonzero()[:, 0] for i in (5, 6))
    if len(equalised):
        at, tiles = equalised.to(images.device, non_blocking=True), min(8, images.shape[-1] // 4)
        lit = lit.index_copy(0, at, equalize_clahe(lit[at], 2.0, (tiles, tiles)))
    if len(blurred):
        at = blurred.to(images.device, non_blocking=True)
        # Kornia checks the widths, so they stay on the host until it has.
        widths = torch.tensor(BLURS)[(len(BLURS) * draws.blur[blurred, 0]).long()]
        lit = lit.index_copy(0, at, gaussian_blur2d(lit[at], (7, 7), widths[:, None].expand(-1, 2)))
    return lit


def _normalize(grey: Tensor, channels: int) -> Tensor:
    """(B, 1, S, S) in [0, 1] -> (B, channels, S, S)."""
    if channels == 1:
        return (grey - sum(MEAN) / 3) / (sum(DEVIATION) / 3)
    return torch.cat([(grey - mean) / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)], 1)
