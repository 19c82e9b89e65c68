"""Diagnostics against loops over explicit triplets and pairs; test_triplet_oracles.py has the worked examples."""

import itertools
import math

import pytest
import torch

from mdml.diagnostics import RATES, class_distances, spread, triplet_rates
from mdml.losses.triplet import batch_hard_distances
from tests.mdml.losses import brute


def by_loop(points, labels, tau):
    triplets = brute.judged(points, labels, tau, normalize=True)
    sums = {
        "active_rate": sum(t.h1 > 1e-12 for t in triplets),
        "incomplete_rate": sum(t.incomplete for t in triplets),
        "flip_rate": sum(t.ap > t.pn for t in triplets),
        "positive_distance": sum(t.ap for t in triplets),
        "negative_distance": sum(t.an for t in triplets),
        "cross_distance": sum(t.pn for t in triplets),
    }
    return [sums[rate] for rate in RATES] + [len(triplets)]


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
def test_rates_are_sums_over_valid_anchors(noise, random_batch):
    slices, labels, taus = random_batch(slices=4, batch=25, width=5, classes=4, spread=noise)
    labels[3] = 99
    expected = [
        by_loop(points, labels.tolist(), tau) for points, tau in zip(slices.tolist(), taus.tolist(), strict=True)
    ]
    slices.requires_grad_()
    found = triplet_rates(batch_hard_distances(slices, labels), taus)
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64).T, rtol=1e-9, atol=1e-9)
    assert found[-1].tolist() == [24] * 4
    if noise == 0.5:
        assert (found[1] > 0).any(), "the case must have incomplete judgements"


def test_incomplete_judgements_need_positives_farther_than_the_threshold(random_batch):
    """11.2: incomplete implies tau <= d(p,n) < d(a,p)."""
    for seed in range(20):
        slices, labels, _ = random_batch(slices=1, batch=20, width=3, classes=3, seed=seed, spread=0.4)
        mined = batch_hard_distances(slices, labels)
        above = mined.ap[:, mined.valid].max() + 1e-6
        assert triplet_rates(mined, above[None])[1].item() == 0


def test_rates_of_a_batch_without_a_valid_anchor_are_zero():
    mined = batch_hard_distances(torch.randn(3, 4, 2), torch.zeros(4, dtype=torch.int64))
    assert triplet_rates(mined, torch.full((3,), 0.45)).tolist() == torch.zeros(len(RATES) + 1, 3).tolist()


def test_spread_is_the_root_mean_square_distance_of_pairs(random_batch):
    slices, _, _ = random_batch(slices=3, batch=9, width=4, classes=2)
    expected = []
    for points in slices.tolist():
        rows = [brute.unit(row) for row in points]
        squares = [math.dist(a, b) ** 2 for a, b in itertools.combinations(rows, 2)]
        expected.append(math.sqrt(sum(squares) / len(squares)))
    assert spread(slices).tolist() == pytest.approx(expected, rel=1e-5)
    assert spread(slices * 5).tolist() == pytest.approx(expected, rel=1e-5)


def test_spread_of_two_opposite_points_is_two_and_of_a_collapsed_batch_zero():
    assert spread(torch.tensor([[[3.0, 0.0], [-0.1, 0.0]]])).tolist() == pytest.approx([2.0])
    collapsed = torch.tensor([1.0, 0.0, 0.0]).expand(1, 8, 3)
    assert spread(collapsed).tolist() == [0.0]


def test_spread_of_any_collapsed_batch_is_zero():
    points = torch.randn(50, 1, 256, generator=torch.Generator().manual_seed(0)).expand(50, 8, 256)
    assert spread(points).max().item() < 1e-6


def test_class_distances_are_means_over_pairs(random_batch):
    slices, labels, _ = random_batch(slices=2, batch=40, width=4, classes=3)
    between, within = [], []
    for points in slices.tolist():
        rows = [brute.unit(row) for row in points]
        pairs = [(math.dist(rows[i], rows[j]), labels[i] == labels[j]) for i, j in itertools.combinations(range(40), 2)]
        between.append(sum(d for d, same in pairs if not same) / sum(not same for _, same in pairs))
        within.append(sum(d for d, same in pairs if same) / sum(bool(same) for _, same in pairs))
    inter, intra = class_distances(slices, labels)
    assert inter.tolist() == pytest.approx(between, rel=1e-5)
    assert intra.tolist() == pytest.approx(within, rel=1e-5)


def test_class_distances_take_evenly_spaced_samples_of_many(random_batch):
    slices, labels, _ = random_batch(slices=2, batch=101, width=4, classes=3)
    every_tenth = torch.arange(0, 101, 10)
    some, exact = class_distances(slices, labels, most=11), class_distances(slices[:, every_tenth], labels[every_tenth])
    for found, expected in zip(some, exact, strict=True):
        torch.testing.assert_close(found, expected)


def test_class_distances_without_such_a_pair_are_nan():
    points = torch.eye(3)[None]
    inter, intra = class_distances(points, torch.tensor([0, 1, 2]))
    assert inter.tolist() == pytest.approx([2**0.5])
    assert intra.isnan().all()
    inter, intra = class_distances(points, torch.tensor([1, 1, 1]))
    assert inter.isnan().all()
    assert intra.tolist() == pytest.approx([2**0.5])
