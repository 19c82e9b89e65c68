"""The worked examples: four points in the plane whose distances can be checked by hand.

X4: (0,0) (.6,0) | (0,.8) (1,1). Distances 01 .6, 02 .8, 03 1.414214, 12 1, 13 sqrt(1.16) = 1.077033, 23 sqrt(1.04) =
1.019804, so that p = [1,0,3,2] and n = [2,2,0,1].
CIRCLE: 0, 30 | 75, 150 degrees on the unit circle, d = 2 sin(angle / 2).
"""

import math

import pytest
import torch

from mdml.diagnostics import triplet_rates
from mdml.losses.triplet import batch_hard_distances, batch_hard_triplet, mine_batch_hard, triplet_terms
from tests.mdml.losses import brute

X4 = [[0.0, 0.0], [0.6, 0.0], [0.0, 0.8], [1.0, 1.0]]
CIRCLE = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (0, 30, 75, 150)]
Y = [0, 0, 1, 1]
# tau: h1, h2, conventional, dual, rate of incomplete judgements
T1 = {
    0.0: ([0, 0, 0.219804, 0], [0, 0, 0, 0.019804], 0.054951, 0.029951, 0.25),
    0.15: ([0, 0, 0.369804, 0.092771], [0, 0, 0, 0.169804], 0.115644, 0.079047, 0),
    0.45: ([0.25, 0.05, 0.669804, 0.392771], [0.05, 0.25, 0.055590, 0.469804], 0.340644, 0.273496, 0),
    0.75: ([0.55, 0.35, 0.969804, 0.692771], [0.35, 0.55, 0.355590, 0.769804], 0.640644, 0.573496, 0),
}
# tau: loss of either form, rate of incomplete judgements
T2 = {0.15: (0.150539, 0.25), 0.45: (0.276107, 0.25), 0.75: (0.497504, 0)}

both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
both_forms = pytest.mark.parametrize("form", ["conventional", "dual"])


def close(found, expected):
    """To the six digits of the literals."""
    torch.testing.assert_close(torch.as_tensor(found).double(), torch.as_tensor(expected).double(), rtol=0, atol=1e-6)


def incomplete_rate(points, labels, taus, normalize):
    mined = batch_hard_distances(points, labels, normalize)
    rates = triplet_rates(mined, taus)
    return rates[1] / rates[-1]


@both_types
@pytest.mark.parametrize("tau", T1)
def test_t1_raw_points(tau, dtype):
    h1, h2, conventional, dual, incomplete = T1[tau]
    points, labels, taus = torch.tensor([X4], dtype=dtype), torch.tensor(Y), torch.tensor([tau], dtype=dtype)
    p, n, valid = mine_batch_hard(points, labels, normalized=False)
    assert p.tolist() == [[1, 0, 3, 2]]
    assert n.tolist() == [[2, 2, 0, 1]]
    assert valid.all()
    mined = batch_hard_distances(points, labels, normalize=False)
    close(triplet_terms(mined, taus, "conventional"), [h1])
    close(triplet_terms(mined, taus, "dual"), [[(a + b) / 2 for a, b in zip(h1, h2, strict=True)]])
    close(batch_hard_triplet(points, labels, taus, "conventional", normalize=False), [conventional])
    close(batch_hard_triplet(points, labels, taus, "dual", normalize=False), [dual])
    close(incomplete_rate(points, labels, taus, normalize=False), [incomplete])


@pytest.mark.parametrize("tau", T1)
def test_the_reference_of_these_tests_gives_t1_too(tau):
    h1, h2, conventional, dual, incomplete = T1[tau]
    triplets = brute.judged(X4, Y, tau)
    close([t.h1 for t in triplets], h1)
    close([t.h2 for t in triplets], h2)
    close(brute.loss(X4, Y, tau, "conventional"), conventional)
    close(brute.loss(X4, Y, tau, "dual"), dual)
    assert sum(t.incomplete for t in triplets) / len(triplets) == incomplete


