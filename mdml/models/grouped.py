"""The head of losses over groups of classes: an embedding, and the number of classes."""

from __future__ import annotations

from torch import Tensor

from mdml.models.head import EmbeddingHead, Output


class GroupedHead(EmbeddingHead):
    """An embedding whose output carries the number of classes, by which a loss tells the class of a sub-class.

    Args:
        in_features: width of the trunk's feature.
        width: D of the embedding.
        classes: C.

    """

    def __init__(self, in_features: int, width: int, classes: int) -> None:
        super().__init__(in_features, width)
        self.classes = classes

    def forward(self, features: Tensor) -> Output:
        """(B, in_features) float -> Output with slices (1, B, D), no logits, and the number of classes as `extra`."""
        return super().forward(features)._replace(extra=self.classes)
