"""Batch-hard triplet losses against loops over explicit triplets, and what they promise beside the numbers."""

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch.utils._python_dispatch import TorchDispatchMode

from mdml import MethodError
from mdml.losses import batch_hard_triplet
from mdml.losses.triplet import batch_hard_distances, mine_batch_hard, normalize_slices
from tests.mdml.losses import brute

LABELS = {
    "uneven classes": [0, 1, 1, 2, 2, 2, 0, 1, 2, 2, 1, 0, 2],
    "a lone class": [0, 0, 1, 1, 2, 1, 0, 0],
    "two lone classes": [3, 0, 0, 7, 0],
    "all different": [4, 3, 2, 1, 0],
    "one class": [5, 5, 5, 5],
    "two of one class": [1, 1],
    "two of two classes": [1, 0],
    "one sample": [2],
    "three, one lone": [6, 2, 6],
    "large ids": [10**12, -3, 10**12, -3, -3],
}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("form", ["conventional", "dual"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize(("slices", "width"), [(1, 1), (2, 3), (5, 8)])
def test_equals_a_loop_over_triplets(slices, width, labels, form, normalize):
    generator = torch.Generator().manual_seed(len(labels))
    for scale in (0.3, 1.0, 4.0):
        points = scale * torch.randn(slices, len(labels), width, generator=generator, dtype=torch.float64)
        taus = torch.rand(slices, generator=generator, dtype=torch.float64)
        expected = [
            brute.loss(s, labels, t, form, normalize) for s, t in zip(points.tolist(), taus.tolist(), strict=True)
        ]
        for dtype, digits in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
            found = batch_hard_triplet(points.to(dtype), torch.tensor(labels), taus.to(dtype), form, normalize)
            assert found.shape == (slices,)
            assert found.dtype == dtype
            assert found.tolist() == pytest.approx(expected, rel=digits, abs=digits), (scale, dtype)


@pytest.mark.parametrize("normalize", [True, False])
def test_mines_the_triplets_of_the_loop(normalize, random_batch):
    slices, labels, _ = random_batch(slices=4, batch=30, width=6, classes=4)
    labels[11] = 99
    embeddings = normalize_slices(slices) if normalize else slices
    p, n, valid = mine_batch_hard(embeddings, labels, normalize)
    assert valid.logical_not().nonzero().tolist() == [[11]]
    for index, points in enumerate(slices.tolist()):
        triplets = brute.judged(points, labels.tolist(), 0.0, normalize)
        assert [t.i for t in triplets] == valid.nonzero()[:, 0].tolist()
        assert [(t.p, t.n) for t in triplets] == [(int(p[index, t.i]), int(n[index, t.i])) for t in triplets]


@pytest.mark.parametrize("normalize", [True, False])
def test_ties_go_to_the_lowest_index(normalize):
    """Corners of a simplex are all equally far from one another, exactly so in floating point."""
    corners = torch.eye(6)[None, [3, 0, 4, 1, 5, 2]].contiguous()
    p, n, _ = mine_batch_hard(corners, torch.tensor([0, 1, 0, 1, 0, 1]), normalize)
    assert p.tolist() == [[2, 3, 0, 1, 0, 1]]
    assert n.tolist() == [[1, 0, 1, 0, 1, 0]]


def test_a_row_shorter_than_the_guard_is_divided_by_it():
    """|f| = 2e-6 becomes .2, not 1, so that its distance to the unit row across is sqrt(1.04), not sqrt(2)."""
    points = torch.tensor([[[2e-6, 0.0], [0.0, 3.0], [-5.0, 0.0]]], dtype=torch.float64)
    mined = batch_hard_distances(points, torch.tensor([0, 0, 1]))
    assert mined.ap[0, :2].tolist() == pytest.approx([1.04**0.5] * 2)
    assert mined.an[0, :2].tolist() == pytest.approx([1.2, 2**0.5])


def test_the_farthest_positive_is_right_beside_a_short_row():
    """Anchor (1,0) and two positives: the origin, at 1, and (.6,.8), at sqrt(.8) = .894427; then
    (.3,.953939), at sqrt(1.4) = 1.183216."""
    for other, farthest in (([0.6, 0.8], 1.0), ([0.3, 0.953939], 1.183216)):
        points = torch.tensor([[[1.0, 0.0], [0.0, 0.0], other, [-1.0, 0.0]]], dtype=torch.float64)
        mined = batch_hard_distances(points, torch.tensor([0, 0, 0, 1]))
        assert mined.ap[0, 0].item() == pytest.approx(farthest, abs=1e-6)


@pytest.mark.parametrize("form", ["conventional", "dual"])
@pytest.mark.parametrize("scatter", [1e-2, 1e-3, 1e-4])
def test_a_nearly_collapsed_embedding_is_mined_well_enough_in_float32(scatter, form):
    """Similarities near 1 hide distances below 3e-4: a hardest triplet may be missed by no more than that."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(1, 1, 64, generator=generator) + scatter * torch.randn(1, 24, 64, generator=generator)
    labels = torch.arange(24) % 4
    found = batch_hard_triplet(points, labels, torch.tensor([0.45]), form)
    expected = brute.loss(points[0].tolist(), labels.tolist(), 0.45, form, normalize=True)
    assert found.item() == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("form", ["conventional", "dual"])
def test_unnormalised_embeddings_far_from_the_origin_are_mined_by_exact_distances(form):
    """|f| = 1000, distances near 1: |a|^2 + |b|^2 - 2 ab would leave no digit of them in float32."""
    generator = torch.Generator().manual_seed(0)
    points = 1000 / 8 + torch.randn(1, 40, 64, generator=generator) / 8
    labels = torch.arange(40) % 4
    found = batch_hard_triplet(points, labels, torch.tensor([0.45]), form, normalize=False)
    expected = brute.loss(points[0].tolist(), labels.tolist(), 0.45, form)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tau", [0.05, 0.45])
def test_equals_pytorch_metric_learning_slice_by_slice(tau, random_batch):
    slices, labels, _ = random_batch(slices=3, batch=40, width=16, classes=6, dtype=torch.float32)
    distance = LpDistance(normalize_embeddings=True, p=2, power=1)
    peer = TripletMarginLoss(margin=tau, distance=distance, reducer=MeanReducer())
    expected = [peer(points, labels, BatchHardMiner(distance=distance)(points, labels)) for points in slices]
    found = batch_hard_triplet(slices, labels, torch.full((3,), tau))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert found.min() > 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("normalize", [True, False])
def test_half_precision_is_raised_before_anything_is_computed(dtype, normalize, random_batch):
    slices, labels, taus = random_batch(slices=2, batch=12, width=8, classes=3, dtype=torch.float32)
    half = slices.to(dtype).requires_grad_()
    whole = half.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = batch_hard_triplet(half, labels, taus, "dual", normalize)
    expected = batch_hard_triplet(whole, labels, taus, "dual", normalize)
    assert found.dtype == torch.float32
    assert found.tolist() == expected.tolist()
    found.sum().backward()
    expected.sum().backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad, whole.grad.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("normalize", [True, False])
def test_autocast_does_not_coarsen_the_mining(normalize, random_batch):
    """Similarities rounded to bfloat16 would tie by the dozen among 96 close samples."""
    slices, labels, taus = random_batch(slices=3, batch=96, width=32, classes=4, spread=2.0, dtype=torch.float32)
    expected = batch_hard_triplet(slices, labels, taus, "dual", normalize)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = batch_hard_triplet(slices, labels, taus, "dual", normalize)
    assert found.tolist() == expected.tolist()


class Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("form", ["conventional", "dual"])
def test_the_operations_do_not_grow_with_the_number_of_slices(form, normalize, random_batch):
    counts = []
    for count in (1, 2, 13):
        slices, labels, taus = random_batch(slices=count, batch=10, width=4, classes=3)
        slices.requires_grad_()
        with Counter() as counter:
            batch_hard_triplet(slices, labels, taus, form, normalize).sum().backward()
        counts.append(counter.operations)
    assert counts[0] == counts[1] == counts[2]
    assert sum("scatter_add" in operation for operation in counts[0]) == 3, "backward must be among what is counted"


def test_neither_inputs_nor_thresholds_are_changed(random_batch):
    slices, labels, taus = random_batch(slices=3, batch=9, width=4, classes=3)
    kept = slices.clone(), labels.clone(), taus.clone()
    slices.requires_grad_()
    batch_hard_triplet(slices, labels, taus, "dual").sum().backward()
    batch_hard_triplet(slices, labels, taus, "dual", normalize=False).sum().backward()
    assert all(torch.equal(a.detach(), b) for a, b in zip((slices, labels, taus), kept, strict=True))
    assert taus.grad is None
    assert not batch_hard_triplet(slices.detach(), labels, taus).requires_grad


SLICES, IDS, TAUS = torch.zeros(2, 4, 3), torch.zeros(4, dtype=torch.int64), torch.zeros(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SLICES, IDS, TAUS, "duel"), r"\"conventional\" or \"dual\", not 'duel'"),
        ((SLICES, IDS, torch.zeros(3)), r"one threshold for each of the 2 slices, found thresholds of shape \(3,\)"),
        ((SLICES, IDS, torch.tensor(0.45)), r"found thresholds of shape \(\)"),
        ((SLICES, IDS, torch.zeros(2, 1)), r"found thresholds of shape \(2, 1\)"),
        ((SLICES[0], IDS[:3], torch.zeros(4)), r"Expected slices \(N, B, D\) float, found \(4, 3\) torch.float32"),
        ((SLICES.long(), IDS, TAUS), r"Expected slices \(N, B, D\) float, found \(2, 4, 3\) torch.int64"),
        ((SLICES, IDS[:3], TAUS), r"Expected labels \(4,\) int64 .* found \(3,\) torch.int64"),
        ((SLICES, IDS[:, None], TAUS), r"Expected labels \(4,\) int64 .* found \(4, 1\) torch.int64"),
        ((SLICES, IDS.int(), TAUS), r"Expected labels \(4,\) int64 .* found \(4,\) torch.int32"),
        ((SLICES, IDS.float(), TAUS), r"found \(4,\) torch.float32"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(arguments, message):
    with pytest.raises(MethodError, match=message):
        batch_hard_triplet(*arguments)
