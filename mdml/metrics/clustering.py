"""Agreement of clusters with classes: k-means, normalised mutual information, pairwise F1.

Source: Marrero-Fernandez et al. 2020, sections 3 and 4; that its Table 1 means the NMI of k-means is assumed, since its caption is lost.
"""

from __future__ import annotations

import warnings

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from mdml.metrics.classification import confusion


def kmeans(embedding: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Clusters of samples by scikit-learn's k-means, the best of 10 starts: embedding (M, D) float; (M,) int64 on the host.

    Fewer distinct samples than clusters leave clusters empty. One thread, so that the same embedding gives the same clusters.
    """
    # Here, as scikit-learn takes seconds and 130 MB to import, and most processes cluster nothing.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    points = embedding.float().cpu().numpy()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(min(clusters, len(points)), n_init=10, random_state=seed).fit_predict(points)
    return torch.from_numpy(found).long()


def contingency(clusters: Tensor, labels: Tensor) -> Tensor:
    """Counts of (class, cluster), a square int64 matrix as large as the larger of the two numbers: clusters, labels (M,) int64."""
    size = int(torch.maximum(clusters.max().cpu(), labels.max().cpu())) + 1
    return confusion(clusters.cpu(), labels.cpu(), size)


def nmi(table: Tensor) -> float:
    """2 I / (H(clusters) + H(classes)) of a contingency table; 1 where both are one group, as in scikit-learn."""
    joint = table.double() / table.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = torch.special.entr(rows).sum() + torch.special.entr(columns).sum()
    if entropies == 0:
        return 1.0
    information = entropies - torch.special.entr(joint).sum()
    return max(0.0, (2 * information / entropies).item())


def pairwise_f1(table: Tensor) -> float:
    """F1 of the pairs of samples in one cluster as predictions of the pairs in one class; 0 where there is neither."""
    both, classes, clusters = (_pairs(counts) for counts in (table, table.sum(1), table.sum(0)))
    return 2 * both / (classes + clusters) if classes + clusters else 0.0


def _pairs(counts: Tensor) -> int:
    return int((counts * (counts - 1) // 2).sum())
