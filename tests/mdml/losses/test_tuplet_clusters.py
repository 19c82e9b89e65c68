"""The tuplet clusters loss against loops over tuplets, the oracle N1, and its limits."""

import math

import pytest
import torch

from mdml import MethodError
from mdml.losses import tuplet_clusters
from mdml.losses.radial import FixedRadius, RadialMetric
from tests.mdml.losses.test_radial import quadratic, random_metric

X4 = [[0.0, 0.0], [0.6, 0.0], [0.0, 0.8], [1.0, 1.0]]
both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
both_reductions = pytest.mark.parametrize("reduction", ["violators", "all"])


def brute(points, g, hinge, reduction):
    """The loss by a loop over tuplets; g(f, c) on lists of floats."""

    def reduced(terms):
        kept = [term for term in terms if term > 0] if reduction == "violators" else terms
        return math.fsum(kept) / len(kept) if kept else 0.0

    total = 0.0
    for query, ours, others in zip(*points, strict=True):
        members = [query, *ours]
        center = [math.fsum(column) / len(members) for column in zip(*members, strict=True)]
        total += reduced([max(0.0, hinge + g(member, center)) for member in members])
        total += reduced([max(0.0, hinge - g(other, center)) for other in others])
    return total / len(points[0])


def loss_of(points, g, reduction="violators"):
    queries, positives, negatives = points
    return tuplet_clusters(queries, positives, negatives, g, reduction)


def draw(tuplets=3, positives=4, negatives=5, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(tuplets, 1 + positives + negatives, width, generator=generator, dtype=torch.float64)
    return points[:, 0], points[:, 1 : 1 + positives], points[:, 1 + positives :]


@both_types
@pytest.mark.parametrize(
    ("threshold", "margin", "violators", "every"),
    [(0.5, 0.4, 0.0, 0.0), (0.05, 0.4, 0.24, 0.24), (0.3, 1.0, 0.36, 0.325)],
)
def test_n1(threshold, margin, violators, every, dtype):
    """Squared distances to the centre (.3, 0) are .09 and .09 of the positives, .73 and 1.49 of the negatives."""
    points = torch.tensor(X4, dtype=dtype)
    tuplet = points[:1], points[None, 1:2], points[None, 2:]
    for reduction, expected in (("violators", violators), ("all", every)):
        found = loss_of(tuplet, FixedRadius(threshold, margin), reduction)
        assert found.dtype == dtype
        assert found.shape == ()
        assert found.item() == pytest.approx(expected, abs=1e-6)


def test_the_reference_of_these_tests_gives_n1_too():
    def g(f, c):
        return math.dist(f, c) ** 2 - 0.3

    for reduction, expected in (("violators", 0.36), ("all", 0.325)):
        assert brute([X4[:1], [X4[1:2]], [X4[2:]]], g, 0.5, reduction) == pytest.approx(expected)


@both_reductions
@pytest.mark.parametrize(("tuplets", "positives", "negatives"), [(1, 1, 1), (2, 0, 3), (3, 4, 5), (4, 6, 1), (2, 3, 0)])
def test_equals_a_loop_over_tuplets(tuplets, positives, negatives, reduction):
    for seed in range(5):
        points = draw(tuplets, positives, negatives, seed=seed)
        lists = [part.tolist() for part in points]
        made, fixed = random_metric(3, seed), FixedRadius(1.0 + seed, 0.5 + seed)
        for g, written in (
            (made, lambda f, c, made=made: quadratic(f, c, made)),
            (fixed, lambda f, c, fixed=fixed: math.dist(f, c) ** 2 - fixed.threshold),
        ):
            expected = brute(lists, written, g.hinge, reduction)
            assert loss_of(points, g, reduction).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@both_reductions
def test_the_adaptive_form_starts_as_the_fixed_form(reduction):
    points = draw()
    one = loss_of(points, RadialMetric(3).double(), reduction)
    torch.testing.assert_close(one, loss_of(points, FixedRadius(2.0, 2.0), reduction), rtol=1e-6, atol=1e-6)


def test_violators_weigh_no_less_than_all():
    for seed in range(20):
        points = draw(seed=seed)
        assert loss_of(points, FixedRadius()) >= loss_of(points, FixedRadius(), "all")


def test_the_order_of_tuplets_and_of_their_members_does_not_matter():
    queries, positives, negatives = draw()
    expected = tuplet_clusters(queries, positives, negatives, FixedRadius())
    found = tuplet_clusters(queries.flip(0), positives.flip(0, 1), negatives.flip(0, 1), FixedRadius())
    torch.testing.assert_close(found, expected)
    # The query is one of the positives: exchanging it for another changes nothing.
    exchanged = torch.cat([queries[:, None], positives[:, 1:]], 1)
    torch.testing.assert_close(tuplet_clusters(positives[:, 0], exchanged, negatives, FixedRadius()), expected)


def test_satisfied_tuplets_cost_nothing_but_keep_their_graph():
    points = torch.zeros(2, 3, requires_grad=True)
    far = torch.full((2, 4, 3), 9.0)
    for reduction in ("violators", "all"):
        loss = tuplet_clusters(points, torch.zeros(2, 1, 3), far, FixedRadius(1.5, 1.0), reduction)
        assert loss == 0
        (gradient,) = torch.autograd.grad(loss, points)
        assert not gradient.any()


@both_reductions
@pytest.mark.parametrize("adaptive", [False, True])
def test_gradcheck(reduction, adaptive):
    g = random_metric(3, 2) if adaptive else FixedRadius(1.0, 1.0)
    points = [part.contiguous().requires_grad_() for part in draw(2, 2, 3)]
    weights = list(g.parameters()) if isinstance(g, RadialMetric) else []
    assert torch.autograd.gradcheck(lambda *parts: loss_of(parts[:3], g, reduction), (*points, *weights))


@both_reductions
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_coinciding_embeddings_have_finite_gradients(value, reduction):
    points = torch.full((2, 6, 3), value, requires_grad=True)
    made = RadialMetric(3)
    loss = tuplet_clusters(points[:, 0], points[:, 1:3], points[:, 3:], made, reduction)
    assert loss.item() == pytest.approx(3.0, abs=1e-5), "g = -2 everywhere: the pull is 0, the push 1 + 2"
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, [points, *made.parameters()]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_and_autocast_does_not_coarsen(dtype):
    points = [part.to(dtype) for part in draw()]
    made = random_metric(3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_of(points, made)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss_of([part.float() for part in points], made))


Q, P, N = torch.zeros(4, 3), torch.zeros(4, 2, 3), torch.zeros(4, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Q, P, N, FixedRadius(), "some"), r"\"violators\" or \"all\", not 'some'"),
        ((Q[0], P, N, FixedRadius()), r"Expected queries \(K, D\) float, .* found \(3,\) torch.float32"),
        ((Q.long(), P, N, FixedRadius()), r"found \(4, 3\) torch.int64"),
        ((Q, P[:3], N, FixedRadius()), r"positives \(K, N, D\) and .* \(3, 2, 3\) and \(4, 5, 3\)"),
        ((Q, P, N[..., :2], FixedRadius()), r"negatives \(K, M, D\), .* \(4, 2, 3\) and \(4, 5, 2\)"),
        ((Q, P[:, 0], N, FixedRadius()), r"\(4, 3\) and \(4, 5, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(arguments, message):
    with pytest.raises(MethodError, match=message):
        tuplet_clusters(*arguments)
