"""Whether a generated neutral face is that of its own subject: is it nearest to the true neutral face of that subject?

Distance: plain Euclidean over all pixels and channels of images standardised to zero mean and unit deviation (each channel of each
image), so that neither brightness nor contrast decides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdml.augmentation import standardize
from mdml.errors import MethodError
from mdml.metrics import euclidean


def true_distances(images: Tensor, truths: Tensor) -> Tensor:
    """Distance of every image to every true face: (N, C, S, S) and (P, C, S, S) of one type -> (N, P) float32."""
    if images.shape[1:] != truths.shape[1:]:
        raise MethodError(
            f"Expected images and true faces of one size, found {tuple(images.shape)}, {tuple(truths.shape)}."
        )
    one, other = (standardize(faces.float()).flatten(1) for faces in (images, truths))
    return euclidean.distances(one, other)


def nearest_is_own(distances: Tensor, subjects: Tensor) -> Tensor:
    """Whether the nearest of the P true faces is the subject's own: (N, P), (N,) positions of the own ones -> (N,) bool."""
    return distances.argmin(1) == subjects


def by_subject(distances: Tensor, subjects: Tensor, rule: str = "majority") -> Tensor:
    """Whether each of the P subjects is found in its images: (P,) bool.

    Args:
        distances: (N, P), at least one image of every subject.
        subjects: (N,) int64 in 0..P-1, position of the own true face.
        rule: "majority", more than half of its images are nearest to the own true face; or "mean", the mean distance of its images
            to the own true face is less than that to any other.

    """
    count = distances.shape[1]
    own = torch.nn.functional.one_hot(subjects, count).to(distances)
    if rule == "majority":
        return own.T @ nearest_is_own(distances, subjects).to(distances) > own.sum(0) / 2
    if rule == "mean":
        means = own.T @ distances / own.sum(0)[:, None]
        return means.argmin(1) == torch.arange(count, device=means.device)
    raise MethodError(f"Expected the rule majority or mean, found {rule!r}.")
