"""The random triplets and the SGM method: what their batches mean, and what they record."""

import math

import pytest
import torch

from mdml import MethodError
from mdml.companions import RandomTriplets
from mdml.losses import sgm
from mdml.methods import make_method
from mdml.models.head import Output
from mdml.session import TrainingSet


def embeddings(count, seed=0):
    return torch.randn(1, count, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("margin", [0.1, 1.0, 2.5])
def test_the_loss_of_each_anchor_with_its_own_positive_and_negative(margin):
    """The distances of torch have 1e-6 added to every difference of coordinates."""
    points = embeddings(12)
    labels = torch.tensor([0, 1, 2, 0, 0, 1, 1, 2, 2, 0, 0, 1])
    loss = make_method("random_triplet", {"margin": margin}).loss(Output(points, None), labels)
    rows, total = points[0].tolist(), 0.0
    for i in range(4):
        positive, negative = rows[4 + 2 * i], rows[4 + 2 * i + 1]
        total += max(0.0, math.dist(rows[i], positive) - math.dist(rows[i], negative) + margin) / 4
    assert loss.total.item() == pytest.approx(total, abs=1e-5)
    assert loss.metric is not None
    assert loss.metric.tolist() == [loss.total.item()]
    assert loss.classification is loss.scores is loss.rates is None


def test_the_session_gives_every_anchor_a_positive_and_a_negative():
    index = torch.arange(12)
    training = TrainingSet(torch.zeros(12, 1, 4, 4, dtype=torch.uint8), index % 3, None, index, 3, None, 0)
    companions = make_method("random_triplet", {}).session(training).companions
    assert isinstance(companions, RandomTriplets)
    _, labels = companions.draw(torch.tensor([4, 9]), torch.Generator().manual_seed(0))
    assert labels[0] == 1 != labels[1]
    assert labels[2] == 0 != labels[3]


def test_defaults_are_the_papers():
    method = make_method("random_triplet", {})
    assert method.layout == (1, 64, (), None)
    assert (method.prediction, method.sampler) == ("knn", None)
    method = make_method("sgm", {})
    assert method.layout == (1, 64, (), None)
    assert (method.prediction, method.sampler) == ("knn", "balanced")


@pytest.mark.parametrize("options", [{}, {"sigma": 1.0}, {"sigma": 0.3, "eps_form": True}])
def test_sgm_is_its_loss_and_takes_an_image_for_the_class_of_the_nearest_mean(options):
    method = make_method("sgm", {"slice_dim": 4, **options})
    head = method.head(3, 5)
    points = head(torch.randn(9, 3, generator=torch.Generator().manual_seed(0)))
    labels = torch.tensor([0, 1, 3, 0, 1, 3, 0, 1, 3])
    loss = method.loss(points, labels)
    torch.testing.assert_close(loss.total, sgm(points.slices[0], labels, 5, **options))
    means = torch.stack([points.slices[0][labels == label].mean(0) for label in (0, 1, 3)])
    nearest = torch.tensor([0, 1, 3])[torch.cdist(points.slices[0], means).argmin(1)]
    assert loss.scores is not None
    assert torch.equal(loss.scores.argmax(1), nearest)
    assert not loss.scores.requires_grad
    assert loss.metric is not None
    assert loss.metric.tolist() == [loss.total.item()]
    assert loss.classification is None


def test_one_level_of_sub_classes_is_sgm():
    points, labels = embeddings(9), torch.arange(9) % 3
    one = make_method("sgm", {}).loss(Output(points, None, 3), labels)
    other = make_method("dgms", {"levels": 1}).loss(Output(points, None, 3), labels)
    assert torch.equal(one.total, other.total)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("random_triplet", {"margin": -1.0}, r"method\.margin must be finite and above 0, found -1"),
        ("random_triplet", {"margin": 0.0}, r"method\.margin must be finite and above 0, found 0"),
        ("random_triplet", {"margin": float("nan")}, r"method\.margin"),
        ("sgm", {"sigma": 0.0}, r"method\.sigma must be finite and above 0, found 0"),
        ("sgm", {"sigma": float("inf")}, r"method\.sigma"),
    ],
)
def test_what_does_not_fit_is_refused(name, options, message):
    with pytest.raises(MethodError, match=message):
        make_method(name, options)
