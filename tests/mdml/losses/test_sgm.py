"""The SGM loss against loops over samples and groups, the oracle S1, and the limits of the specification."""

import math

import pytest
import torch

from mdml import MethodError
from mdml.losses import sgm
from mdml.losses.sgm import group_means, posteriors

X4, Y4 = [[0.0, 0.0], [0.6, 0.0], [0.0, 0.8], [1.0, 1.0]], [0, 0, 1, 1]
X6, Y6 = [[0, 0], [0.2, 0.1], [1, 0], [1.2, 0.2], [0, 1], [0.1, 1.3]], [0, 0, 1, 1, 2, 2]
MISPLACED = [[0.0, 0.0], [4.0, 0.0], [1.0, 0.0], [1.2, 0.0]]
both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
both_forms = pytest.mark.parametrize("eps_form", [False, True])


def brute(points, labels, sigma, eps=0.0):
    """The loss by loops over samples and the groups that occur, densities written out."""
    groups = sorted(set(labels))
    members = {group: [p for p, its in zip(points, labels, strict=True) if its == group] for group in groups}
    means = {group: [math.fsum(c) / len(m) for c in zip(*m, strict=True)] for group, m in members.items()}
    total = 0.0
    for point, label in zip(points, labels, strict=True):
        densities = {group: math.exp(-(math.dist(point, means[group]) ** 2) / (2 * sigma**2)) for group in groups}
        whole = math.fsum(densities.values()) + eps
        total += math.fsum((densities[group] / whole - (group == label)) ** 2 for group in groups)
    return total / len(points)


def draw(labels, width=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(labels), width, generator=generator, dtype=dtype), torch.tensor(labels)


@both_types
@pytest.mark.parametrize(
    ("points", "labels", "sigma", "loss"),
    [
        (X4, Y4, 0.5, 0.068204),
        (X4, Y4, 1.0, 0.315597),
        (X4, Y4, 1000.0, 0.5),
        (X4, Y4, 0.05, 0.0),
        (X6, Y6, 0.5, 0.040282),
        (X6, Y6, 1.0, 0.376662),
        (MISPLACED, Y4, 0.01, 0.5),
    ],
)
def test_s1(points, labels, sigma, loss, dtype):
    found = sgm(torch.tensor(points, dtype=dtype), torch.tensor(labels), max(labels) + 1, sigma)
    assert (found.dtype, found.shape) == (dtype, ())
    assert found.item() == pytest.approx(loss, abs=1e-6)


@both_types
def test_s1_posteriors(dtype):
    points, labels = torch.tensor(X4, dtype=dtype), torch.tensor(Y4)
    means, present = group_means(points, labels, 2)
    assert means.tolist() == [pytest.approx([0.3, 0.0]), pytest.approx([0.5, 0.9])]
    assert present.all()
    found = posteriors(points, means, present, 0.5)
    assert found[:, 0].tolist() == pytest.approx([0.874352, 0.811533, 0.280900, 0.078710], abs=1e-6)
    torch.testing.assert_close(found.sum(1), torch.ones(4, dtype=dtype))


@both_types
def test_s1_the_eps_form_underflows_where_the_softmax_does_not(dtype):
    """X4 at sigma .05: 0 and .5 are the oracle's; class 1's samples lie .26 / .005 = 52 > 34.5 away, so P = 0 and the loss is 1."""
    points, labels = torch.tensor(X4, dtype=dtype).requires_grad_(), torch.tensor(Y4)
    found = sgm(points, labels, 2, 0.05, eps_form=True)
    assert found.item() == pytest.approx(0.5, abs=1e-6)
    (gradient,) = torch.autograd.grad(found, points)
    assert gradient[2:].abs().max() < 1e-5
    assert sgm(points, labels, 2, 0.5, eps_form=True).item() == pytest.approx(0.068204, abs=1e-6)


@both_types
@pytest.mark.parametrize("labels", [[0, 1, 1, 2, 2, 2, 0], [5, 5, 5, 5], [3, 1, 0, 4], [1, 1], [0, 4], [2]])
@pytest.mark.parametrize("sigma", [0.3, 0.5, 2.0])
def test_equals_a_loop_over_samples_and_groups(sigma, labels, dtype):
    for seed in range(3):
        points, ids = draw(labels, seed=seed)
        for eps_form in (False, True):
            expected = brute(points.tolist(), labels, sigma, 1e-15 if eps_form else 0.0)
            found = sgm(points.to(dtype), ids, 6, sigma, eps_form)
            assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-6 if dtype == torch.float32 else 1e-12)