@both_types
@both_forms
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("tau", T2)
def test_t2_circle(tau, form, normalize, dtype):
    """d = .517638 1.217523 1.931852 .765367 1.732051 1.217523 (01 02 03 12 13 23); n = [2,2,1,1].

    At tau .15 only anchor 2 has h1 = 1.217523 - .765367 + .15 = .602156 and only anchor 3 has h2, of the same numbers:
    .602156 / 4 = .150539 either way, since each pair shares its nearest negative and so swaps h1 and h2.
    """
    points, labels, taus = torch.tensor([CIRCLE], dtype=dtype), torch.tensor(Y), torch.tensor([tau], dtype=dtype)
    loss, incomplete = T2[tau]
    mined = batch_hard_distances(points, labels, normalize)
    close(mined.ap, [[0.517638, 0.517638, 1.217523, 1.217523]])
    close(mined.an, [[1.217523, 0.765367, 0.765367, 1.732051]])
    close(mined.pn, [[0.765367, 1.217523, 1.732051, 0.765367]])
    close(batch_hard_triplet(points, labels, taus, form, normalize), [loss])
    close(incomplete_rate(points, labels, taus, normalize), [incomplete])


@both_types
@both_forms
@pytest.mark.parametrize(("slices", "mean"), [(4, 0.302281), (7, 0.295902), (13, 0.292896)])
def test_t2_slices_of_equal_points_at_even_thresholds(slices, mean, form, dtype):
    """All slices hold the circle; the thresholds .15 + i .6 / (N - 1) differ, and so do the losses."""
    taus = torch.tensor([0.15 + i * 0.6 / (slices - 1) for i in range(slices)], dtype=dtype)
    points = torch.tensor([CIRCLE] * slices, dtype=dtype)
    losses = batch_hard_triplet(points, torch.tensor(Y), taus, form)
    close(losses.mean(), mean)
    close(losses[[0, -1]], [T2[0.15][0], T2[0.75][0]])


@both_types
def test_t2_and_t6_seven_equal_slices_at_one_threshold_are_one_slice(dtype):
    taus = torch.full((7,), 0.45, dtype=dtype)
    losses = batch_hard_triplet(torch.tensor([CIRCLE] * 7, dtype=dtype), torch.tensor(Y), taus, "dual")
    one = batch_hard_triplet(torch.tensor([CIRCLE], dtype=dtype), torch.tensor(Y), taus[:1], "dual")
    close(losses, [0.276107] * 7)
    torch.testing.assert_close(losses, one.expand(7), rtol=1e-6, atol=0)


@both_types
def test_t3_an_incomplete_judgement(dtype):
    """a (0,0), p (1,0), n (1.175,.243670): d(a,p) = 1, d(a,n) = 1.2, d(p,n) = .3, tau .15.

    Anchor a: h1 = 0, h2 = .85, so conventional 0 and dual .425: incomplete. Anchor p: h1 = .85, h2 = 0. n has no
    positive and does not count; both losses are .425.
    """
    points = torch.tensor([[[0, 0], [1, 0], [1.175, 0.243670]]], dtype=dtype)
    labels, taus = torch.tensor([0, 0, 1]), torch.tensor([0.15], dtype=dtype)
    mined = batch_hard_distances(points, labels, normalize=False)
    assert mined.valid.tolist() == [True, True, False]
    close(mined.ap[0, :2], [1, 1])
    close(mined.an[0, :2], [1.2, 0.3])
    close(mined.pn[0, :2], [0.3, 1.2])
    close(triplet_terms(mined, taus, "conventional")[0, :2], [0, 0.85])
    close(triplet_terms(mined, taus, "dual")[0, :2], [0.425, 0.425])
    for form in ("conventional", "dual"):
        close(batch_hard_triplet(points, labels, taus, form, normalize=False), [0.425])
    close(incomplete_rate(points, labels, taus, normalize=False), [0.5])


@both_types
@both_forms
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.25, 7.0])
def test_t4_a_collapsed_embedding_costs_its_threshold(value, normalize, form, dtype):
    points = torch.full((3, 6, 4), value, dtype=dtype, requires_grad=True)
    taus = torch.tensor([0.15, 0.45, 2.0], dtype=dtype)
    losses = batch_hard_triplet(points, torch.tensor([0, 0, 1, 1, 2, 2]), taus, form, normalize)
    close(losses, taus)
    (gradient,) = torch.autograd.grad(losses.sum(), points)
    assert gradient.isfinite().all()


