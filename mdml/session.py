"""What a method keeps while it trains one network: labels of its own making, companions of the queries, notes and pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mdml.state import put_back, taken

if TYPE_CHECKING:
    from mdml.companions import Companions


class TrainingSet(NamedTuple):
    """The faces that a training may learn from.

    Attributes:
        images: (A, C, S, S) uint8 on the device, the whole data set; only images[index] may be read.
        labels: (M,) int64 on the host, of the training images.
        subjects: (M,) int64 on the host; None where nobody is named.
        index: (M,) int64 on the host, positions in images.
        classes: number of classes C.
        neutral: the class of neutral faces, or None.
        seed: of the training.

    """

    images: Tensor
    labels: Tensor
    subjects: Tensor | None
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of that name, which nobody calls
    classes: int
    neutral: int | None
    seed: int


class Session:
    """The state of one training, apart from its network; this one keeps nothing.

    Attributes:
        labels: (M,) int64 on the host, what the sampler and the loss take for labels; a method may change it between epochs.
        companions: gives images that go with the queries of a batch, or None.
        notes: substitutes and choices that a reader of the results must know; stored with the trial.
        pictures: name -> (H, W, 3) uint8; stored with the trial.

    """

    def __init__(self, training: TrainingSet) -> None:
        self.training, self.labels = training, training.labels
        self.companions: Companions | None = None
        self.notes: dict[str, str] = {}
        self.pictures: dict[str, npt.NDArray[np.uint8]] = {}

    def begin_epoch(self, epoch: int, epochs: int, embed: Callable[[], Tensor]) -> None:
        """Called before every epoch.

        Args:
            epoch: from 1.
            epochs: of the whole training.
            embed: gives the embedding (M, N x D) float32 of the training images, in evaluation mode, without augmentation or
                normalisation.

        """

    def state(self) -> dict[str, Any]:
        """What it keeps, as plain data; a method whose session keeps more than mdml.state can tell overrides this and `restore`."""
        return taken(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of a session of the same method and training set."""
        put_back(self, state)
