"""RML against loops over queries, the oracle R1, and the limits that the derivation promises."""

import math

import pytest
import torch

from mdml import MethodError
from mdml.losses import radial_loss
from mdml.losses.radial import FixedRadius, RadialMetric, RunningCenters, batch_centers

X4, Y = [[0.0, 0.0], [0.6, 0.0], [0.0, 0.8], [1.0, 1.0]], [0, 0, 1, 1]
R4 = [[0.2, 0.9], [0.5, 0.5], [0.1, 0.2], [2.0, 2.0]]
both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def close(found, expected):
    """To the six digits of the literals."""
    torch.testing.assert_close(torch.as_tensor(found).double(), torch.as_tensor(expected).double(), rtol=0, atol=1e-6)


def metric(weights, dtype=torch.float64):
    """A RadialMetric with these L_A, L_B, c and b."""
    made = RadialMetric(len(weights[2])).to(dtype)
    with torch.no_grad():
        for weight, value in zip((made.a, made.b, made.linear, made.bias), weights, strict=True):
            weight.copy_(torch.as_tensor(value))
    return made


def random_metric(width, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((width, width), (width, width), (width,), ())
    return metric([torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes], dtype)


def quadratic(one, two, made):
    """g by loops, in Python floats: the paper's S with A = L_A' L_A and B = L_B' L_B, written out."""
    a, b, linear, bias = (weight.detach().tolist() for weight in (made.a, made.b, made.linear, made.bias))
    wide = range(len(one))

    def mapped(matrix, vector):
        return [sum(matrix[i][j] * vector[j] for j in wide) for i in wide]

    halves = sum(x * x for v in (one, two) for x in mapped(a, v)) / 2
    cross = sum(x * y for x, y in zip(mapped(b, one), mapped(b, two), strict=True))
    return halves - cross + sum(linear[i] * (one[i] + two[i]) for i in wide) + bias


def brute(queries, references, labels, g, hinge):
    """The loss by a loop over the queries, with centres by loops over their classes."""
    total = 0.0
    for query, reference, label in zip(queries, references, labels, strict=True):
        members = [other for other, its in zip(queries, labels, strict=True) if its == label]
        center = [math.fsum(column) / len(members) for column in zip(*members, strict=True)]
        total += max(0.0, hinge + g(query, center)) + max(0.0, hinge - g(reference, center))
    return total / len(queries)


def draw(count=12, width=5, classes=4, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    queries, references = scale * torch.randn(2, count, width, generator=generator, dtype=torch.float64)
    return queries, references, torch.randint(classes, (count,), generator=generator)


@both_types
@pytest.mark.parametrize(
    ("weights", "of_queries", "of_references", "loss"),
    [
        (
            ([[math.sqrt(2), 0], [0, math.sqrt(2)]], [[math.sqrt(2), 0], [0, math.sqrt(2)]], [0.0, 0.0], -1.0),
            [-0.91, -0.91, -0.74, -0.74],
            [-0.18, -0.71, -0.35, 2.46],
            1.235,
        ),
        (
            ([[1.0, 0.5], [0.0, 1.0]], [[0.8, 0.0], [0.3, 1.0]], [0.1, -0.2], -0.3),
            [-0.225, -0.1164, -0.17375, 0.26625],
            [0.10645, -0.02325, 0.16275, 3.35625],
            1.626287,
        ),
    ],
    ids=["radius 1", "generic"],
)
def test_r1(weights, of_queries, of_references, loss, dtype):
    made = metric(weights, dtype)
    queries, references, labels = torch.tensor(X4, dtype=dtype), torch.tensor(R4, dtype=dtype), torch.tensor(Y)
    centers = batch_centers(queries, labels)
    close(centers, [[0.3, 0], [0.3, 0], [0.5, 0.9], [0.5, 0.9]])
    close(made(queries, centers), of_queries)
    close(made(references, centers), of_references)
    found = radial_loss(queries, references, labels, made)
    assert found.dtype == dtype
    close(found, loss)
    close(radial_loss(queries, references, labels, made, centers), loss)


def test_the_reference_of_these_tests_gives_r1_too():
    made = metric(([[1.0, 0.5], [0.0, 1.0]], [[0.8, 0.0], [0.3, 1.0]], [0.1, -0.2], -0.3))
    close(brute(X4, R4, Y, lambda f, c: quadratic(f, c, made), 1.0), 1.626287)


@pytest.mark.parametrize("labels", [[0, 1, 1, 2, 2, 2, 0], [5, 5, 5, 5], [3, 1, 0, 7], [1, 1], [0, 4], [2]])
def test_equals_a_loop_over_queries(labels):
    for seed in range(5):
        queries, references, _ = draw(len(labels), seed=seed, scale=0.5)
        made, fixed = random_metric(5, seed), FixedRadius(1.0 + seed, 0.5 * seed)
        for g, by_hand in ((made, made), (fixed, fixed)):

            def written(f, c, by_hand=by_hand):
                if isinstance(by_hand, RadialMetric):
                    return quadratic(f, c, by_hand)
                return math.dist(f, c) ** 2 - by_hand.threshold

            expected = brute(queries.tolist(), references.tolist(), labels, written, g.hinge)
            found = radial_loss(queries, references, torch.tensor(labels), g)
            assert found.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@both_types
def test_the_adaptive_form_with_these_weights_is_the_fixed_form(dtype):
    """A = B = sqrt(2) I, c = 0, b = -S0 makes g the squared distance less S0, so T- = S0 - 1 and T+ = S0 + 1; S0 = 2 at the start."""
    queries, references, labels = draw()
    queries, references = queries.to(dtype), references.to(dtype)
    start = RadialMetric(5).to(dtype)
    for threshold in (2.0, 1.0, 3.5):
        with torch.no_grad():
            start.bias.fill_(-threshold)
        one = radial_loss(queries, references, labels, start)
        other = radial_loss(queries, references, labels, FixedRadius(threshold, 2.0))
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert RadialMetric(5).bias.item() == -2 == -FixedRadius().threshold


def test_a_threshold_of_half_the_margin_is_the_center_loss_and_a_push():
    queries, references, labels = draw()
    found = radial_loss(queries, references, labels, FixedRadius(0.7, 1.4))
    centers = batch_centers(queries, labels)
    push = (1.4 - (references - centers).square().sum(1)).clamp_min(0).mean()
    torch.testing.assert_close(found, (queries - centers).square().sum(1).mean() + push)


@pytest.mark.parametrize("width", [1, 4])
def test_a_reference_that_is_its_query_costs_two_at_least(width):
    for seed in range(50):
        queries, _, labels = draw(width=width, seed=seed)
        made = random_metric(width, seed)
        assert radial_loss(queries, queries, labels, made) >= 2 - 1e-9
        g = made(queries, batch_centers(queries, labels))
        expected = (1 + g).clamp_min(0) + (1 - g).clamp_min(0)
        torch.testing.assert_close(radial_loss(queries, queries, labels, made), expected.mean())


def test_zero_if_and_only_if_every_query_is_inside_and_every_reference_outside():
    """Two queries at +-.5 around the centre 0: |f|^2 - 2 = -1.75 <= -1; references at 2: 4 - 2 = 2 >= 1."""
    queries, labels = torch.tensor([[0.5, 0.0], [-0.5, 0.0]]), torch.tensor([3, 3])
    far, near = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.7]])
    assert radial_loss(queries, far, labels, RadialMetric(2)) == 0
    close(radial_loss(queries, near, labels, RadialMetric(2)), (1 - (1.7**2 - 2)) / 2)
    assert radial_loss(queries * 3, far, labels, RadialMetric(2)) > 0