@both_forms
def test_t7_the_order_of_the_batch_does_not_matter(form, random_batch):
    slices, labels, taus = random_batch(slices=3, batch=17, width=5, classes=4)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
    shuffled = batch_hard_triplet(slices[:, order], labels[order], taus, form)
    torch.testing.assert_close(batch_hard_triplet(slices, labels, taus, form), shuffled, rtol=1e-12, atol=1e-12)


@both_forms
def test_t8_the_length_of_embeddings_does_not_matter(form, random_batch):
    slices, labels, taus = random_batch(slices=3, batch=12, width=5, classes=3)
    scale = torch.tensor([0.01, 3.0, 1e4], dtype=slices.dtype)[:, None, None]
    expected = batch_hard_triplet(slices, labels, taus, form)
    torch.testing.assert_close(batch_hard_triplet(slices * scale, labels, taus, form), expected, rtol=1e-10, atol=1e-10)
    raw = batch_hard_triplet(slices * scale, labels, taus, form, normalize=False)
    assert not torch.isclose(raw, expected).any()


@both_forms
def test_t9_the_loss_grows_with_the_threshold_at_a_slope_of_at_most_one(form, random_batch):
    """One and the same embedding in 21 slices at thresholds 0, .1, ... 2."""
    slices, labels, _ = random_batch(slices=1, batch=16, width=4, classes=3, spread=0.1)
    taus = torch.linspace(0, 2, 21, dtype=slices.dtype)
    losses = batch_hard_triplet(slices.expand(21, -1, -1), labels, taus, form)
    steps = losses.diff()
    assert (steps >= 0).all()
    assert (steps <= 0.1 + 1e-12).all()
    assert steps[0] < 0.05 < 0.0999 < steps[-1], "a hinge that is closed at 0 and open at 2 makes the slope grow"


@both_forms
def test_t10_a_batch_of_one_class_costs_nothing_but_keeps_its_graph(form):
    slices = torch.randn(2, 5, 3, requires_grad=True)
    losses = batch_hard_triplet(slices, torch.zeros(5, dtype=torch.int64), torch.tensor([0.15, 0.75]), form)
    assert losses.tolist() == [0, 0]
    (gradient,) = torch.autograd.grad(losses.sum(), slices)
    assert not gradient.any()


def test_t11_bounds_between_the_forms(random_batch):
    """300 draws, with lone classes among them. With m = max(h1, h2) and l = (h1 + h2) / 2:

    (i) m / 2 <= l <= m; (ii) the dual loss is at least half the conventional one; (iii) max l <= max h1, hence both
    are 0 together. Neither loss is always the smaller.
    """
    above = below = zero = 0
    for seed in range(300):
        slices, labels, taus = random_batch(
            slices=2, batch=8, width=3, classes=3, seed=seed, spread=0.1 if seed % 3 else 1.0
        )
        mined = batch_hard_distances(slices, labels)
        h1, dual = triplet_terms(mined, taus, "conventional"), triplet_terms(mined, taus, "dual")
        hardest = torch.maximum(h1, (mined.ap - mined.pn + taus[:, None]).clamp_min(0))
        assert (dual[:, mined.valid] >= hardest[:, mined.valid] / 2 - 1e-12).all()
        assert (dual[:, mined.valid] <= hardest[:, mined.valid] + 1e-12).all()
        conventional, both = (batch_hard_triplet(slices, labels, taus, form) for form in ("conventional", "dual"))
        assert (both >= conventional / 2 - 1e-12).all()
        if mined.valid.any():
            assert (dual[:, mined.valid].amax(1) <= h1[:, mined.valid].amax(1) + 1e-12).all()
        assert ((both == 0) == (conventional == 0)).all()
        above, below = above + int((both > conventional + 1e-9).sum()), below + int((both < conventional - 1e-9).sum())
        zero += int((both == 0).sum())
    assert min(above, below, zero) > 10
