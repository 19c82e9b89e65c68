"""ResNet-18 trunk from torchvision: images to 512 features."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from mdml.errors import MethodError

FEATURES = 512


def resnet18(channels: int = 3, weights: str | None = None) -> nn.Module:
    """ResNet-18 up to its average pool: (B, channels, H, W) float -> (B, 512); 11,176,512 parameters at 3 channels.

    Args:
        channels: 1 (grey) or 3 (RGB). One channel takes the sum of the three filters of pretrained weights.
        weights: None for a random start; "imagenet" for torchvision's (fetched by torchvision when the network allows); else the path
            of a local state dict (the classifier `fc` in it is ignored).

    Raises:
        MethodError: where the weights cannot be had or do not fit.

    """
    network = torchvision.models.resnet18(weights=None)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.fc = nn.Identity()
    if weights is not None:
        _load(network, _read(weights), channels, weights)
    return network


def _read(weights: str) -> dict[str, Tensor]:
    if weights == "imagenet":
        try:
            return dict(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False))
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


def _load(network: nn.Module, state: dict[str, Tensor], channels: int, source: str) -> None:
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    stem = state.get("conv1.weight")
    if stem is not None and channels == 1 and stem.shape[1] == 3:
        state["conv1.weight"] = stem.sum(1, keepdim=True)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise MethodError(
            f"The weights of {source} do not fit a ResNet-18: {str(error).splitlines()[1].strip()}"
        ) from error
