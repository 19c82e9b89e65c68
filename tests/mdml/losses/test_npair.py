"""(N+1)-tuplet and N-pair loss: the worked examples, loops over explicit tuples, cross-entropy, and pytorch-metric-learning."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import NPairsLoss
from pytorch_metric_learning.regularizers import LpRegularizer

from mdml import MethodError
from mdml.losses import npair, tuplet

both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
A, Q = [[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.1], [0.3, 0.9]]
LABELS = {
    "two a class": [0, 1, 2, 2, 1, 0],
    "uneven classes": [0, 1, 1, 2, 2, 2, 0, 1, 2, 2, 1, 0, 2],
    "a lone class": [0, 0, 1, 1, 2, 1, 0, 0],
    "lone classes alone beside one": [3, 0, 0, 7, 0],
    "all different": [4, 3, 2, 1, 0],
    "one class": [5, 5, 5, 5],
    "one sample": [2],
}


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def loop(points, labels):
    """Mean over the (anchor, positive) pairs of every class, without regularisation."""
    anchors: dict[int, list] = {}
    positives: dict[int, list] = {}
    for index, label in enumerate(labels):
        seen = len(anchors.get(label, [])) + len(positives.get(label, []))
        (positives if seen % 2 else anchors).setdefault(label, []).append(points[index])
    terms = []
    for label, queries in anchors.items():
        negatives = [q for other, of_other in positives.items() if other != label for q in of_other]
        for a in queries:
            for q in positives.get(label, []):
                terms.append(math.log1p(math.fsum(math.exp(dot(a, n) - dot(a, q)) for n in negatives)))
    return math.fsum(terms) / len(terms) if terms else 0.0


@both_types
def test_c2(dtype):
    """Scores A Q^T = [[.8, .3], [.1, .9]]: log(1 + e^-.5) = .474077 and log(1 + e^-.8) = .371101.

    The squared lengths are 1, 1, .65 and .9, .8875 in the mean.
    """
    batch = torch.tensor([A[0], Q[0], A[1], Q[1]], dtype=dtype)
    labels = torch.tensor([0, 0, 1, 1])
    assert npair(batch, labels, 0.0).item() == pytest.approx(0.422589, abs=1e-6)
    assert npair(batch, labels).item() == pytest.approx(0.422589 + 0.001775, abs=1e-6)
    found = tuplet(
        torch.tensor(A, dtype=dtype), torch.tensor(Q, dtype=dtype), torch.tensor([Q[1:], Q[:1]], dtype=dtype)
    )
    assert found.tolist() == pytest.approx([0.474077, 0.371101], abs=1e-6)


@both_types
def test_c2_tuplet(dtype):
    query, positive = torch.tensor([[1.0, 0.5]], dtype=dtype), torch.tensor([[0.8, 0.4]], dtype=dtype)
    negatives = torch.tensor([[[0.2, 0.9], [0.9, -0.3], [-0.5, 0.1]]], dtype=dtype)
    assert tuplet(query, positive, negatives).tolist() == pytest.approx([0.999918], abs=1e-6)


@both_types
@pytest.mark.parametrize("count", [1, 3, 6])
def test_negatives_that_score_as_the_positive_does_cost_log_1_and_their_number(count, dtype):
    query = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    found = tuplet(query, query, query[:, None].expand(-1, count, -1))
    assert found.tolist() == pytest.approx([math.log(1 + count)] * 2, abs=1e-6)
    assert math.log(4) == pytest.approx(1.386294, abs=1e-6)


def test_one_negative_is_softplus_and_none_costs_nothing():
    query, positive, negative = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.softplus((query * (negative - positive)).sum(1))
    torch.testing.assert_close(tuplet(query, positive, negative[:, None]), expected)
    query.requires_grad_()
    nothing = tuplet(query, positive, torch.zeros(5, 0, 4, dtype=torch.float64))
    assert nothing.tolist() == [0] * 5
    assert not torch.autograd.grad(nothing.sum(), query)[0].any()


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop_over_pairs_and_negatives(labels, seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(len(labels), 4, generator=generator, dtype=torch.float64)
    expected = loop(points.tolist(), labels)
    lengths = sum(dot(p, p) for p in points.tolist()) / len(points)
    for regularization in (0.0, 0.002, 0.5):
        found = npair(points, torch.tensor(labels), regularization).item()
        assert found == pytest.approx(expected + regularization * lengths, rel=1e-12, abs=1e-15)
    assert npair(points.float(), torch.tensor(labels), 0.0).item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_two_a_class_is_the_cross_entropy_of_a_q_with_the_diagonal(scale):
    anchors, positives = scale * torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.cross_entropy(anchors @ positives.mT, torch.arange(6))
    found = npair(torch.cat([anchors, positives]), torch.arange(6).repeat(2), 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_two_a_class_is_the_tuplet_loss_with_the_positives_of_the_others():
    anchors, positives = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    others = torch.stack([positives[torch.arange(5) != i] for i in range(5)])
    batch = torch.stack([anchors, positives], 1).flatten(0, 1)
    found = npair(batch, torch.arange(5).repeat_interleave(2), 0.0)
    torch.testing.assert_close(found, tuplet(anchors, positives, others).mean())


@pytest.mark.parametrize("regularization", [0.0, 0.002])
def test_equals_pytorch_metric_learning_at_two_a_class(regularization):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(8).repeat_interleave(2)
    embeddings = torch.randn(16, 6, generator=generator, dtype=torch.float64).requires_grad_()
    peer = NPairsLoss(
        distance=DotProductSimilarity(normalize_embeddings=False),
        embedding_regularizer=LpRegularizer(power=2) if regularization else None,
        embedding_reg_weight=regularization,
    )
    found, expected = npair(embeddings, labels, regularization), peer(embeddings, labels)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, embeddings)[0] for loss in (found, expected)))


def test_a_lone_class_changes_nothing():
    points = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 1, 9, 0, 1, 1, 0])
    rest = [0, 1, 3, 4, 5, 6]
    torch.testing.assert_close(npair(points, labels, 0.0), npair(points[rest], labels[rest], 0.0))
    (gradient,) = torch.autograd.grad(npair(points, labels, 0.0), points)
    assert not gradient[2].any()


@both_types
@pytest.mark.parametrize("square", [1e-3, 1.0, 8.0, 20.0, 60.0])
def test_small_terms_keep_their_digits(square, dtype):
    """Anchors score s with their positive and 0 with the other: log(1 + e^-s), where 1 + e^-s is rounded to 1 from s = 17 on."""
    place = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2, dtype=dtype) * square**0.5
    points = place.requires_grad_()
    loss = npair(points, torch.tensor([0, 0, 1, 1]), 0.0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-square)), rel=2e-5 if dtype == torch.float32 else 1e-12)
    slope = -math.exp(-square) / (1 + math.exp(-square)) * square**0.5 / 2
    assert torch.autograd.grad(loss, points)[0][0, 0].item() == pytest.approx(slope, rel=2e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scores_in_the_thousands_do_not_overflow(dtype):
    points = torch.tensor([[100.0, 0.0], [0.0, 100.0], [-100.0, 0.0], [100.0, 1.0]], dtype=dtype).requires_grad_()
    loss = npair(points, torch.tensor([0, 0, 1, 1]), 0.0)
    # a0.q0 = 0 against a0.q1 = 10000; a1.q1 = -10000 against a1.q0 = 0.
    assert loss.item() == pytest.approx(10000)
    assert torch.autograd.grad(loss, points)[0].isfinite().all()


Z = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Z, Z[:3], torch.zeros(4, 2, 3)), r"found \(4, 3\), \(3, 3\), \(4, 2, 3\)"),
        ((Z, Z, Z), r"negatives \(K, M, D\), found \(4, 3\), \(4, 3\), \(4, 3\)"),
        ((Z, Z, torch.zeros(4, 2, 5)), r"found \(4, 3\), \(4, 3\), \(4, 2, 5\)"),
        ((Z, Z, torch.zeros(1, 2, 3)), r"found \(4, 3\), \(4, 3\), \(1, 2, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(arguments, message):
    with pytest.raises(MethodError, match=message):
        tuplet(*arguments)
    with pytest.raises(MethodError, match=r"labels \(4,\) int64"):
        npair(Z, torch.zeros(4))
