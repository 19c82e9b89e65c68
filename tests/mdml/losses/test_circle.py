"""Circle loss in both forms: the worked example, loops over explicit pairs, gradients written out, and pytorch-metric-learning."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import CircleLoss

from mdml import MethodError
from mdml.losses import circle
from tests.mdml.losses import brute

both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
CIRCLE = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (0, 30, 75, 150)]
Y = [0, 0, 1, 1]
LABELS = {
    "uneven classes": [0, 1, 1, 2, 2, 2, 0, 1, 2, 2, 1, 0, 2],
    "lone classes": [3, 0, 0, 7, 0],
    "all different": [4, 3, 2, 1, 0],
    "one class": [5, 5, 5, 5],
    "one sample": [2],
}


def loop(points, labels, form, gamma, m):
    """By exponentials as the formula stands: for gammas at which none overflows."""
    rows = [brute.unit(point) for point in points]
    everyone = range(len(rows))
    pairs = itertools.product(everyone, repeat=2) if form == "batch" else itertools.combinations(everyone, 2)
    pulls, pushes = [], []
    for i, j in pairs:
        s = math.fsum(x * y for x, y in zip(rows[i], rows[j], strict=True))
        if labels[i] == labels[j]:
            pulls.append(math.exp(-gamma * max(0.0, 1 + m - s) * (s - 1 + m)))
        else:
            pushes.append(math.exp(gamma * max(0.0, s + m) * (s - m)))
    product = math.fsum(pulls) * math.fsum(pushes)
    if form == "batch":
        product /= max(1, len(pulls)) * max(1, len(pushes))
    return math.log1p(product)


class AllPairsInOneRow(CosineSimilarity):
    """Similarities of the pairs i < j, as one row of a matrix."""

    def forward(self, query_emb, ref_emb=None):
        i, j = torch.triu_indices(len(query_emb), len(query_emb), 1)
        return super().forward(query_emb, ref_emb)[i, j][None]


@both_types
def test_o1(dtype):
    points, labels = torch.tensor(CIRCLE, dtype=dtype), torch.tensor(Y)
    # float32 has six digits of a number near 30, the fifth decimal.
    digits = 1e-6 if dtype == torch.float64 else 1e-5
    assert circle(points, labels, "batch").item() == pytest.approx(26.806589, abs=digits)
    assert circle(points, labels, "original", 32.0).item() == pytest.approx(29.579177, abs=digits)
    assert circle(7 * points, labels, "original", 32.0).item() == pytest.approx(29.579177, abs=digits)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("form", ["batch", "original"])
@pytest.mark.parametrize(("gamma", "relaxation"), [(8.0, 0.25), (32.0, 0.4), (1.0, 0.0)])
def test_equals_a_loop_over_pairs(labels, form, gamma, relaxation):
    for seed in range(3):
        points = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        expected = loop(points.tolist(), labels, form, gamma, relaxation)
        found = circle(points, torch.tensor(labels), form, gamma, relaxation)
        assert found.item() == pytest.approx(expected, rel=1e-11, abs=1e-15)
        rounded = circle(points.float(), torch.tensor(labels), form, gamma, relaxation)
        assert rounded.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("form", ["batch", "original"])
def test_the_scale_of_the_form_is_the_default(form, random_batch):
    slices, labels, _ = random_batch(slices=1, batch=12, width=4, classes=3)
    gamma = {"batch": 32.0, "original": 256.0}[form]
    assert torch.equal(circle(slices[0], labels, form), circle(slices[0], labels, form, gamma, 0.25))


@pytest.mark.parametrize("gamma", [32.0, 256.0])
def test_the_original_form_is_pytorch_metric_learnings_on_one_row_of_all_pairs(gamma, random_batch):
    slices, labels, _ = random_batch(slices=1, batch=14, width=4, classes=3)
    embeddings = slices[0].requires_grad_()
    i, j = torch.triu_indices(14, 14, 1)
    same = labels[i] == labels[j]
    positive, negative = same.nonzero()[:, 0], (~same).nonzero()[:, 0]
    peer = CircleLoss(m=0.25, gamma=gamma, distance=AllPairsInOneRow())
    indices = torch.zeros_like(positive), positive, torch.zeros_like(negative), negative
    found, expected = circle(embeddings, labels, "original", gamma), peer(embeddings, indices_tuple=indices)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, embeddings)[0] for loss in (found, expected)))
    assert not torch.isclose(found, CircleLoss(m=0.25, gamma=gamma)(embeddings, labels))


@pytest.mark.parametrize("form", ["batch", "original"])
def test_gradients_are_those_of_the_formula(form, random_batch):
    """Autograd through sums of exponentials; the original form holds a_p and a_n constant, the batch form does not."""
    slices, labels, _ = random_batch(slices=1, batch=9, width=4, classes=3)
    embeddings = slices[0].requires_grad_()
    units = F.normalize(embeddings)
    s = units @ units.mT
    strength = s.detach() if form == "original" else s
    pull = (-8 * (1.25 - strength).clamp_min(0) * (s - 0.75)).exp()
    push = (8 * (strength + 0.25).clamp_min(0) * (s - 0.25)).exp()
    same = labels[:, None] == labels
    if form == "batch":
        product = pull[same].mean() * push[~same].mean()
    else:
        upper = torch.ones_like(same).triu(1)
        product = pull[same & upper].sum() * push[~same & upper].sum()
    found, expected = circle(embeddings, labels, form, 8.0), (1 + product).log()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, embeddings)[0] for loss in (found, expected)))


@both_types
@pytest.mark.parametrize("form", ["batch", "original"])
def test_a_scale_at_which_exponentials_overflow(form, dtype):
    """One class at opposite ends, two classes at one point: a_p (1 - s - m) = 2.25 * 1.75 and a_n (s - m) = 1.25 * .75.

    gamma = 4096, so that exp(16128 + 3840) has no number. Two equal pairs of one class among six, or 4 among 8 ordered ones with the
    4 samples themselves; two of the four pairs of two classes.
    """
    points = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]], dtype=dtype, requires_grad=True)
    loss = circle(points, torch.tensor(Y), form, 4096.0)
    count = math.log(2 * 2) if form == "original" else math.log(0.5 * 0.5)
    assert loss.item() == pytest.approx(4096 * (2.25 * 1.75 + 1.25 * 0.75) + count, rel=1e-6)
    assert torch.autograd.grad(loss, points)[0].isfinite().all()


def test_what_does_not_fit_is_refused_with_what_was_found():
    with pytest.raises(MethodError, match=r'"batch" or "original", not \'round\''):
        circle(torch.zeros(4, 2), torch.tensor(Y), "round")  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"embeddings \(B, D\) float, found \(4,\)"):
        circle(torch.zeros(4), torch.tensor(Y))