def test_g_is_symmetric_in_its_arguments_and_takes_any_leading_axes():
    made = random_metric(5)
    one, two, _ = draw()
    torch.testing.assert_close(made(one, two), made(two, one))
    torch.testing.assert_close(made(one.view(3, 4, 5), two.view(3, 4, 5)), made(one, two).view(3, 4))
    torch.testing.assert_close(made(one.view(3, 4, 5), two[:3, None])[1], made(one[4:8], two[1].expand(4, 5)))


def test_the_fixed_form_does_not_see_translation_or_rotation():
    queries, references, labels = draw()
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    expected = radial_loss(queries, references, labels, FixedRadius())
    moved = (queries @ rotation + 3, references @ rotation + 3)
    torch.testing.assert_close(radial_loss(*moved, labels, FixedRadius()), expected)
    assert not torch.isclose(radial_loss(2 * queries, 2 * references, labels, FixedRadius()), expected)


def test_the_centres_leave_the_references_out():
    queries, _, labels = draw()
    centers = batch_centers(queries, labels)
    for i, label in enumerate(labels):
        torch.testing.assert_close(centers[i], queries[labels == label].mean(0))
    assert torch.equal(batch_centers(queries, labels + 10**12), centers), "any ids will do"


def test_gradcheck_with_respect_to_everything():
    queries, references, labels = draw(6, 3, 2, seed=4)
    made = random_metric(3, 1)

    inputs = [queries.requires_grad_(), references.requires_grad_(), *made.parameters()]
    assert radial_loss(queries, references, labels, made) > 0
    assert torch.autograd.gradcheck(lambda q, r, *weights: radial_loss(q, r, labels, made), inputs)


