"""Augmentation of the networks 2B(N+M) and IDFERM: five crops and their mirror images, evenly lit."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mdml.augmentation.base import Augmentation
from mdml.augmentation.normalize import equalize_plane


class IDFERM(Augmentation):
    """One of five crops (the corners and the centre), mirrored or not, then histogram equalisation and plane fitting per channel.

    Source: Liu et al. 2019: 64 x 64 grey faces, five crops of 60 x 60 and a flip, ten images of one. Here one of the ten is drawn each
    time that an image is met, which is equal in distribution. A crop is 4 pixels smaller than its image, whatever the size. The centre
    crop is the test view. The paper aligns faces by 49 landmarks before: that is left to the data set.
    """

    margin: ClassVar[int] = 4

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one of the ten crops for every image: (B, C, S, S) uint8 -> (B, C, S - 4, S - 4) float32."""
        batch = len(images)
        end, middle = self.margin, self.margin // 2
        corners = torch.tensor([(0, 0), (0, end), (end, 0), (end, end), (middle, middle)])
        top, left = corners[torch.randint(len(corners), (batch,), generator=generator)].T
        mirror = torch.rand(batch, generator=generator) < 0.5
        steps = torch.arange(images.shape[-1] - self.margin)
        columns = left[:, None] + torch.where(mirror[:, None], steps.flip(0), steps)
        rows, columns = torch.stack([top[:, None] + steps, columns]).to(images.device, non_blocking=True)
        channels, side, seen = images.shape[1], images.shape[-1], len(steps)
        lines = images.gather(2, rows[:, None, :, None].expand(-1, channels, -1, side))
        return equalize_plane(lines.gather(3, columns[:, None, None, :].expand(-1, channels, seen, -1)))

    def test(self, images: Tensor) -> Tensor:
        """The centre crop: (B, C, S, S) uint8 -> (B, C, S - 4, S - 4) float32."""
        cut = self.margin // 2
        return equalize_plane(images[..., cut:-cut, cut:-cut])
