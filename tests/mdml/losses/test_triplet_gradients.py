"""Gradients of the batch-hard losses against numerical ones and against plain autograd through gathered embeddings."""

import pytest
import torch
import torch.nn.functional as F

from mdml.losses.triplet import Form, batch_hard_distances, batch_hard_triplet, mine_batch_hard, normalize_slices

both_forms = pytest.mark.parametrize("form", ["conventional", "dual"])
both_lengths = pytest.mark.parametrize("normalize", [True, False])


def plain(slices, labels, taus, form, normalize):
    """The loss of each slice, written down as the formula stands and differentiated by autograd."""
    embeddings = F.normalize(slices, dim=-1, eps=1e-5) if normalize else slices
    losses = []
    with torch.no_grad():
        mined_p, mined_n, valid = mine_batch_hard(embeddings, labels, normalize)
    for points, p, n, tau in zip(embeddings, mined_p, mined_n, taus, strict=True):
        ap, an, pn = (
            (a - b).square().sum(-1) for a, b in ((points, points[p]), (points, points[n]), (points[p], points[n]))
        )
        ap, an, pn = (torch.where(d == 0, 0.0, torch.where(d == 0, 1.0, d).sqrt()) for d in (ap, an, pn))
        h1, h2 = (ap - an + tau).clamp_min(0), (ap - pn + tau).clamp_min(0)
        terms = h1 if form == "conventional" else (h1 + h2) / 2
        losses.append(terms[valid].mean() if valid.any() else terms.sum() * 0)
    return torch.stack(losses)


def gradient(loss, slices, labels, taus, form, normalize):
    """Of a sum in which every slice has another weight, so that slices cannot be mixed up unseen."""
    slices = slices.detach().clone().requires_grad_()
    losses = loss(slices, labels, taus, form, normalize)
    (losses * torch.arange(1, len(losses) + 1).to(losses)).sum().backward()
    return slices.grad


def compare(batch, form, normalize):
    slices, labels, taus = batch
    found, expected = (gradient(loss, slices, labels, taus, form, normalize) for loss in (batch_hard_triplet, plain))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    return found


@both_forms
@both_lengths
@pytest.mark.parametrize(
    ("slices", "batch", "width", "classes"), [(1, 2, 2, 1), (1, 5, 1, 2), (3, 9, 4, 4), (2, 33, 7, 5)]
)
def test_equals_plain_autograd(slices, batch, width, classes, form, normalize, random_batch):
    for seed in range(5):
        compare(random_batch(slices, batch, width, classes, seed), form, normalize)


@both_forms
@both_lengths
def test_gradcheck(form, normalize, random_batch):
    slices, labels, taus = random_batch(slices=2, batch=7, width=3, classes=3)
    slices.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: batch_hard_triplet(s, labels, taus, form, normalize), (slices,))


@both_lengths
def test_gradcheck_of_every_distance_alone(normalize, random_batch):
    """The three outputs get gradients of their own: an output left out must count as 0, not as an error."""
    slices, labels, _ = random_batch(slices=2, batch=6, width=3, classes=2)
    slices.requires_grad_()
    for which in range(3):
        assert torch.autograd.gradcheck(
            lambda s, which=which: batch_hard_distances(s, labels, normalize)[which], (slices,)
        )


@both_forms
def test_a_sample_mined_by_many_anchors_gets_the_sum_of_their_pulls(form):
    """Sample 4 is the farthest positive of all its class and sample 5 the nearest negative of all."""
    slices = torch.tensor(
        [[[0.0, 0.0], [0.1, 0.2], [0.2, -0.1], [0.0, 0.3], [3.0, 0.0], [1.0, 0.5], [9.0, 9.0]]], dtype=torch.float64
    )
    labels, taus = torch.tensor([0, 0, 0, 0, 0, 1, 1]), torch.tensor([0.45], dtype=torch.float64)
    p, n, _ = mine_batch_hard(slices, labels, normalized=False)
    assert p[0, :4].tolist() == [4, 4, 4, 4]
    assert n[0, :5].tolist() == [5, 5, 5, 5, 5]
    found = compare((slices, labels, taus), form, normalize=False)
    assert found[0, 4].norm() > found[0, :4].norm(dim=-1).max()


@both_forms
@both_lengths
def test_coinciding_embeddings_pull_in_no_direction(form, normalize, random_batch):
    """Equal pairs within a class and across classes, and a whole class at one point."""
    slices, labels, taus = random_batch(slices=3, batch=12, width=4, classes=3)
    labels = torch.arange(12) % 3
    slices[:, 3] = slices[:, 0]
    slices[:, 4] = slices[:, 0]
    slices[:, 2::3] = slices[:, 2:3]
    found = compare((slices, labels, taus), form, normalize)
    assert found.isfinite().all()
    assert (found.abs().sum((1, 2)) > 0).all()


@both_forms
def test_rows_shorter_than_the_guard(form, random_batch):
    """|f| < 1e-5: the division is by a constant there, so that the gradient is not projected but scaled by 1e5."""
    slices, labels, taus = random_batch(slices=2, batch=9, width=4, classes=3)
    slices[0, 2] *= 1e-6 / slices[0, 2].norm()
    slices[1, 5] *= 9.9e-6 / slices[1, 5].norm()
    slices[1, 6] *= 1.1e-5 / slices[1, 6].norm()
    slices[1, 7] = 0
    found = compare((slices, labels, taus), form, normalize=True)
    assert found.isfinite().all()
    along = torch.linalg.vecdot(found, normalize_slices(slices)).abs()
    short = slices.norm(dim=-1) < 1e-5
    assert along[~short].max() < 1e-6, "a normalised row has no gradient along itself"
    assert along[0, 2] > 1


@both_forms
@pytest.mark.parametrize("normalize", [True, False])
def test_a_lone_class_a_batch_of_two_and_a_single_class_have_finite_gradients(form, normalize, random_batch):
    for labels in ([0, 0, 1], [0, 1], [0, 0], [1, 2, 3], [0]):
        slices, _, taus = random_batch(slices=2, batch=len(labels), width=3, classes=2)
        found = compare((slices, torch.tensor(labels), taus), form, normalize)
        assert found.isfinite().all()
        assert bool(found.any()) == (labels == [0, 0, 1])


@both_forms
def test_a_float32_gradient_is_the_float64_one_rounded(form, random_batch):
    slices, labels, taus = random_batch(slices=3, batch=24, width=16, classes=4)
    exact = gradient(batch_hard_triplet, slices, labels, taus, form, True)
    rounded = gradient(batch_hard_triplet, slices.float(), labels, taus.float(), form, True)
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-4, atol=1e-6)


def test_the_slope_in_a_threshold_is_the_share_of_open_hinges(random_batch):
    """T9: a threshold that asks for a gradient gets mean(1[h1 > 0]), in [0, 1]; the dual form halves either hinge."""
    slices, labels, taus = random_batch(slices=3, batch=20, width=3, classes=3, spread=0.3)
    taus.requires_grad_()
    mined = batch_hard_distances(slices, labels)
    open1, open2 = (mined.ap - d + taus[:, None] > 0 for d in (mined.an, mined.pn))
    shares: dict[Form, torch.Tensor] = {"conventional": open1.double(), "dual": (open1.double() + open2.double()) / 2}
    for form, opened in shares.items():
        (slope,) = torch.autograd.grad(batch_hard_triplet(slices, labels, taus, form).sum(), taus)
        torch.testing.assert_close(slope, opened[:, mined.valid].mean(1))
        assert ((slope > 0) & (slope < 1)).any()
