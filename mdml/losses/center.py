"""Center loss (Wen et al., ECCV 2016) and island loss (Cai et al., FG 2018): one running centre a class.

Convention: centres take no gradient; `Centers.step` moves them, outside autograd. They start at 0 (our choice). Embeddings are not
normalised. pytorch-metric-learning has neither loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.losses.batch import check_batch
from mdml.losses.precision import full_precision, raised

# A centre shorter than this points nowhere.
GUARD = 1e-8


def center_loss(embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """|f_i - c_yi|^2 / 2, mean over the batch (the paper sums): ().

    Args:
        embeddings: (B, D) float; half precision is raised to float32.
        labels: (B,) int64 in 0 .. C - 1.
        centers: (C, D) float.

    Raises:
        MethodError: where shapes do not fit.

    """
    check_batch(embeddings, labels)
    _check_centers(embeddings, centers)
    with full_precision(embeddings):
        embeddings = raised(embeddings)
        return 0.5 * (embeddings - centers.detach().to(embeddings)[labels]).square().sum(1).mean()


def island_term(centers: Tensor) -> Tensor:
    """Sum over ordered pairs of different centres of cos(c_j, c_k) + 1: (C, D) -> (), a constant to the embeddings.

    A centre at 0 has cosine 0 with all others.
    """
    with full_precision(centers):
        units = F.normalize(raised(centers.detach()), dim=1, eps=GUARD)
        cosines = (units @ units.mT).fill_diagonal_(-1)
        return (cosines + 1).sum()


def island_pull(centers: Tensor) -> Tensor:
    """How the island term turns the centres in their step: (C, D) -> (C, D), orthogonal to each centre.

    For centre j, the sum over the others k of c_k / (|c_j| |c_k|) - (c_j.c_k) c_j / (|c_j|^3 |c_k|), over C - 1, as public code has it
    (recalled from the paper, not verified). A centre at 0 has no direction: it neither turns nor turns others.
    """
    with full_precision(centers):
        centers = raised(centers.detach())
        lengths = torch.linalg.vector_norm(centers, dim=1, keepdim=True)
        units = F.normalize(centers, dim=1, eps=GUARD)
        cosines = (units @ units.mT).fill_diagonal_(0)
        pull = (units.sum(0) - units - cosines.sum(1, keepdim=True) * units) / lengths.clamp_min(GUARD)
        return pull.masked_fill(lengths < GUARD, 0) / max(1, len(centers) - 1)


class Centers(nn.Module):
    """The centres (C, D) of the classes, as a buffer.

    Args:
        classes: number of classes C.
        width: D, the width of the embedding.

    """

    centers: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.zeros(classes, width))

    @torch.no_grad()
    def step(self, embeddings: Tensor, labels: Tensor, rate: float = 0.5, island_weight: float = 0.0) -> None:
        """Move each centre j of the batch: c_j <- c_j - rate * (sum_{i of j} (c_j - f_i) / (1 + n_j) + island_weight * pull_j).

        Centres of classes that the batch lacks stay.

        Args:
            embeddings: (B, D) float.
            labels: (B,) int64 in 0 .. C - 1.
            rate: 0.5 is recalled from the paper of the center loss, not verified.
            island_weight: of `island_pull`; 0 for the center loss.

        Raises:
            MethodError: where shapes do not fit.

        """
        check_batch(embeddings, labels)
        _check_centers(embeddings, self.centers)
        with full_precision(embeddings):
            members = (labels == torch.arange(len(self.centers), device=labels.device)[:, None]).to(self.centers)
            counts = members.sum(1, keepdim=True)
            change = members @ (self.centers[labels] - embeddings.to(self.centers)) / (1 + counts)
            if island_weight:
                change += island_weight * island_pull(self.centers)
            self.centers.sub_(rate * change * (counts > 0))


def _check_centers(embeddings: Tensor, centers: Tensor) -> None:
    if centers.ndim != 2 or centers.shape[1] != embeddings.shape[1]:
        raise MethodError(
            f"Expected centres (C, {embeddings.shape[1]}) for embeddings {tuple(embeddings.shape)}, found {tuple(centers.shape)}."
        )
