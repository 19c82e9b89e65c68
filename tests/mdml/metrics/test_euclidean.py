"""Where all points lie far from the origin, or all but in one place, distances are those of the same points in float64."""

import pytest
import torch

from mdml.diagnostics import class_distances, population_incomplete_rate
from mdml.hng.judging import true_distances
from mdml.metrics import euclidean, neighbours
from mdml.metrics.clustering import kmeans
from mdml.metrics.distances import Pairs, distance_distributions
from tests.mdml.metrics.drawn import drawn

COUNT, CLASSES = 120, 4  # more than the 25 rows up to which torch.cdist takes differences
LABELS = drawn(COUNT, CLASSES)


def far(count, seed=0, offset=1000.0):
    """(count, 8) float32, a thousand deviations from the origin: the squares of lengths are 10^6 times those of distances."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 8, generator=generator) + offset


def collapsed(seed=0):
    """(1, 120, 8) float32, within a ten-thousandth of each other, as an embedding is that has nearly collapsed."""
    return 1e-4 * far(COUNT, seed, offset=1e4)[None]


def exactly(one, other):
    return torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist")


@pytest.mark.parametrize("shape", [(), (3,)])
def test_distances_far_from_the_origin(shape):
    one, other = far(60).expand(*shape, 60, 8), far(40, 1).expand(*shape, 40, 8)
    expected = exactly(one, other)
    torch.testing.assert_close(euclidean.distances(one, other).double(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(torch.cdist(one, other).double(), expected, rtol=1e-2), "what is guarded against"


def test_neighbours_far_from_the_origin():
    memory, queries = far(COUNT), far(60, 1)
    order = exactly(queries, memory).argsort(1)[:, :11]
    assert neighbours.nearest_labels(memory, LABELS, queries, 11).tolist() == LABELS[order].tolist()
    rates = neighbours.retrieval(memory, LABELS, (1, 4))
    assert rates == neighbours.retrieval(memory.double(), LABELS, (1, 4))
    among = (exactly(memory, memory) + torch.diag(torch.full((COUNT,), torch.inf))).argsort(1)[:, :4]
    assert rates[4].recall == (LABELS[among] == LABELS[:, None]).any(1).double().mean().item()


def test_clusters_far_from_the_origin():
    """scikit-learn takes the mean off itself."""
    places = 8.0 * torch.eye(8)[LABELS]
    near = far(COUNT, offset=0.0) + places
    assert torch.equal(kmeans(near + 1000.0, CLASSES), kmeans(near, CLASSES))


def test_nearest_means_far_from_the_origin():
    memory, queries = far(COUNT), far(60, 1)
    means = torch.stack([memory[label == LABELS].double().mean(0) for label in range(CLASSES)])
    predicted = exactly(queries, means).argmin(1)
    assert neighbours.nearest_mean_accuracy(memory, LABELS, queries, predicted) == 1


def test_distances_of_an_embedding_that_has_nearly_collapsed():
    slices = collapsed()
    points = torch.nn.functional.normalize(slices[0], dim=1)
    matrix, same = exactly(points, points), LABELS[:, None] == LABELS
    pairs = torch.ones_like(same).triu(1)
    expected = [matrix[pairs & ~same].mean().item(), matrix[pairs & same].mean().item()]
    found = [value.item() for value in class_distances(slices, LABELS)]
    assert found == pytest.approx(expected, rel=1e-3)
    histogram = distance_distributions(slices, LABELS)[0]
    means = [histogram[Pairs(kind)].mean for kind in ("inter", "intra")]
    assert means == pytest.approx(expected, rel=1e-2), "of float32 about 1, the middle of the range"


def test_incomplete_judgements_of_an_embedding_that_has_nearly_collapsed():
    """Against float64 of the same float32 points, which orders nearly all triplets alike."""
    slices, none = collapsed(), torch.zeros(1)
    points = torch.nn.functional.normalize(slices, dim=2)
    expected = population_incomplete_rate(points.double(), LABELS, none)
    torch.testing.assert_close(population_incomplete_rate(points, LABELS, none), expected, rtol=0, atol=2e-3)


def test_true_faces_that_differ_by_little():
    """Faces are compared after standardisation; thirty that are all but one face keep their order."""
    generator = torch.Generator().manual_seed(0)
    face = torch.rand(1, 1, 16, 16, generator=generator)
    truths = face + 1e-4 * torch.randn(30, 1, 16, 16, generator=generator)
    images = truths + 1e-5 * torch.randn(30, 1, 16, 16, generator=generator)
    assert true_distances(images, truths).argmin(1).tolist() == list(range(30))
