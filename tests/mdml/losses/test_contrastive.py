"""Contrastive loss: the worked example, loops over explicit pairs, its limits, and the same terms in pytorch-metric-learning."""

import itertools
import math

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.reducers import DoNothingReducer

from mdml import MethodError
from mdml.losses import contrastive

both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
X4 = [[0.0, 0.0], [0.6, 0.0], [0.0, 0.8], [1.0, 1.0]]
# Of the pairs 01, 02, 03, 12, 13, 23 of X4 with labels 0 0 1 1 and margin 1: .6^2 / 2, (1 - .8)^2 / 2, ... 1.04 / 2.
TERMS = [0.18, 0.02, 0, 0, 0, 0.52]


def loop(points, labels, margin):
    terms = []
    for i, j in itertools.combinations(range(len(points)), 2):
        distance = math.dist(points[i], points[j])
        terms.append(0.5 * (distance if labels[i] == labels[j] else max(0.0, margin - distance)) ** 2)
    return math.fsum(terms) / len(terms)


@both_types
def test_c1(dtype):
    loss = contrastive(torch.tensor(X4, dtype=dtype), torch.tensor([0, 0, 1, 1]))
    assert loss.item() == pytest.approx(0.12, abs=1e-6)
    assert sum(TERMS) / 6 == pytest.approx(0.12)


@both_types
def test_c1_pair_by_pair(dtype):
    found = [
        contrastive(torch.tensor([X4[i], X4[j]], dtype=dtype), torch.tensor([i // 2, j // 2])).item()
        for i, j in itertools.combinations(range(4), 2)
    ]
    assert found == pytest.approx(TERMS, abs=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_equals_a_loop_over_pairs(seed, margin, random_batch):
    slices, labels, _ = random_batch(slices=1, batch=13, width=4, classes=4, seed=seed)
    expected = loop(slices[0].tolist(), labels.tolist(), margin)
    assert contrastive(slices[0], labels, margin).item() == pytest.approx(expected, rel=1e-12)
    assert contrastive(slices[0].float(), labels, margin).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_equals_the_terms_of_pytorch_metric_learning_squared_and_halved(margin, random_batch):
    slices, labels, _ = random_batch(slices=1, batch=32, width=8, classes=5)
    embeddings = torch.nn.functional.normalize(slices[0]).requires_grad_()
    peer = ContrastiveLoss(
        neg_margin=margin, distance=LpDistance(normalize_embeddings=False), reducer=DoNothingReducer()
    )
    terms = peer(embeddings, labels)
    # It lists both orders of every pair.
    total = sum(terms[which]["losses"].square().sum() for which in ("pos_loss", "neg_loss"))
    expected = 0.5 * total / (32 * 31)
    found = contrastive(embeddings, labels, margin)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, embeddings)[0] for loss in (found, expected)))


@both_types
def test_a_collapsed_embedding_costs_half_the_squared_margin_for_every_pair_of_two_classes(dtype):
    """Four samples of two classes: 4 of the 6 pairs cost 1.5^2 / 2."""
    found = contrastive(torch.full((4, 3), 7.0, dtype=dtype), torch.tensor([0, 0, 1, 1]), 1.5)
    assert found.item() == pytest.approx(4 / 6 * 1.125, abs=1e-6)


def test_without_margin_only_the_scatter_within_classes_costs():
    """At margin 0 it is the mean over pairs of d^2 / 2 of one class, which has nothing to do with the labels of the others."""
    points, labels = torch.tensor(X4, dtype=torch.float64), torch.tensor([0, 0, 1, 2])
    assert contrastive(points, labels, 0.0).item() == pytest.approx(0.18 / 6)


def test_close_embeddings_far_from_the_origin_keep_their_distances_in_float32():
    """|f| = 1000, distances near 1: |a|^2 + |b|^2 - 2 ab would leave no digit of them."""
    points = 1000 / 8 + torch.randn(20, 64, generator=torch.Generator().manual_seed(0)) / 8
    labels = torch.arange(20) % 3
    assert contrastive(points, labels, 2.0).item() == pytest.approx(
        loop(points.tolist(), labels.tolist(), 2.0), rel=1e-5
    )


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.zeros(1, 4, 3), torch.zeros(4, dtype=torch.int64), r"embeddings \(B, D\) float, found \(1, 4, 3\)"),
        (torch.zeros(4, 3).long(), torch.zeros(4, dtype=torch.int64), r"found \(4, 3\) torch.int64"),
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64), r"labels \(4,\) int64 .* found \(3,\) torch.int64"),
        (torch.zeros(4, 3), torch.zeros(4), r"labels \(4,\) int64 .* found \(4,\) torch.float32"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(embeddings, labels, message):
    with pytest.raises(MethodError, match=message):
        contrastive(embeddings, labels)
