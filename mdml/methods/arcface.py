"""ArcFace (Deng et al. 2019): a classifier by cosines, trained with a margin on the angle to the own class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.losses.arcface import MARGINS, Form, arcface_logits, class_cosines
from mdml.methods.base import Layout, Method, StepLoss, check_dropout, check_number, logits_of
from mdml.models.head import EmbeddingHead, Output


@dataclass(frozen=True)
class ArcFace(Method):
    """L = CE of the logits with margin; it predicts by the logits without.

    Args:
        form: "additive" (m), or "combined" (m1, m2, m3) of Mul-DML's public code.
        scale: of the cosines; 64 is recalled from the paper, not verified. 16 to 30 is likely to train better on 7 classes.
        margins: in radians, one or three by the form; None for (0.5,), recalled and not verified, or (1, 0.2, 0.3).
        dropout: probability of dropping a unit before the classifier (our choice, as the other methods have it).

    """

    form: Form = "additive"
    scale: float = 64.0
    margins: tuple[float, ...] | None = None
    dropout: float = 0.5

    prediction: ClassVar[Literal["classifier", "knn"]] = "classifier"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dropout(self.dropout)
        check_number("scale", self.scale, above=True)
        if self.form not in MARGINS:
            raise MethodError(f'method.form must be "additive" or "combined", found {self.form!r}.')
        if self.margins is None:
            return
        margins = list(self.margins)
        if len(margins) != len(MARGINS[self.form]):
            raise MethodError(
                f"method.margins must list {len(MARGINS[self.form])} for the form {self.form}, found {len(margins)}: {margins}."
            )
        if not all(0 <= margin <= math.pi for margin in margins):
            raise MethodError(f"method.margins must lie in [0, pi], found {margins}.")

    @property
    def layout(self) -> Layout:
        """One slice, and the form."""
        return Layout(1, self.slice_dim, (), self.form)

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The embedding and the classifier by cosines."""
        return CosineHead(in_features, classes, self.slice_dim, self.dropout, self.scale)

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """Cross-entropy of the logits with margin."""
        logits = arcface_logits(output.extra, labels, self.form, self.scale, self.margins)
        cross_entropy = F.cross_entropy(logits, labels)
        return StepLoss(cross_entropy, cross_entropy.detach(), scores=logits_of(output).detach())


class CosineHead(EmbeddingHead):
    """Linear(in, D), and logits scale * cos(dropout(embedding), class weight), with the cosines (B, C) as `extra`.

    The classifier sees the embedding without relu, as the public code of Mul-DML has it, so that the angles are those of the embedding
    itself; the cosines are float32 at least.
    """

    def __init__(self, in_features: int, classes: int, width: int, dropout: float, scale: float) -> None:
        super().__init__(in_features, width)
        self.dropout, self.scale = nn.Dropout(dropout), scale
        self.classify = nn.Linear(width, classes, bias=False)

    def forward(self, features: Tensor) -> Output:
        """(B, in_features) float -> Output."""
        embedding = self.embed(features)
        cosines = class_cosines(self.dropout(embedding), self.classify.weight)
        return Output(embedding[None], self.scale * cosines, cosines)


METHOD = ArcFace
