"""SGM loss: embeddings as a mixture of spherical Gaussians, one a group, whose means are those of the batch.

Source: Marrero-Fernandez et al., Deep Metric Structured Learning for FER (arXiv 2001.06612), eq. 1-4 and Algorithm 1; mean over
samples and sum over groups as in the authors' public code.

Convention: priors are equal and all Gaussians have one deviation sigma, in units of the (unnormalised) embedding, so that scaling both
changes nothing. A group is a class or a sub-class; one that a batch lacks takes no part in it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdml.errors import MethodError
from mdml.losses.batch import check_batch
from mdml.losses.precision import full_precision, raised

# What the authors' code adds to the sum of the densities instead of a softmax.
EPS = 1e-15


def group_means(embeddings: Tensor, labels: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Means of the groups, with gradient: (B, D) float, (B,) int64 -> (G, D), 0 for absent groups, and present (G,) bool."""
    with full_precision(embeddings):
        embeddings = raised(embeddings)
        members = (labels == torch.arange(groups, device=labels.device)[:, None]).to(embeddings)
        counts = members.sum(1, keepdim=True)
        return members @ embeddings / counts.clamp_min(1), counts[:, 0] > 0


def posteriors(
    embeddings: Tensor, means: Tensor, present: Tensor, sigma: float = 0.5, eps_form: bool = False
) -> Tensor:
    """Probability of every group for every sample: P_ij = softmax_j(-|z_i - mu_j|^2 / (2 sigma^2)) (eq. 1 and 3).

    Args:
        embeddings: (B, D) float.
        means: (G, D) float.
        present: (G,) bool, the groups that take part; the others have probability 0.
        sigma: deviation of all Gaussians.
        eps_form: divide by the sum of the densities plus 1e-15, as the authors' code does: a sample more than about 8.3 sigma away from
            all means then has probability 0 for each, and no gradient. Only to reproduce it.

    Returns:
        (B, G) float; half precision is raised to float32.

    """
    exponents = -(raised(embeddings)[:, None] - raised(means)).square().sum(-1) / (2 * sigma**2)
    exponents = exponents.masked_fill(~present, -torch.inf)
    if not eps_form:
        return exponents.softmax(1)
    densities = exponents.exp()
    return densities / (densities.sum(1, keepdim=True) + EPS)


def posterior_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples of sum_j (P_ij - [y_i = j])^2 (eq. 4), in [0, 2]: (B, G) float, (B,) int64 -> ()."""
    target = labels[:, None] == torch.arange(probabilities.shape[1], device=labels.device)
    return (probabilities - target.to(probabilities)).square().sum(1).mean()


def sgm(embeddings: Tensor, labels: Tensor, groups: int, sigma: float = 0.5, eps_form: bool = False) -> Tensor:
    """The loss of a batch whose own means stand for the groups.

    Args:
        embeddings: (B, D) float, not normalised; half precision is raised to float32.
        labels: (B,) int64 in 0 .. groups - 1.
        groups: G.
        sigma: deviation of all Gaussians; 0.5 is the authors' last word before the paper, 1 an earlier one.
        eps_form: see `posteriors`.

    Returns:
        () float in [0, 2], with gradient, also through the means.

    Raises:
        MethodError: where shapes or sigma do not fit.

    """
    check_batch(embeddings, labels)
    if not 0 < sigma < math.inf:
        raise MethodError(f"The deviation sigma must be positive and finite, found {sigma}.")
    embeddings = raised(embeddings)
    means, present = group_means(embeddings, labels, groups)
    return posterior_loss(posteriors(embeddings, means, present, sigma, eps_form), labels)
