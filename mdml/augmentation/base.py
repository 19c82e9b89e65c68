"""What a network sees of an image: drawn anew in training, fixed in evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Augmentation(ABC):
    """A distribution over views of an image, and the one view by which it is judged.

    Everything is drawn from the given generator, on the host, and the number of draws depends on the batch size and the side alone:
    a trial's augmentation depends on its seed and not on the device, and generators in equal states draw equal views of other images.

    Attributes:
        margin: pixels a side that a view is smaller than its image.

    """

    margin: ClassVar[int] = 0

    @abstractmethod
    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A drawn view of every image, normalised: (B, C, S, S) uint8 -> (B, C, S - margin, S - margin) float32."""

    @abstractmethod
    def test(self, images: Tensor) -> Tensor:
        """The fixed view of every image, normalised: (B, C, S, S) uint8 -> (B, C, S - margin, S - margin) float32."""
