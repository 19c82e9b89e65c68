"""Clusters against scikit-learn, explicit pairs and a worked example."""

import itertools

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix

from mdml.metrics import clustering
from tests.mdml.metrics.drawn import drawn

# M1: 17 samples in clusters {0 x 5, 1}, {0, 1 x 4, 2}, {0 x 2, 2 x 3}.
CLUSTERS = torch.tensor([0] * 6 + [1] * 6 + [2] * 5)
LABELS = torch.tensor([0] * 5 + [1] + [0] + [1] * 4 + [2] + [0] * 2 + [2] * 3)


@pytest.mark.parametrize("renamed", [[0, 1, 2], [2, 0, 1], [4, 7, 1]])
def test_m1_whatever_the_clusters_are_called(renamed):
    """20 pairs right, 20 too many, 24 missed: P .5, R .454545."""
    table = clustering.contingency(torch.tensor(renamed)[CLUSTERS], LABELS)
    assert clustering.pairwise_f1(table) == pytest.approx(0.476190, abs=1e-6)
    assert clustering.nmi(table) == pytest.approx(0.364562, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_scikit_learn_and_a_loop_over_pairs(seed):
    clusters, labels = drawn(60, 7, seed), drawn(60, 4, seed + 10)
    table = clustering.contingency(clusters, labels)
    assert clustering.nmi(table) == pytest.approx(normalized_mutual_info_score(labels, clusters))
    pairs = [(clusters[i] == clusters[j], labels[i] == labels[j]) for i, j in itertools.combinations(range(60), 2)]
    both = sum(bool(one and other) for one, other in pairs)
    precision = both / sum(bool(one) for one, _ in pairs)
    recall = both / sum(bool(other) for _, other in pairs)
    assert clustering.pairwise_f1(table) == pytest.approx(2 * precision * recall / (precision + recall))
    (_, fp), (fn, tp) = pair_confusion_matrix(labels, clusters)
    assert clustering.pairwise_f1(table) == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_the_extremes():
    labels = drawn(30, 3)
    assert clustering.nmi(clustering.contingency(labels, labels)) == pytest.approx(1)
    assert clustering.pairwise_f1(clustering.contingency(2 - labels, labels)) == 1
    assert clustering.nmi(clustering.contingency(torch.zeros_like(labels), labels)) == 0
    alone = torch.arange(5)
    assert clustering.nmi(clustering.contingency(alone[:1], alone[:1])) == 1
    assert clustering.pairwise_f1(clustering.contingency(alone, alone)) == 0


def test_kmeans_is_scikit_learns_best_of_ten_and_the_same_each_time():
    points = torch.randn(70, 4, generator=torch.Generator().manual_seed(0))
    found = clustering.kmeans(points, 5)
    assert found.dtype == torch.int64
    assert found.tolist() == KMeans(5, n_init=10, random_state=0).fit_predict(points.numpy()).tolist()
    assert found.tolist() == clustering.kmeans(points, 5).tolist()


def test_kmeans_of_groups_far_apart_finds_them():
    labels = drawn(40, 3)
    points = 50.0 * torch.eye(3)[labels] + torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    assert clustering.nmi(clustering.contingency(clustering.kmeans(points, 3), labels)) == pytest.approx(1)


@pytest.mark.parametrize("points", [torch.ones(9, 2), torch.ones(2, 2), torch.arange(2.0)[:, None]])
def test_kmeans_of_a_collapsed_or_tiny_set_leaves_clusters_empty(points):
    assert clustering.kmeans(points, 4).unique().numel() == points.unique(dim=0).shape[0]
