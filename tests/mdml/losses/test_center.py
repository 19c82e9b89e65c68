"""Center and island loss: the worked example, loops over classes and pairs of centres, and the step of the centres."""

import math

import pytest
import torch
import torch.nn.functional as F

from mdml import MethodError
from mdml.losses import Centers, center_loss, island_term
from mdml.losses.center import island_pull

both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
X4 = [[0.0, 0.0], [0.6, 0.0], [0.0, 0.8], [1.0, 1.0]]
Y = torch.tensor([0, 0, 1, 1])


def drawn(classes=5, width=4, seed=0):
    return torch.randn(classes, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(values):
    """Centres that stand at `values` (C, D), of their type."""
    centers = Centers(*values.shape).to(values.dtype)
    centers.centers.copy_(values)
    return centers


@both_types
def test_c4(dtype):
    """Squared lengths 0, .36, .64, 2: half of them .375 in the mean, 1.5 in the sum.

    Steps: class 0 has sum(c - f) = (-.6, 0) over 1 + 2, times -.5 = (.1, 0); class 1 (-1, -1.8): (.166667, .3).
    """
    points, centers = torch.tensor(X4, dtype=dtype), Centers(2, 2).to(dtype)
    assert center_loss(points, Y, centers.centers).item() == pytest.approx(0.375, abs=1e-6)
    centers.step(points, Y, 0.5)
    torch.testing.assert_close(centers.centers, torch.tensor([[0.1, 0], [1 / 6, 0.3]], dtype=dtype))
    assert center_loss(points, Y, centers.centers).item() * 4 == pytest.approx(0.861111, abs=1e-6)
    assert island_term(centers.centers).item() == pytest.approx(2.971286, abs=1e-6)
    assert F.cosine_similarity(centers.centers[0], centers.centers[1], dim=0).item() == pytest.approx(
        0.485643, abs=1e-6
    )


@both_types
def test_losses_equal_loops(dtype, random_batch):
    slices, labels, _ = random_batch(slices=1, batch=13, width=4, classes=5)
    centers = drawn()
    expected = math.fsum(
        0.5 * math.dist(point, centers[label].tolist()) ** 2
        for point, label in zip(slices[0].tolist(), labels.tolist(), strict=True)
    )
    found = center_loss(slices[0].to(dtype), labels, centers.to(dtype))
    assert found.item() == pytest.approx(expected / 13, rel=1e-5 if dtype == torch.float32 else 1e-12)
    pairs = [F.cosine_similarity(centers[j], centers[k], dim=0) + 1 for j in range(5) for k in range(5) if j != k]
    assert island_term(centers.to(dtype)).item() == pytest.approx(float(sum(pairs)), rel=1e-5)


def test_the_gradient_pulls_each_sample_to_its_centre_and_leaves_the_centres():
    points, centers = torch.tensor(X4, dtype=torch.float64, requires_grad=True), drawn(2, 2).requires_grad_()
    center_loss(points, Y, centers).backward()
    torch.testing.assert_close(points.grad, (points - centers[Y]).detach() / 4)
    assert centers.grad is None
    assert not island_term(centers).requires_grad


@pytest.mark.parametrize("island_weight", [0.0, 10.0])
def test_a_step_equals_a_loop_over_classes(island_weight, random_batch):
    slices, labels, _ = random_batch(slices=1, batch=13, width=4, classes=4)
    labels[labels == 2] = 3
    before = drawn()
    pull = island_pull(before)
    centers = made(before)
    centers.step(slices[0], labels, 0.3, island_weight)
    for j in range(5):
        of_class = slices[0][labels == j]
        change = (before[j] - of_class).sum(0) / (1 + len(of_class)) + island_weight * pull[j]
        expected = before[j] - 0.3 * change if len(of_class) else before[j]
        torch.testing.assert_close(centers.centers[j], expected)


def test_unseen_classes_stay_exactly(random_batch):
    slices, _, _ = random_batch(slices=1, batch=4, width=4, classes=2)
    centers = made(drawn())
    centers.step(slices[0], torch.tensor([1, 1, 3, 3]), 0.5, 10.0)
    assert torch.equal(centers.centers[[0, 2, 4]], drawn()[[0, 2, 4]])
    assert not torch.isclose(centers.centers[[1, 3]], drawn()[[1, 3]]).any()


def test_many_steps_bring_the_centres_to_the_class_means():
    points, centers = torch.tensor(X4, dtype=torch.float64), Centers(3, 2).double()
    for _ in range(100):
        centers.step(points, Y)
    torch.testing.assert_close(centers.centers, torch.tensor([[0.3, 0], [0.5, 0.9], [0, 0]], dtype=torch.float64))


def test_the_pull_is_the_slope_of_the_cosines_over_the_number_of_other_centres():
    """Half the slope of the island term, which counts each pair twice, over C - 1; it has no part along the centre."""
    centers = drawn().requires_grad_()
    cosines = F.cosine_similarity(centers[:, None], centers, dim=2)
    (slope,) = torch.autograd.grad(cosines.triu(1).sum(), centers)
    pull = island_pull(centers)
    torch.testing.assert_close(pull, slope / 4)
    torch.testing.assert_close(torch.linalg.vecdot(pull, centers.detach()), torch.zeros(5, dtype=torch.float64))


def test_the_pull_turns_centres_apart():
    centers = made(drawn() + 2)
    points = centers.centers.clone()
    before = island_term(centers.centers)
    centers.step(points, torch.arange(5), 0.1, 1.0)
    assert island_term(centers.centers) < before


@both_types
def test_a_centre_at_0_neither_turns_nor_turns_others(dtype):
    values = drawn().to(dtype)
    values[[1, 4]] = 0
    pull = island_pull(values)
    assert not pull[[1, 4]].any()
    torch.testing.assert_close(pull[[0, 2, 3]], island_pull(values[[0, 2, 3]]) * 2 / 4)
    # Three pairs of the others, seven with a centre at 0, each in both orders.
    assert island_term(values).item() == pytest.approx(island_term(values[[0, 2, 3]]).item() + 14, abs=1e-5)
    assert not island_pull(torch.zeros(5, 4, dtype=dtype)).any()


def test_one_class_has_no_island():
    centers = made(drawn(1))
    assert island_term(centers.centers).item() == 0
    assert not island_pull(centers.centers).any()


def test_opposite_centres_have_no_island_term():
    assert island_term(torch.tensor([[2.0, 0.0], [-5.0, 0.0]])).item() == 0


def test_centres_are_state_and_no_parameter():
    centers = Centers(3, 2)
    assert list(centers.parameters()) == []
    assert {name: value.tolist() for name, value in centers.state_dict().items()} == {"centers": [[0, 0]] * 3}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_step_from_half_precision_moves_float32_centres(dtype):
    half = torch.tensor(X4, dtype=dtype, requires_grad=True)
    centers, expected = Centers(2, 2), Centers(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        centers.step(half, Y, 0.5, 10.0)
    expected.step(half.float(), Y, 0.5, 10.0)
    assert centers.centers.dtype == torch.float32
    assert torch.equal(centers.centers, expected.centers)


def test_a_step_never_waits_for_the_host():
    centers = Centers(2, 2).to("meta")
    centers.step(torch.zeros(4, 2, device="meta"), Y.to("meta"), 0.5, 10.0)
    assert centers.centers.is_meta


def test_what_does_not_fit_is_refused_with_what_was_found():
    with pytest.raises(MethodError, match=r"centres \(C, 2\) for embeddings \(4, 2\), found \(2, 3\)"):
        center_loss(torch.zeros(4, 2), Y, torch.zeros(2, 3))
    with pytest.raises(MethodError, match=r"centres \(C, 2\) .* found \(2, 3\)"):
        Centers(2, 3).step(torch.zeros(4, 2), Y)
    with pytest.raises(MethodError, match=r"labels \(4,\) int64"):
        Centers(2, 2).step(torch.zeros(4, 2), Y[:3])
