"""Losses are computed in float32 at least, whatever the precision of the network."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """A context without autocast on the tensor's device; the device "meta" has none to switch off."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def raised(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is: same shape."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
