"""Diagnostics against loops over explicit triplets and pairs; test_triplet_oracles.py has the worked examples."""

import itertools
import math
from collections import Counter

import pytest
import torch

from mdml.diagnostics import RATES, _triplets, class_distances, population_incomplete_rate, spread, triplet_rates
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


def population_by_loop(points, labels, tau):
    rows, everyone = [brute.unit(row) for row in points], range(len(labels))
    judged = []
    for a, p, n in itertools.product(everyone, repeat=3):
        if a != p and labels[a] == labels[p] != labels[n]:
            ap, an, pn = math.dist(rows[a], rows[p]), math.dist(rows[a], rows[n]), math.dist(rows[p], rows[n])
            judged.append(ap - an + tau <= 1e-12 and ap > pn)
    return sum(judged) / len(judged)


def test_the_population_rate_is_over_all_valid_triplets(random_batch):
    slices, labels, taus = random_batch(slices=3, batch=30, width=3, classes=4, spread=0.5)
    labels[3] = 99
    expected = [
        population_by_loop(points, labels.tolist(), tau.item()) for points, tau in zip(slices, taus, strict=True)
    ]
    found = population_incomplete_rate(slices, labels, taus)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert min(expected[:2]) > 0, "the case must have incomplete judgements"


def test_t3_is_an_incomplete_judgement_by_half():
    """Of (a, p, n) and (p, a, n), tau .15, the first alone; none is left at a threshold above d(p, n) = .3."""
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.175, 0.243670]], dtype=torch.float64)
    lifted = torch.cat([points, (4 - points.square().sum(1, keepdim=True)).sqrt()], 1) / 2  # on the unit sphere, halved
    labels = torch.tensor([0, 0, 1])
    found = population_incomplete_rate(lifted[None], labels, torch.tensor([0.075]))
    ap, an, pn = (torch.dist(lifted[i], lifted[j]).item() for i, j in ((0, 1), (0, 2), (1, 2)))
    assert ap > pn
    assert ap - an + 0.075 <= 0
    assert found.tolist() == [0.5]
    assert population_incomplete_rate(lifted[None], labels, torch.tensor([0.2])).tolist() == [0.0]


def test_a_drawn_population_comes_near_the_whole_one_and_is_the_same_each_time(random_batch):
    slices, labels, taus = random_batch(slices=2, batch=40, width=3, classes=3, spread=0.5)
    labels[7] = 99
    exact = population_incomplete_rate(slices, labels, taus)
    drawn = population_incomplete_rate(slices, labels, taus, most=10_000)
    assert drawn.tolist() == population_incomplete_rate(slices, labels, taus, most=10_000).tolist()
    assert drawn.tolist() != exact.tolist()
    # Standard error below sqrt(.25 / 10 000) = .005.
    assert drawn.tolist() == pytest.approx(exact.tolist(), abs=0.02)


def test_drawn_triplets_are_valid_and_of_equal_chance():
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    everyone = itertools.product(range(6), repeat=3)
    every = [(a, p, n) for a, p, n in everyone if a != p and labels[a] == labels[p] != labels[n]]
    whole = _triplets(labels, len(every), 0)
    assert sorted(zip(*(index.tolist() for index in whole), strict=True)) == every
    few = Counter()
    for seed in range(400):
        few.update(zip(*(index.tolist() for index in _triplets(labels, 25, seed)), strict=True))
    assert set(few) == set(every)
    # 10 000 draws: 384.6 of each, with a standard deviation of 19.2.
    assert all(290 < count < 480 for count in few.values())


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_the_population_rate_without_a_valid_triplet_is_nan(labels):
    found = population_incomplete_rate(torch.eye(3)[None], torch.tensor(labels), torch.tensor([0.45]))
    assert found.isnan().all()
    assert found.shape == (1,)
