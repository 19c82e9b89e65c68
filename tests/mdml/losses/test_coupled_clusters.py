"""Coupled clusters loss: the worked example, loops over classes, its limits, and its gradient through the centres."""

import math

import pytest
import torch

from mdml import MethodError
from mdml.losses import coupled_clusters

both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
X4 = [[0.0, 0.0], [0.6, 0.0], [0.0, 0.8], [1.0, 1.0]]
LABELS = {
    "uneven classes": [0, 1, 1, 2, 2, 2, 0, 1, 2, 2, 1, 0, 2],
    "a lone class": [0, 0, 1, 1, 2, 1, 0, 0],
    "two lone classes": [3, 0, 0, 7, 0],
    "all different": [4, 3, 2, 1, 0],
    "one class": [5, 5, 5, 5],
    "one sample": [2],
}


def loop(points, labels, alpha):
    terms = []
    for label in set(labels):
        own = [p for p, y in zip(points, labels, strict=True) if y == label]
        others = [p for p, y in zip(points, labels, strict=True) if y != label]
        if len(own) < 2 or not others:
            continue
        centre = [math.fsum(column) / len(own) for column in zip(*own, strict=True)]
        nearest = min(math.dist(n, centre) ** 2 for n in others)
        terms += [0.5 * max(0.0, math.dist(p, centre) ** 2 + alpha - nearest) for p in own]
    return math.fsum(terms) / len(terms) if terms else 0.0


@both_types
def test_c3(dtype):
    """Centres (.3, 0) and (.5, .9); d^2 .09 .09 against .73, and .26 .26 against .82: terms .18 .18 .22 .22."""
    points, labels = torch.tensor(X4, dtype=dtype), torch.tensor([0, 0, 1, 1])
    assert coupled_clusters(points, labels, alpha=1.0).item() == pytest.approx(0.2, abs=1e-6)
    assert coupled_clusters(points, labels, alpha=0.3).item() == 0


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 5.0])
def test_equals_a_loop_over_classes(labels, alpha):
    for seed in range(3):
        points = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        expected = loop(points.tolist(), labels, alpha)
        found = coupled_clusters(points, torch.tensor(labels), alpha)
        assert found.item() == pytest.approx(expected, rel=1e-12, abs=1e-15)
        rounded = coupled_clusters(points.float(), torch.tensor(labels), alpha)
        assert rounded.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_close_embeddings_far_from_the_origin_keep_their_distances_in_float32():
    points = 1000 / 8 + torch.randn(20, 64, generator=torch.Generator().manual_seed(0)) / 8
    labels = torch.arange(20) % 3
    expected = loop(points.tolist(), labels.tolist(), 0.3)
    assert coupled_clusters(points, labels).item() == pytest.approx(expected, rel=1e-4)


@both_types
def test_a_collapsed_embedding_costs_half_of_alpha(dtype):
    found = coupled_clusters(torch.full((6, 3), 7.0, dtype=dtype), torch.tensor([0, 0, 1, 1, 2, 2]), 0.3)
    assert found.item() == pytest.approx(0.15, abs=1e-6)


def test_the_gradient_flows_through_the_centre():
    """A class at -1 and 1 on a line, a negative at 1.2: the centre is 0 and both terms are (1 + 1 - 1.44) / 2 = .28.

    With c = (a + b) / 2 and half differences, L = ((a - b)^2 / 4 + 1 - (n - c)^2) / 2, so dL/da = (a - b) / 4 + (n - c) / 2.
    """
    points = torch.tensor([[-1.0], [1.0], [1.2]], dtype=torch.float64, requires_grad=True)
    loss = coupled_clusters(points, torch.tensor([0, 0, 1]), 1.0)
    assert loss.item() == pytest.approx(0.28)
    (gradient,) = torch.autograd.grad(loss, points)
    assert gradient[:, 0].tolist() == pytest.approx([-0.5 + 0.6, 0.5 + 0.6, -1.2])


def test_a_lone_sample_is_a_negative_and_no_positive():
    points = torch.tensor([[-1.0], [1.0], [1.2], [-30.0], [-30.0]], dtype=torch.float64, requires_grad=True)
    loss = coupled_clusters(points, torch.tensor([0, 0, 1, 2, 2]), 1.0)
    assert loss.item() == pytest.approx(0.28 * 2 / 4)
    (gradient,) = torch.autograd.grad(loss, points)
    assert gradient[2].item() == pytest.approx(-0.6)


def test_what_does_not_fit_is_refused_with_what_was_found():
    with pytest.raises(MethodError, match=r"embeddings \(B, D\) float, found \(1, 4, 2\)"):
        coupled_clusters(torch.zeros(1, 4, 2), torch.zeros(4, dtype=torch.int64))
