"""The losses of the hard-negative generator (Liu et al. 2019, section 3), as functions of tensors alone.

x is an expressive face, x' the neutral face that is generated from it, y the true neutral target of the same subject, g a face of the
guiding set. Images are (B, C, H, W) float.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mdml.errors import MethodError


def feature_loss(generated: Tensor, target: Tensor) -> Tensor:
    """L_feat: mean square difference of the features phi_5 of x' and of y, both (B, K, H, W): ().

    The paper prints a mean over places and no index for the channels; the mean over both is our choice.
    """
    _same_shape(generated, target)
    return F.mse_loss(generated, target)


def symmetry_loss(images: Tensor, laplacian: bool = False) -> Tensor:
    """L_sym: mean |x'[n] - x'[W - 1 - n]| over the columns n < W / 2 (from 0) and all rows: ().

    The printed prefactor 1 / (H W) and index are garbled in the text at hand: 1 / (H W / 2) and the mirrored column are restored.

    Args:
        images: (B, C, H, W), W at least 2; the middle column of an odd width counts for nothing.
        laplacian: compare the images' Laplacians instead, on which smooth light from one side leaves no trace.

    """
    if images.ndim != 4 or images.shape[-1] < 2:
        raise MethodError(f"Expected images (B, C, H, W) of at least 2 columns, found {tuple(images.shape)}.")
    if laplacian:
        images = _laplacian(images)
    half = images.shape[-1] // 2
    return (images[..., :half] - images.flip(-1)[..., :half]).abs().mean()


def discriminator_loss(real: Tensor, generated: Tensor) -> Tensor:
    """L_GAN_Dis = -log Dis(g) - log(1 - Dis(x')), batch means, from logits (B,) of each: ()."""
    return F.softplus(-real).mean() + F.softplus(generated).mean()


def decoder_loss(generated: Tensor) -> Tensor:
    """L_GAN_Dec = -log Dis(x'), batch mean, from logits (B,): ()."""
    return F.softplus(-generated).mean()


def identity_loss(inputs: Sequence[Tensor], generated: Sequence[Tensor]) -> Tensor:
    """L_id: the sum over layers of the mean |psi_l(x) - psi_l(x')|: ().

    The paper compares the input with the output ("similarity between input and generated images"), not with the target. It prints
    no index for the channels; the mean over them is our choice.

    Args:
        inputs: features of x, one tensor a layer, batch first.
        generated: features of x', of the same shapes.

    """
    for one, other in zip(inputs, generated, strict=True):
        _same_shape(one, other)
    return torch.stack([F.l1_loss(other, one) for one, other in zip(inputs, generated, strict=True)]).sum()


def pixel_loss(generated: Tensor, target: Tensor) -> Tensor:
    """L_pixel: mean |x' - y|: ()."""
    _same_shape(generated, target)
    return F.l1_loss(generated, target)


def _laplacian(images: Tensor) -> Tensor:
    """The sum of the four neighbours less four times the pixel, borders repeated: (B, C, H, W) -> same."""
    wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across, down = wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:], wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1]
    return across + down - 4 * images


def _same_shape(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise MethodError(f"Expected two tensors of one shape, found {tuple(one.shape)} and {tuple(other.shape)}.")
