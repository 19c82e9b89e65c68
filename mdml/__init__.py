"""The science: losses, models, augmentation, training, evaluation, diagnostics. Knows torch, and no scheduler or storage."""

from mdml.errors import MethodError

__all__ = ["MethodError"]
