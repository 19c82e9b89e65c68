"""SGM: an embedding that is a mixture of one spherical Gaussian a class, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mdml.losses.sgm import group_means, posterior_loss, posteriors
from mdml.methods.base import Method, StepLoss, check_number
from mdml.models.grouped import GroupedHead
from mdml.models.head import Output


@dataclass(frozen=True)
class SGM(Method):
    """L = SGM over classes (Marrero-Fernandez et al. 2020, eq. 1-4 and Algorithm 1); no cross-entropy, prediction by neighbours.

    The authors' later code has a mixup of embeddings, a nearest-neighbour term and nets with a cross-entropy beside; the paper has none
    of them, and they are left out.

    Args:
        sigma: deviation of the Gaussians, in units of the embedding; 0.5 is the authors' last word before the paper, 1 an earlier one.
        eps_form: the authors' code instead of a softmax, only to reproduce it: samples far from all means then cost 1 and do not learn.

    """

    slice_dim: int = 64
    sigma: float = 0.5
    eps_form: bool = False

    sampler: ClassVar[str | None] = "balanced"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("sigma", self.sigma, above=True)

    @property
    def per_class(self) -> int:
        """Two."""
        return 2

    @property
    def normalized(self) -> bool:
        """The loss sees embeddings as they are."""
        return False

    def head(self, in_features: int, classes: int) -> nn.Module:
        """The embedding alone, with the number of classes for the loss."""
        return GroupedHead(in_features, self.slice_dim, classes)

    def loss(self, output: Output, labels: Tensor) -> StepLoss:
        """SGM of a batch; its posteriors are the scores."""
        embedding, classes = output.slices[0], int(output.extra)
        means, present = group_means(embedding, labels, classes)
        probabilities = posteriors(embedding, means, present, self.sigma, self.eps_form)
        total = posterior_loss(probabilities, labels)
        return StepLoss(total, None, total.detach()[None], scores=probabilities.detach())


METHOD = SGM
