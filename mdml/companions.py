"""Companions: images that come along with the queries of a batch, for losses that compare a query with chosen others.

A batch is K queries and then, query after query, the T companions of each. Companions are drawn on the host from the training's own
generator, so that the same seed gives the same ones on any device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from mdml.relatives import Blocks, chances, check_two_classes, nearest_strangers, subjects_of
from mdml.session import TrainingSet


class Companions(Protocol):
    """What gives the companions of a batch.

    Attributes:
        per_query: T.
        shares_view: whether a companion is cropped and mirrored as its query is; only with T = 1.

    """

    per_query: int
    shares_view: bool

    def draw(self, queries: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The companions of queries (K,) int64, positions among the training images, on the host.

        Returns:
            (K x T, C, S, S) uint8 and labels (K x T,) int64, query after query, on the device of the training images.

        """


class ChosenCompanions(ABC):
    """Companions out of the training images."""

    shares_view = False

    def __init__(self, training: TrainingSet, per_query: int) -> None:
        check_two_classes(training)
        self.training, self.per_query = training, per_query

    @abstractmethod
    def choose(self, queries: Tensor, generator: torch.Generator) -> Tensor:
        """Positions among the training images: (K,) int64 -> (K, T) int64."""

    def draw(self, queries: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See Companions."""
        chosen = self.choose(queries, generator).flatten()
        images, labels = self.training.images, self.training.labels
        return images[self.training.index[chosen].to(images.device)], labels[chosen].to(images.device)


class RandomTriplets(ChosenCompanions):
    """For every query a positive, another image of its class, and a negative, one of another class, both at random.

    Source: the random triplets of Marrero-Fernandez et al. 2020. An image that is alone in its class is its own positive.
    """

    def __init__(self, training: TrainingSet) -> None:
        super().__init__(training, 2)
        self.blocks = Blocks(torch.zeros_like(training.labels), training.labels, training.classes)

    def choose(self, queries: Tensor, generator: torch.Generator) -> Tensor:
        """Positive and negative: (K,) -> (K, 2)."""
        chance = chances(2, len(queries), generator=generator)
        return torch.stack([self.blocks.beside(queries, chance[0])[0], self.blocks.across(queries, chance[1])[0]], 1)


class IdentityTuplets(ChosenCompanions):
    """For every query N positives of its class and M negatives of its own subject, one of every other expression.

    Source: the mining of 2B(N+M), Liu et al. 2017 and 2019. Positives are random images of the class, all different while they last; an
    image that is alone in its class is its own positive; candidate pools of 60 images, recalled from the paper and not verified, are left
    out, since the hinge drops what lies right already. Where the subject does not show an expression, the negative is the image of
    another class and another subject that looks most alike (for a second such expression the next one), by mdml.relatives.descriptors.

    Args:
        training: with subjects.
        positives: N.
        negatives: M; None for C - 1. The other expressions are gone through in random order, again and again if M is larger.

    """

    def __init__(self, training: TrainingSet, positives: int = 6, negatives: int | None = None) -> None:
        self.negatives = training.classes - 1 if negatives is None else negatives
        super().__init__(training, positives + self.negatives)
        self.positives = positives
        self.blocks = Blocks(subjects_of(training), training.labels, training.classes)
        self.members = [(training.labels == label).nonzero()[:, 0] for label in range(training.classes)]
        lacking = (self.blocks.counts == 0).any(1)[self.blocks.group]
        self.nearest, self.found = _substitutes(training, lacking, self.negatives)
        self.note = (
            f"the other expressions of the same subject; {int(lacking.sum())} of {len(lacking)} images are of subjects "
            "who lack some, for which the most similar other-class images (grey, 16x16) of other subjects stand"
        )

    def choose(self, queries: Tensor, generator: torch.Generator) -> Tensor:
        """Positives, then negatives: (K,) -> (K, N + M)."""
        positives = torch.stack([self._positives(int(query), generator) for query in queries])
        return torch.cat([positives, self._negatives(queries, generator)], 1)

    def _positives(self, query: int, generator: torch.Generator) -> Tensor:
        members = self.members[int(self.training.labels[query])]
        others = members[members != query] if len(members) > 1 else members
        passes = -(-self.positives // len(others))
        order = [torch.randperm(len(others), generator=generator) for _ in range(passes)]
        return others[torch.cat(order)[: self.positives]]

    def _negatives(self, queries: Tensor, generator: torch.Generator) -> Tensor:
        classes, own = self.training.classes, self.training.labels[queries, None]
        turns = chances(len(queries), classes, generator=generator).scatter(1, own, 2.0).argsort(1)
        labels = turns[:, torch.arange(self.negatives) % (classes - 1)]
        subjects = self.blocks.group[queries, None].expand_as(labels)
        chosen, members = self.blocks.within(subjects, labels, chances(*labels.shape, generator=generator))
        turn = ((members == 0).cumsum(1) - 1).clamp_min(0) % self.found[queries, None]
        return torch.where(members > 0, chosen, self.nearest[queries].gather(1, turn))


class MinedReferences(ChosenCompanions):
    """For every query one reference: an image of the same subject with another expression, at random.

    It stands in for the generated reference of Liu et al. 2019 (our choice), and is cropped and mirrored as its query is. Where the
    subject shows one expression only, it is the most similar image of another class and another subject, as in IdentityTuplets.

    Args:
        training: with subjects.

    """

    shares_view = True

    def __init__(self, training: TrainingSet) -> None:
        super().__init__(training, 1)
        self.blocks = Blocks(subjects_of(training), training.labels, training.classes)
        lonely = ((self.blocks.counts > 0).sum(1) == 1)[self.blocks.group]
        self.nearest, _ = _substitutes(training, lonely, 1)
        self.note = (
            f"mined: another expression of the same subject; {int(lonely.sum())} of {len(lonely)} images are of subjects "
            "with one expression, for which the most similar other-class image (grey, 16x16) of another subject stands"
        )

    def choose(self, queries: Tensor, generator: torch.Generator) -> Tensor:
        """Reference: (K,) -> (K, 1)."""
        chosen, others = self.blocks.across(queries, chances(len(queries), generator=generator))
        return torch.where(others > 0, chosen, self.nearest[queries, 0])[:, None]


class GeneratedReferences:
    """For every query the reference that was generated from it.

    Args:
        images: (M, C, S, S) uint8, one for each training image, on the device of these.

    """

    per_query, shares_view = 1, True

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def draw(self, queries: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See Companions; the labels are -1: a generated face is of no class."""
        queries = queries.to(self.images.device)
        return self.images[queries], torch.full_like(queries, -1)


def _substitutes(training: TrainingSet, needed: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The nearest strangers of the images that need them, in tables with a row for every image: (M, most), (M,)."""
    nearest, found = torch.zeros(len(needed), most, dtype=torch.int64), torch.ones(len(needed), dtype=torch.int64)
    rows = needed.nonzero()[:, 0]
    if len(rows):
        nearest[rows], found[rows] = nearest_strangers(training, rows, most)
    return nearest, found
