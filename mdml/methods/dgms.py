"""Deep Gaussian Mixture Sub-space: the SGM loss over sub-classes, which a mixture inside each class finds anew level by level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.losses.sgm import group_means, posterior_loss, posteriors
from mdml.methods.base import Method, StepLoss, check_number
from mdml.models.grouped import GroupedHead
from mdml.models.head import Output
from mdml.session import Session, TrainingSet
from mdml.subspace import contact_sheet, representatives, split_classes

LEVELS = 5


@dataclass(frozen=True)
class DGMS(Method):
    """L = SGM over sub-classes (Marrero-Fernandez et al. 2020, Algorithm 2).

    The epochs are cut into `levels` equal parts. Part l trains on l sub-classes a class: at its start, the training images are embedded
    and a mixture of l Gaussians is fitted inside each original class. That a level has one sub-class more, and not twice as many, is
    our reading of the paper's 40 groups of 8 classes; that all levels last equally long is our choice.

    Args:
        sigma: deviation of the loss's Gaussians, in units of the embedding; 0.5 is the authors' last word before the paper.
        levels: L, at most the number of epochs, and so the most sub-classes that a class can have; with 1 it is the method sgm.
            None for 5, or for one level an epoch where there are fewer epochs.

    """

    slice_dim: int = 64
    sigma: float = 0.5
    levels: int | None = None

    sampler: ClassVar[str | None] = "balanced"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("sigma", self.sigma, above=True)
        if self.most < 1:
            raise MethodError(f"method.levels must be at least 1, found {self.levels}.")

    @property
    def most(self) -> int:
        """The levels where there are epochs enough."""
        return LEVELS if self.levels is None else self.levels

    def check_epochs(self, epochs: int) -> None:
        """Raise MethodError where levels would be left out that were asked for."""
        if self.levels is not None and self.levels > epochs:
            raise MethodError(
                f"method.levels must be at most the number of epochs, {epochs}, since every level lasts one at least, "
                f"found {self.levels}: lower it, or train longer."
            )

    @property
    def per_class(self) -> int:
        """Two of each sub-class."""
        return 2 * self.most

    @property
    def normalized(self) -> bool:
        """The loss sees embeddings as they are."""
        return False

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The embedding alone, with the number of classes for the loss."""
        return GroupedHead(in_features, self.slice_dim, classes)

    def session(self, training: TrainingSet) -> Session:
        """The sub-classes."""
        return SubClassSession(training, self.most)

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """SGM of a batch: labels (B,) int64 are sub-classes, numbered as mdml.subspace.SubClasses does; scores are those of classes.

        The posterior of a class is the sum of those of its sub-classes.
        """
        embedding, classes = output.slices[0], int(output.extra)
        means, present = group_means(embedding, labels, self.most * classes)
        probabilities = posteriors(embedding, means, present, self.sigma)
        total = posterior_loss(probabilities, labels)
        scores = probabilities.detach().unflatten(1, (self.most, classes)).sum(1)
        return StepLoss(total, None, total.detach()[None], scores=scores)


class SubClassSession(Session):
    """The sub-classes of one training: its labels are theirs.

    `notes` says how many there are and where the mixtures fell back; `pictures` has a sheet of them as they are at the start of the
    last epoch: a row each, class by class and in a class the largest first, with the medoid and then its nearest.
    """

    def __init__(self, training: TrainingSet, levels: int) -> None:
        super().__init__(training)
        self.levels, self.level = levels, 1

    def begin_epoch(self, epoch: int, epochs: int, embed: Callable[[], Tensor]) -> None:
        """Find the sub-classes of a new level, and draw them at the start of the last epoch; a level lasts an epoch at least."""
        if epoch == 1:
            self.levels = min(self.levels, epochs)
            self.notes = self._notes(())
        level = 1 + (epoch - 1) * self.levels // epochs
        if level == self.level and epoch < epochs:
            return
        training, vectors = self.training, embed().cpu().numpy()
        if level > self.level:
            self.level = level
            found = split_classes(vectors, training.labels.numpy(), training.classes, level, training.seed)
            self.labels = torch.from_numpy(found.labels)
            self.notes = self._notes(found.diagonal)
        if epoch == epochs:
            groups = representatives(vectors, self.labels.numpy())
            ordered = sorted(groups, key=lambda group: (group % training.classes, group))
            rows = [training.index.numpy()[groups[group]] for group in ordered]
            self.pictures["sub-classes"] = contact_sheet(training.images, rows)

    def _notes(self, diagonal: Sequence[int]) -> dict[str, str]:
        sizes = self.labels.bincount(minlength=self.levels * self.training.classes).view(self.levels, -1)
        counts, images = (sizes > 0).sum(0).tolist(), sizes.sum(0).tolist()
        notes = {"sub-classes": f"{sum(counts)}, of level {self.level} of {self.levels}"}
        fewer = [f"{n} in class {c} of {images[c]} images" for c, n in enumerate(counts) if n < self.level]
        if fewer:
            notes["fewer sub-classes"] = ", ".join(fewer)
        if diagonal:
            notes["diagonal covariances"] = f"in classes {', '.join(map(str, diagonal))}: too few images for full ones"
        return notes


METHOD = DGMS
