"""A picture of an embedding: t-SNE."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor


def tsne(embedding: Tensor, seed: int = 0) -> Tensor:
    """Coordinates by scikit-learn's t-SNE: embedding (M, D) float, M >= 2; (M, 2) float32 on the host.

    It starts from the principal components, or at random where the embedding has collapsed. The perplexity is 30, or a third of the other
    samples where they are fewer than 90. One thread, for equal coordinates.
    """
    from sklearn.manifold import TSNE  # here, as few processes draw one

    points = embedding.float().cpu().numpy()
    perplexity = min(30.0, max(1.0, (len(points) - 1) / 3))
    start = "pca" if min(points.shape) > 2 and (points != points[0]).any() else "random"
    with threadpool_limits(1):
        found = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(points)
    return torch.from_numpy(found)
