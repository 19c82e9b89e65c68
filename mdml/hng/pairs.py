"""Pairs of an expressive face and the neutral faces of the same subject."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdml.errors import MethodError


@dataclass(frozen=True, eq=False)
class Pairs:
    """What the generator learns from, as positions in the arrays that it was made of.

    Attributes:
        inputs: (P,) int64, the expressive faces whose subject has a neutral one.
        targets: (T,) int64, the neutral faces of subjects with an expressive one, subject by subject: the guiding set.
        first: (P,) int64, where in targets those of an input's subject begin.
        count: (P,) int64, how many there are.
        subjects: how many subjects take part.

    """

    inputs: Tensor
    targets: Tensor
    first: Tensor
    count: Tensor
    subjects: int

    def draw(self, pairs: Tensor, generator: torch.Generator) -> Tensor:
        """A neutral face of the same subject, each as likely as the others, for every one of pairs (B,): positions (B,)."""
        chance = torch.rand(len(pairs), generator=generator, dtype=torch.float64)
        return self.targets[self.first[pairs] + (chance * self.count[pairs]).long()]


def pair_up(labels: Tensor, subjects: Tensor, neutral: int | None) -> Pairs:
    """Pair every expressive face with the neutral faces of its subject.

    Args:
        labels: (M,) int64 on the host.
        subjects: (M,) int64 on the host.
        neutral: the class of neutral faces; None where the data set has none.

    Raises:
        MethodError: where there is not a single pair.

    """
    instead = "the method rml takes other images of the same subject for references and needs none."
    if neutral is None:
        raise MethodError(
            f"The generator of idferm learns from neutral faces, but the data set has no class named neutral: {instead}"
        )
    calm = labels == neutral
    both = [who for who in subjects.unique() if calm[subjects == who].any() and not calm[subjects == who].all()]
    if not both:
        raise MethodError(
            f"The generator of idferm learns from pairs of an expressive and a neutral face of one subject, but among the "
            f"{len(labels)} training images of {len(subjects.unique())} subjects there is no such pair: {instead}"
        )
    targets, inputs, first, count = [], [], [], []
    begin = 0
    for who in both:
        own = subjects == who
        faces, neutrals = (own & ~calm).nonzero()[:, 0], (own & calm).nonzero()[:, 0]
        inputs.append(faces)
        targets.append(neutrals)
        first.append(torch.full_like(faces, begin))
        count.append(torch.full_like(faces, len(neutrals)))
        begin += len(neutrals)
    return Pairs(torch.cat(inputs), torch.cat(targets), torch.cat(first), torch.cat(count), len(both))
