"""Distributions of distances against loops over explicit pairs."""

import itertools
import math

import numpy as np
import pytest
import torch

from mdml.diagnostics import class_distances
from mdml.metrics.distances import BINS, Pairs, distance_distributions
from tests.mdml.losses import brute


def by_loop(points, labels):
    rows, found = [brute.unit(row) for row in points], {}
    for i, j in itertools.combinations(range(len(rows)), 2):
        first, second = sorted((labels[i], labels[j]))
        kind = "intra" if first == second else "inter"
        for pairs in (Pairs(kind), Pairs(kind, first, second)):
            found.setdefault(pairs, []).append(math.dist(rows[i], rows[j]))
    return found


def test_distributions_are_those_of_all_pairs(random_batch):
    slices, labels, _ = random_batch(slices=2, batch=30, width=4, classes=4)
    labels[5] = 9
    found = distance_distributions(slices, labels)
    assert len(found) == 2
    for ours, points in zip(found, slices.tolist(), strict=True):
        expected = by_loop(points, labels.tolist())
        assert set(ours) == set(expected), "the lone class 9 has no pair within it"
        for pairs, values in expected.items():
            counts = [0] * BINS
            for value in values:
                counts[min(int(value * BINS / 2), BINS - 1)] += 1
            one = ours[pairs]
            assert one.counts == counts
            assert (one.mean, one.std) == pytest.approx((np.mean(values), np.std(values)), rel=1e-6)
            assert (one.p5, one.p95) == pytest.approx(np.percentile(values, (5, 95)), abs=4e-4)


def test_means_agree_with_those_of_the_diagnostics(random_batch):
    slices, labels, _ = random_batch(slices=3, batch=40, width=4, classes=3)
    inter, intra = class_distances(slices, labels)
    found = distance_distributions(slices, labels)
    assert [one[Pairs("inter")].mean for one in found] == pytest.approx(inter.tolist(), rel=1e-5)
    assert [one[Pairs("intra")].mean for one in found] == pytest.approx(intra.tolist(), rel=1e-5)


def test_opposite_and_coinciding_points_fall_into_the_outer_bins():
    points, labels = torch.tensor([[[3.0, 0.0], [-0.1, 0.0], [1.0, 0.0]]]), torch.tensor([0, 1, 1])
    found = distance_distributions(points, labels)[0]
    assert found[Pairs("inter")].counts == [1] + [0] * 98 + [1]
    assert found[Pairs("intra")].counts == [0] * 99 + [1]
    assert found[Pairs("inter")].p95 == pytest.approx(1.9, abs=4e-4)
    assert (found[Pairs("inter")].mean, found[Pairs("inter")].std) == pytest.approx((1, 1))


def test_one_class_has_no_distances_between_classes():
    found = distance_distributions(torch.eye(3)[None], torch.zeros(3, dtype=torch.int64))[0]
    assert set(found) == {Pairs("intra"), Pairs("intra", 0, 0)}
    assert distance_distributions(torch.eye(3)[None, :1], torch.zeros(1, dtype=torch.int64)) == [{}]


def test_of_many_images_evenly_spaced_ones_are_taken(random_batch):
    slices, labels, _ = random_batch(slices=1, batch=101, width=4, classes=3)
    some = distance_distributions(slices, labels, most=11)[0][Pairs("inter")]
    tenth = distance_distributions(slices[:, ::10], labels[::10])[0][Pairs("inter")]
    assert some.counts == tenth.counts
