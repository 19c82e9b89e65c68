"""Where a trunk starts: drawn weights, or weights that were trained before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from mdml.errors import MethodError


def draw_weights(trunk: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    """Fill the weights of all convolutions and linear layers by `draw`, in place; their biases become 0."""
    for module in trunk.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def load_weights(
    trunk: nn.Module,
    weights: str | None,
    channels: int,
    architecture: str,
    stem: str,
    classifier: str | None = None,
    imagenet: WeightsEnum | None = None,
) -> nn.Module:
    """Fill a trunk with weights, in place, and give it back.

    Args:
        trunk: as it was built.
        weights: None to leave it as it is; "imagenet" for torchvision's (fetched by torchvision when the network allows); else the path
            of a local state dict.
        channels: of the images. One channel takes the sum of the filters of three, so that a grey image gives what its three equal
            channels gave.
        architecture: with its article, for messages: "a ResNet-18".
        stem: name of the weight of the first convolution.
        classifier: how the names of a classifier begin that is ignored where the weights have one; None: the trunk has no such form.
        imagenet: torchvision's weights; None where there are none of this architecture.

    Raises:
        MethodError: where the weights cannot be had or do not fit.

    """
    if weights is None:
        return trunk
    state = _read(weights, imagenet, architecture)
    if classifier is not None:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(classifier)}
    first = state.get(stem)
    if first is not None and channels == 1 and first.ndim == 4 and first.shape[1] == 3:
        state[stem] = first.sum(1, keepdim=True)
    try:
        trunk.load_state_dict(state)
    except RuntimeError as error:
        raise MethodError(
            f"The weights of {weights} do not fit {architecture}: {str(error).splitlines()[1].strip()}"
        ) from error
    return trunk


def _read(weights: str, imagenet: WeightsEnum | None, architecture: str) -> dict[str, Tensor]:
    if weights == "imagenet":
        if imagenet is None:
            raise MethodError(
                f"There are no ImageNet weights of {architecture}: backbone.weights must be null or the path of a state dict."
            )
        try:
            return dict(imagenet.get_state_dict(progress=False))
        except (URLError, OSError) as error:
            raise MethodError(
                f"torchvision could not fetch its ImageNet weights ({error}): name a local file in backbone.weights, or null."
            ) from error
    if not Path(weights).is_file():
        raise MethodError(
            f'backbone.weights must be null, "imagenet" or the path of a state dict, but there is no file {weights}.'
        )
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    except Exception as error:
        raise MethodError(f"backbone.weights must hold a state dict of tensors; {weights} does not: {error}") from error
