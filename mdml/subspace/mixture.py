"""A Gaussian mixture fitted by expectation maximisation, that never fails on few, equal or far-off vectors.

Source: Marrero-Fernandez et al., Deep Metric Structured Learning for FER (2020), Algorithm 2, and its public code for the full
covariance. The ridge of the covariances and one start from k-means are our choice.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from mdml.errors import MethodError

RIDGE = 1e-6  # added to the variances, in units of the embedding squared
Covariance = Literal["full", "diag", "none"]


class Mixture(NamedTuple):
    """The components of a set of vectors.

    Attributes:
        members: (M,) int64, the component of every vector; components without any are left out, and the others counted from 0, the
            largest first and, of equally large ones, that of the first vector first.
        covariance: of the components: "full"; "diag", the fall-back; "none" where there was nothing to fit.

    """

    members: npt.NDArray[np.int64]
    covariance: Covariance


def fit_mixture(vectors: npt.NDArray[Any], components: int, seed: int) -> Mixture:
    """Fit a mixture by EM, started once from k-means, and give every vector its most likely component.

    Covariances are full; where that leaves a component with fewer than D + 1 vectors, of which no full covariance can be estimated,
    all are fitted anew as diagonal.

    Args:
        vectors: (M, D) float, M >= 1.
        components: of the mixture; no more are fitted than there are distinct vectors.
        seed: of k-means, 0 to 2^32 - 1.

    Raises:
        MethodError: for no vectors, vectors that are not finite, or fewer than one component.

    """
    if vectors.ndim != 2 or not len(vectors):
        raise MethodError(f"Expected vectors (M, D) with M at least 1, found {vectors.shape}.")
    if components < 1:
        raise MethodError(f"A mixture has at least 1 component, found {components}.")
    # About their mean, so that far from the origin no variance is lost to rounding.
    vectors = vectors.astype(np.float64)
    vectors -= vectors.mean(0)
    if not np.isfinite(vectors).all():
        raise MethodError("Expected finite vectors for a mixture, found some that are not.")
    count, width = vectors.shape
    components = min(components, len(np.unique(vectors, axis=0)))
    if components > 1 and count >= components * (width + 1):
        members = _fit(vectors, components, "full", seed)
        if members is not None and np.bincount(members, minlength=components).min() > width:
            return Mixture(ranked(members), "full")
    if components > 1:
        members = _fit(vectors, components, "diag", seed)
        if members is not None:
            return Mixture(ranked(members), "diag")
    return Mixture(np.zeros(count, np.int64), "none")


def ranked(groups: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number groups (M,) from 0: the largest first and, of equally large ones, that of the first member first."""
    _, first, inverse, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(len(counts))
    return rank[inverse.reshape(-1)]


def _fit(
    vectors: npt.NDArray[np.float64], components: int, covariance: Covariance, seed: int
) -> npt.NDArray[np.int64] | None:
    """Component of every vector, or None where rounding leaves a covariance that is not positive."""
    from sklearn.exceptions import ConvergenceWarning  # here, as few processes fit one
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(components, covariance_type=covariance, reg_covar=RIDGE, n_init=1, random_state=seed)
    # One thread, so that the same vectors give the same components.
    with threadpool_limits(1), warnings.catch_warnings():
        # 100 steps that do not converge still part the vectors.
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            members: npt.NDArray[np.int64] = mixture.fit_predict(vectors).astype(np.int64)
        except ValueError:
            return None
    return members
