"""Votes and retrieval against scikit-learn, loops and worked examples."""

import math

import pytest
import torch
from sklearn.metrics import accuracy_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from mdml.metrics import neighbours
from tests.mdml.metrics.drawn import drawn

# M2: six points on a line.
LINE, LINE_LABELS = torch.tensor([0, 0.9, 2, 2.5, 4, 4.2])[:, None], torch.tensor([0, 1, 0, 0, 1, 1])


@pytest.mark.parametrize("k", [1, 2, 5, 11])
@pytest.mark.parametrize(("memory", "queries"), [(60, 40), (1500, 1100)])
def test_knn_equals_scikit_learn(memory, queries, k):
    generator = torch.Generator().manual_seed(0)
    known, asked = torch.randn(memory, 3, generator=generator), torch.randn(queries, 3, generator=generator)
    known_labels, labels = drawn(memory, 4), drawn(queries, 4, seed=1)
    peer = KNeighborsClassifier(k, algorithm="brute").fit(known.double(), known_labels)
    expected = accuracy_score(labels, peer.predict(asked.double()))
    found = neighbours.knn_accuracy(known, known_labels, asked, labels, k)
    assert found == pytest.approx(expected, abs=1.5 / queries if queries > 1000 else 1e-12)
    assert 0.1 < found < 0.5


@pytest.mark.parametrize(
    ("votes", "winner"), [([5] * 5 + [2] * 5 + [3], 2), ([1, 0] * 5 + [4], 0), ([3] * 4 + [2] * 4 + [0] * 3, 2)]
)
def test_knn_votes_of_eleven_tie_to_the_smallest_label(votes, winner):
    """The eleven nearest stand at 1, 2, ... 11; a crowd of class 6 stands beyond them and has no vote."""
    known, labels = torch.arange(1.0, 31.0)[:, None], torch.tensor(votes + [6] * 19)
    peer = KNeighborsClassifier(11).fit(known, labels)
    asked = torch.zeros(1, 1)
    assert peer.predict(asked).tolist() == [winner]
    accuracies = [neighbours.knn_accuracy(known, labels, asked, torch.tensor([label])) for label in range(7)]
    assert accuracies == [float(label == winner) for label in range(7)]


def test_knn_of_a_small_memory_lets_all_vote():
    known, labels = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1, 2, 2])
    assert neighbours.knn_accuracy(known, labels, torch.zeros(1, 1), torch.tensor([2])) == 1


def test_m2():
    """Nearest others: 0 -> .9 (wrong), .9 -> 0 (wrong), 2 <-> 2.5, 4 <-> 4.2 right: recall 4/6.

    Second nearest: 0 -> 2 right: 5/6. Third: .9 -> 2.5 wrong still: 5/6.
    """
    found = neighbours.retrieval(LINE.double(), LINE_LABELS, (1, 2, 3))
    assert [rates.recall for rates in found.values()] == pytest.approx([0.666667, 0.833333, 0.833333], abs=1e-6)
    assert [rates.accuracy for rates in found.values()] == pytest.approx([0.666667, 0.416667, 0.388889], abs=1e-6)


def test_retrieval_leaves_out_what_the_set_is_too_small_for():
    assert list(neighbours.retrieval(LINE, LINE_LABELS)) == [1, 2, 4]
    assert list(neighbours.retrieval(LINE, LINE_LABELS, (5, 6))) == [5]
    assert neighbours.retrieval(LINE[:1], LINE_LABELS[:1]) == {}


@pytest.mark.parametrize("count", [50, 1030])
def test_retrieval_equals_a_loop(count):
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(count, 2, generator=generator, dtype=torch.float64), drawn(count, 12)
    rows, hits, alike = points.tolist(), {1: 0, 4: 0, 8: 0}, {1: 0, 4: 0, 8: 0}
    for i, row in enumerate(rows):
        order = sorted((j for j in range(count) if j != i), key=lambda j: math.dist(row, rows[j]))
        for k in hits:
            of_class = [bool(labels[j] == labels[i]) for j in order[:k]]
            hits[k] += any(of_class)
            alike[k] += sum(of_class)
    found = neighbours.retrieval(points, labels, (1, 4, 8))
    for k, rates in found.items():
        tolerance = 1.5 / count if count > 1000 else 1e-12
        assert (rates.recall, rates.accuracy) == pytest.approx((hits[k] / count, alike[k] / (k * count)), abs=tolerance)
    assert found[1].recall == found[1].accuracy


def test_the_sweep_over_k_equals_one_scikit_learn_classifier_a_k():
    generator = torch.Generator().manual_seed(0)
    known, asked = torch.randn(80, 3, generator=generator), torch.randn(60, 3, generator=generator)
    labels = drawn(80, 4)
    nearest = neighbours.nearest_labels(known, labels, asked, 32)
    found = neighbours.knn_predictions(nearest, 4)
    assert tuple(found) == (1, 2, 4, 8, 11, 16, 32)
    for k, predicted in found.items():
        peer = KNeighborsClassifier(k, algorithm="brute").fit(known.double(), labels)
        assert predicted.tolist() == peer.predict(asked.double()).tolist()


def test_a_k_beyond_the_memory_lets_all_vote():
    known, labels = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1, 2, 2])
    nearest = neighbours.nearest_labels(known, labels, torch.zeros(1, 1), 32)
    assert nearest.tolist() == [[1, 2, 2]]
    found = neighbours.knn_predictions(nearest, 3, (1, 3, 32))
    assert {k: predicted.tolist() for k, predicted in found.items()} == {1: [1], 3: [2], 32: [2]}


def test_v1_votes_tie_to_the_smallest_class():
    """Votes 2 0 2 1 0 0 2 are 3, 1 and 3."""
    known, labels = torch.arange(7.0)[:, None], torch.tensor([2, 0, 2, 1, 0, 0, 2])
    shares = neighbours.knn_scores(known, labels, torch.zeros(1, 1), 3)
    assert shares.tolist() == [pytest.approx([3 / 7, 1 / 7, 3 / 7])]
    assert shares.argmax(1).tolist() == [0]


def test_nearest_mean_equals_scikit_learn_and_never_predicts_a_class_without_mean():
    generator = torch.Generator().manual_seed(0)
    known, asked = torch.randn(80, 3, generator=generator), torch.randn(60, 3, generator=generator)
    labels, truth = drawn(80, 5, absent=(2,)), drawn(60, 5, seed=1)
    peer = NearestCentroid().fit(known.double(), labels)
    expected = accuracy_score(truth, peer.predict(asked.double()))
    assert neighbours.nearest_mean_accuracy(known, labels, asked, truth) == pytest.approx(expected)
    assert neighbours.nearest_mean_accuracy(known, labels, asked, torch.full((60,), 2)) == 0
