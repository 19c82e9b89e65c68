"""Augmentation on the device, by Kornia where it has the operation.

Rotation, resizing, cropping and mirroring compose to one affine map, so that an image is resampled once and a batch costs one kernel.
"""

from __future__ import annotations

from mdml.augmentation.affine import Affine
from mdml.augmentation.base import Augmentation
from mdml.augmentation.ferplus import FERPlus
from mdml.augmentation.idferm import IDFERM
from mdml.augmentation.normalize import equalize_plane, standardize
from mdml.augmentation.sgm import SGM
from mdml.errors import MethodError

_CORNER = 6 / 224
AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Affine(),
    # Yang et al. 2024, public code: rotate by one of five angles, resize 224 -> 236, crop at a corner or the centre, flip.
    "paper": Affine(
        angles=(-10.0, -5.0, 0.0, 5.0, 10.0),
        zoom=236 / 224,
        shifts=((0.0, 0.0), *((x, y) for x in (-_CORNER, _CORNER) for y in (-_CORNER, _CORNER))),
        mirror=0.5,
    ),
    # For small images: whole-pixel shifts and a flip, which leave the pixels as they are.
    "light": Affine(shifts=None, reach=1 / 16, mirror=0.5),
    "sgm": SGM(),
    "idferm": IDFERM(),
    "ferplus": FERPlus(),
}

__all__ = ["AUGMENTATIONS", "Affine", "Augmentation", "augmentation", "equalize_plane", "standardize"]


def augmentation(name: str) -> Augmentation:
    """The augmentation of that name.

    Raises:
        MethodError: where there is none.

    """
    if name not in AUGMENTATIONS:
        raise MethodError(
            f"Expected an augmentation out of {', '.join(AUGMENTATIONS)}, found augmentation.name={name}."
        )
    return AUGMENTATIONS[name]