def test_the_gradient_flows_through_batch_centres_and_not_through_given_ones():
    queries, references, labels = draw()
    queries.requires_grad_()
    g = FixedRadius(0.0, 0.0)
    pulled = radial_loss(queries, references, labels, g)
    (through,) = torch.autograd.grad(pulled, queries)
    centers = batch_centers(queries, labels)
    # Sum of squares around a mean: its own gradient is the same with the mean held fast, that of the push is 0 here.
    torch.testing.assert_close(through, 2 * (queries - centers).detach() / len(queries))
    pushing = radial_loss(queries, references, labels, FixedRadius(0.0, 50.0))
    (with_push,) = torch.autograd.grad(pushing, queries, retain_graph=True)
    (held,) = torch.autograd.grad(
        radial_loss(queries, references, labels, FixedRadius(0.0, 50.0), centers.detach()), queries
    )
    torch.testing.assert_close(held, through)
    assert not torch.isclose(with_push, held).all()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_coinciding_embeddings_have_finite_gradients(value):
    points = torch.full((4, 3), value, requires_grad=True)
    made = RadialMetric(3)
    loss = radial_loss(points, points, torch.tensor([0, 0, 1, 1]), made)
    assert loss >= 2 - 1e-5
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, [points, *made.parameters()]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("g", [RadialMetric(5), FixedRadius()], ids=["adaptive", "fixed"])
def test_half_precision_is_raised_and_autocast_does_not_coarsen(dtype, g):
    queries, references, labels = draw()
    queries, references = queries.to(dtype), references.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = radial_loss(queries, references, labels, g)
    assert found.dtype == torch.float32
    assert torch.equal(found, radial_loss(queries.float(), references.float(), labels, g))


def test_running_centres_move_halfway_and_start_at_the_first_mean():
    """Class 0 is met at 1 and then at 3, so at 1 and 2; class 1 only the second time, at 8; class 2 never."""
    centers = RunningCenters(3, 1)
    assert centers(torch.tensor([[0.5], [1.5]]), torch.tensor([0, 0])).tolist() == [[1.0], [1.0]]
    queries = torch.tensor([[3.0], [8.0]], requires_grad=True)
    found = centers(queries, torch.tensor([0, 1]))
    assert found.tolist() == [[2.0], [8.0]]
    assert not found.requires_grad
    assert centers.means.tolist() == [[2.0], [8.0], [0.0]]
    centers.eval()
    assert centers(queries + 5, torch.tensor([1, 0])).tolist() == [[8.0], [2.0]]
    assert centers.means.tolist() == [[2.0], [8.0], [0.0]]
    assert set(centers.state_dict()) == {"means", "seen"}


def test_running_centres_follow_a_loop():
    centers = RunningCenters(4, 5)
    expected: dict[int, torch.Tensor] = {}
    for seed in range(6):
        queries, _, labels = draw(5, seed=seed)
        found = centers(queries.float(), labels)
        for label in labels.unique().tolist():
            mean = queries[labels == label].float().mean(0)
            expected[label] = mean if label not in expected else (expected[label] + mean) / 2
        torch.testing.assert_close(found, torch.stack([expected[label] for label in labels.tolist()]))


POINTS, IDS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((POINTS[0], POINTS[0], IDS[:3]), r"Expected .*\(.*, D\) float.* found \(3,\)"),
        ((POINTS.long(), POINTS, IDS), r"Expected .*\(.*, D\) float.* found \(4, 3\) torch.int64"),
        ((POINTS, POINTS[:3], IDS), r"one reference for each of the queries \(4, 3\), found \(3, 3\)"),
        ((POINTS, POINTS, IDS[:3]), r"Expected labels \(4,\) int64 .* found \(3,\) torch.int64"),
        ((POINTS, POINTS, IDS.float()), r"Expected labels \(4,\) int64 .* found \(4,\) torch.float32"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(arguments, message):
    with pytest.raises(MethodError, match=message):
        radial_loss(arguments[0], arguments[1], arguments[2], FixedRadius())


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_a_radius_is_finite_and_not_negative(bad):
    with pytest.raises(MethodError, match=r"The threshold of a radius must be finite and not negative, found"):
        FixedRadius(bad)
    with pytest.raises(MethodError, match=r"The margin of a radius must be finite and not negative, found"):
        FixedRadius(1.0, bad)
