"""Who is related to whom among the training images: by class, by subject, and by looks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.errors import MethodError
from mdml.session import TrainingSet

# Side of the small grey picture by which looks are compared.
THUMB = 16


class Blocks:
    """Positions sorted by group and, within a group, by part: random members in one step for a whole batch.

    Args:
        groups: (M,) int64, any ids.
        parts: (M,) int64 in 0 .. count - 1.
        count: number of parts P.

    Attributes:
        group: (M,) the ids of groups as 0 .. G - 1.
        counts: (G, P) members.

    """

    def __init__(self, groups: Tensor, parts: Tensor, count: int) -> None:
        self.group, self.part = groups.unique(return_inverse=True)[1], parts
        keys = self.group * count + parts
        self.order = keys.argsort(stable=True)
        self.rank = torch.empty_like(self.order).scatter_(0, self.order, torch.arange(len(keys)))
        rows = int(self.group.max()) + 1
        self.counts = torch.bincount(keys, minlength=rows * count).view(rows, count)
        self.starts = (self.counts.flatten().cumsum(0) - self.counts.flatten()).view_as(self.counts)

    def beside(self, positions: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """Another member of each one's part of its group: (K,), (K,) in [0, 1) -> (K,), and the number to choose from (K,).

        Where there is none, it is the one itself.
        """
        group, part = self.group[positions], self.part[positions]
        start, others = self.starts[group, part], self.counts[group, part] - 1
        drawn = start + _below(others, chance)
        drawn += (drawn >= self.rank[positions]) & (others > 0)
        return self.order[torch.where(others > 0, drawn, start)], others

    def across(self, positions: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """A member of each one's group outside its part: as `beside`; where there is none, the answer means nothing."""
        group, part = self.group[positions], self.part[positions]
        others = self.counts[group].sum(1) - self.counts[group, part]
        drawn = self.starts[group, 0] + _below(others, chance)
        drawn += (drawn >= self.starts[group, part]) * self.counts[group, part]
        return self.order[torch.where(others > 0, drawn, 0)], others

    def within(self, groups: Tensor, parts: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """A member of each part: groups, parts and chance of one shape; where there is none, the answer means nothing."""
        members = self.counts[groups, parts]
        drawn = self.starts[groups, parts] + _below(members, chance)
        return self.order[torch.where(members > 0, drawn, 0)], members


def _below(count: Tensor, chance: Tensor) -> Tensor:
    """A whole number in 0 .. count - 1 for a chance in [0, 1); 0 where the count is 0."""
    return (chance * count).long()


def chances(*shape: int, generator: torch.Generator) -> Tensor:
    """Uniform in [0, 1), float64, on the host."""
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def subjects_of(training: TrainingSet) -> Tensor:
    """Who is on each training image: (M,) int64.

    Raises:
        MethodError: where the data set does not say.

    """
    if training.subjects is None:
        raise MethodError(
            "This method chooses images by who is on them, and this data set names no subjects: use one that does, or another method."
        )
    return training.subjects


def check_two_classes(training: TrainingSet) -> None:
    """Raise MethodError unless the training images show two classes at least."""
    if bool((training.labels == training.labels[0]).all()):
        raise MethodError(
            f"This method needs training images of at least two classes, found class {int(training.labels[0])} alone."
        )


def descriptors(training: TrainingSet) -> Tensor:
    """A cheap fixed description of looks: the image in grey at 16 x 16, zero mean and unit length: (M, 256) float32 on the host.

    Our choice: the papers compare images by embeddings that change while they train.
    """
    rows = []
    for chunk in training.index.split(1024):
        grey = training.images[chunk.to(training.images.device)].float().mean(1, keepdim=True)
        small = F.adaptive_avg_pool2d(grey, THUMB).flatten(1).cpu()
        rows.append(F.normalize(small - small.mean(1, keepdim=True), dim=1))
    return torch.cat(rows)


def nearest_strangers(training: TrainingSet, positions: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The images of other classes and other subjects that look most alike.

    Where all other classes are of the same subject, these.

    Args:
        training: with subjects.
        positions: (K,) int64.
        most: how many to find for each.

    Returns:
        (K, most) int64, the nearest first; and (K,), how many of them there are.

    """
    looks, subjects, labels = descriptors(training), subjects_of(training), training.labels
    nearest, found = [torch.zeros(0, most, dtype=torch.int64)], [torch.zeros(0, dtype=torch.int64)]
    for chunk in positions.split(1024):
        other_class = labels[chunk, None] != labels
        strangers = other_class & (subjects[chunk, None] != subjects)
        allowed = torch.where(strangers.any(1, keepdim=True), strangers, other_class)
        likeness = (looks[chunk] @ looks.T).masked_fill(~allowed, -torch.inf)
        ranked = likeness.topk(min(most, len(labels)), 1).indices
        nearest.append(F.pad(ranked, (0, most - ranked.shape[1])))
        found.append(allowed.sum(1).clamp_max(most))
    return torch.cat(nearest), torch.cat(found)