@both_forms
def test_groups_that_a_batch_lacks_take_no_part(eps_form):
    points, labels = draw([0, 2, 2, 0, 2])
    expected = sgm(points, labels // 2, 2, 0.5, eps_form)
    torch.testing.assert_close(sgm(points, labels, 3, 0.5, eps_form), expected)
    torch.testing.assert_close(sgm(points, labels + 1, 40, 0.5, eps_form), expected)
    means, present = group_means(points, labels, 4)
    assert present.tolist() == [True, False, True, False]
    found = posteriors(points, means, present, 0.5, eps_form)
    assert not found[:, [1, 3]].any()


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_a_wide_sigma_makes_all_groups_equally_likely(groups):
    points, labels = draw([i % groups for i in range(14)])
    assert sgm(points, labels, groups, 1e6).item() == pytest.approx(1 - 1 / groups)


def test_a_narrow_sigma_counts_who_is_nearest_to_a_wrong_mean():
    for seed in range(10):
        points, labels = draw([i % 3 for i in range(15)], width=2, seed=seed)
        means, _ = group_means(points, labels, 3)
        wrong = (torch.cdist(points, means).argmin(1) != labels).double().mean()
        assert sgm(points, labels, 3, 1e-4).item() == pytest.approx(2 * wrong.item())


def test_translation_rotation_and_order_change_nothing_and_scaling_only_with_sigma():
    points, labels = draw([0, 1, 1, 2, 2, 2, 0])
    expected = sgm(points, labels, 3)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    torch.testing.assert_close(sgm(points + 7, labels, 3), expected)
    torch.testing.assert_close(sgm(points @ rotation, labels, 3), expected)
    torch.testing.assert_close(sgm(points.flip(0), labels.flip(0), 3), expected)
    torch.testing.assert_close(sgm(points, 2 - labels, 3), expected)
    torch.testing.assert_close(sgm(4 * points, labels, 3, sigma=2.0), expected)
    assert not torch.isclose(sgm(4 * points, labels, 3), expected)


def test_far_from_the_origin_no_digit_is_lost():
    """Squares of 1000 leave no digit of distances near 1 in float32: distances must come from differences."""
    points, labels = draw([0, 1, 1, 2, 2, 2, 0], dtype=torch.float32)
    assert sgm(points + 1000, labels, 3).item() == pytest.approx(sgm(points, labels, 3).item(), abs=2e-4)


@both_forms
def test_equal_embeddings_cost_what_chance_costs_and_have_finite_gradients(eps_form):
    for labels, groups in (([0, 0, 1, 1, 2, 2], 3), ([0, 0], 1), ([0, 1], 2)):
        points = torch.full((len(labels), 4), 2.0, requires_grad=True)
        found = sgm(points, torch.tensor(labels), groups, 0.5, eps_form)
        assert found.item() == pytest.approx(1 - 1 / groups, abs=1e-6)
        (gradient,) = torch.autograd.grad(found, points)
        assert gradient.isfinite().all()


def test_the_loss_is_within_0_and_2():
    for seed in range(20):
        points, labels = draw([i % 4 for i in range(9)], seed=seed)
        assert 0 <= sgm(points, labels, 4, 0.1) <= 2


@both_forms
def test_gradcheck_also_through_the_means(eps_form):
    points, labels = draw([0, 1, 1, 3, 3, 0, 3])
    assert torch.autograd.gradcheck(lambda p: sgm(p, labels, 5, 0.7, eps_form), (points.requires_grad_(),))


def test_samples_of_one_class_are_certain_and_pull_nobody():
    points, labels = draw([1, 1, 1])
    found = sgm(points.requires_grad_(), labels, 3)
    assert found.item() == 0
    (gradient,) = torch.autograd.grad(found, points)
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_and_autocast_does_not_coarsen(dtype):
    points, labels = draw([0, 1, 1, 2, 2, 2, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sgm(points.to(dtype), labels, 3)
    assert found.dtype == torch.float32
    assert torch.equal(found, sgm(points.to(dtype).float(), labels, 3))


POINTS, IDS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((POINTS[0], IDS[:3], 2), r"Expected embeddings \(B, D\) float, found \(3,\)"),
        ((POINTS.long(), IDS, 2), r"Expected embeddings \(B, D\) float, found \(4, 3\) torch.int64"),
        ((POINTS, IDS[:3], 2), r"Expected labels \(4,\) int64 .* found \(3,\) torch.int64"),
        ((POINTS, IDS.int(), 2), r"Expected labels \(4,\) int64 .* found \(4,\) torch.int32"),
        ((POINTS, IDS, 2, 0.0), r"sigma must be positive and finite, found 0.0"),
        ((POINTS, IDS, 2, -1.0), r"sigma must be positive and finite, found -1.0"),
        ((POINTS, IDS, 2, math.inf), r"sigma must be positive and finite, found inf"),
        ((POINTS, IDS, 2, math.nan), r"sigma must be positive and finite, found nan"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(arguments, message):
    with pytest.raises(MethodError, match=message):
        sgm(*arguments)
