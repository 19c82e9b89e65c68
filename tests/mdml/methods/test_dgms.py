"""Sub-classes: their numbers, their levels, and the loss that takes them for labels."""

import numpy as np
import pytest
import torch

from mdml import MethodError
from mdml.losses.sgm import sgm
from mdml.methods import make_method
from mdml.methods.dgms import DGMS
from mdml.models.head import Output
from mdml.session import TrainingSet
from mdml.train import Recipe, Training
from tests.mdml import toy

CLASSES = 2


def begun(points, labels, epochs=6, levels=3, upto=None, seed=0, classes=CLASSES):
    """A session after the beginnings of its epochs, the embedding being these points, and how often it was asked for."""
    asked = []

    def embed():
        asked.append(True)
        return torch.as_tensor(points, dtype=torch.float32)

    count = len(labels)
    images = torch.arange(2 * count).to(torch.uint8)[:, None, None, None].expand(-1, 1, 3, 3)
    index = 2 * torch.arange(count)
    training = TrainingSet(images, torch.as_tensor(labels), None, index, classes, None, seed)
    session = make_method("dgms", {"levels": levels}).session(training)
    for epoch in range(1, (upto or epochs) + 1):
        session.begin_epoch(epoch, epochs, embed)
    return session, len(asked)


def clusters(each=20, seed=0):
    """Points of two classes with three clusters each, four apart, the clusters of the two in turns along a line."""
    generator = np.random.default_rng(seed)
    cluster = generator.permutation(np.repeat(np.arange(6), each))
    return 0.2 * generator.standard_normal((len(cluster), 3)) + 4.0 * cluster[:, None], cluster % CLASSES, cluster


def test_the_levels_find_known_clusters():
    """Level 3 parts six clusters; the sub-classes of class 0 are 0, 2, 4, those of class 1 are 1, 3, 5."""
    points, labels, cluster = clusters()
    session, asked = begun(points, labels)
    found = session.labels.numpy()
    assert len(set(zip(found.tolist(), cluster.tolist(), strict=True))) == 6
    assert set(found.tolist()) == set(range(6))
    assert np.array_equal(found % CLASSES, labels)
    assert session.notes == {"sub-classes": "6, of level 3 of 3"}
    assert asked == 3, "at the starts of levels 2 and 3 and of the last epoch"


@pytest.mark.parametrize(
    ("epochs", "levels", "expected"),
    [
        (6, 3, [1, 1, 2, 2, 3, 3]),
        (5, 5, [1, 2, 3, 4, 5]),
        (5, 2, [1, 1, 1, 2, 2]),
        (2, 5, [1, 2]),
        (1, 5, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_levels_share_the_epochs(epochs, levels, expected):
    """Two clusters of 60 points stay at most `level` sub-classes of each class; noise fills as many as are asked for."""
    points, labels = np.random.default_rng(0).standard_normal((120, 3)), np.arange(120) % CLASSES
    for epoch, level in enumerate(expected, 1):
        session, _ = begun(points, labels, epochs, levels, upto=epoch)
        assert session.level == level
        assert session.notes["sub-classes"] == f"{2 * level}, of level {level} of {min(levels, epochs)}"
        assert session.labels.max() < levels * CLASSES
        assert ("sub-classes" in session.pictures) == (epoch == epochs)


def test_no_level_that_was_asked_for_is_left_out():
    """Without a number, 3 epochs are 3 levels of sub-classes."""
    method, index = toy.made("dgms", levels=4), torch.arange(14)
    recipe = Recipe(epochs=3, batch_size=14, learning_rate=1e-3)
    with pytest.raises(MethodError, match=r"method\.levels must be at most the number of epochs, 3, .* found 4"):
        Training(toy.network(method), method, recipe, toy.images(), toy.labels(), index, {}, 0)
    for levels in (None, 1, 3):
        toy.made("dgms", levels=levels).check_epochs(3)
    make_method("softmax", {}).check_epochs(1)


def test_the_first_level_is_the_classes():
    points, labels, _ = clusters()
    session, asked = begun(points, labels, upto=2)
    assert session.labels.tolist() == labels.tolist()
    assert asked == 0


def test_sub_classes_are_found_anew_in_the_original_classes():
    """Level 3 does not divide what level 2 joined: whatever clusters shared a sub-class then, each has one of its own now."""
    points, labels, cluster = clusters()
    early, _ = begun(points, labels, upto=4)
    late, _ = begun(points, labels)
    assert len(early.labels.unique()) == 4
    assert all(len(late.labels[torch.from_numpy(cluster == c)].unique()) == 1 for c in range(6))


def test_the_seed_decides():
    points, labels = np.random.default_rng(0).standard_normal((200, 3)), np.arange(200) % CLASSES
    first, again, other = (begun(points, labels, seed=seed)[0].labels for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_small_classes_and_diagonal_covariances_are_noted():
    """64 units need 65 images a component: 40 of class 0 are too few, and 15 of class 2 too few for more than one component."""
    labels = np.repeat([0, 2], [40, 15])
    points = np.random.default_rng(0).standard_normal((55, 64))
    session, _ = begun(points, labels, epochs=2, levels=2, classes=3)
    assert session.notes == {
        "sub-classes": "3, of level 2 of 2",
        "fewer sub-classes": "0 in class 1 of 0 images, 1 in class 2 of 15 images",
        "diagonal covariances": "in classes 0: too few images for full ones",
    }


def test_the_sheet_shows_the_sub_classes_class_by_class_with_the_medoid_first():
    """Image 2 i, of which every pixel is 2 i, is that of training position i."""
    points, labels, cluster = clusters(each=4, seed=1)
    points = points.repeat(5, 0)  # 20 images a cluster, five of each point
    labels, cluster = labels.repeat(5), cluster.repeat(5)
    session, _ = begun(points, labels)
    sheet = session.pictures["sub-classes"]
    assert sheet.shape == (6 * 5 + 2, 16 * 5 + 2, 3)
    values = sheet[2::5, 2::5, 0][:6, :16].astype(int) // 2
    found = session.labels.numpy()
    assert [found[row[0]] for row in values] == [0, 2, 4, 1, 3, 5]
    for row in values:
        members = np.flatnonzero(found == found[row[0]])
        assert set(row.tolist()) <= set(members.tolist())
        assert len(set(row.tolist())) == 16
        mean = points[members].mean(0)
        nearest = min(np.linalg.norm(points[i] - mean) for i in members)
        assert np.linalg.norm(points[row[0]] - mean) == pytest.approx(nearest, abs=1e-6)


def test_the_loss_is_sgm_of_the_groups_and_the_scores_sum_over_those_of_a_class():
    """By hand: P of every present group from the means of the batch; group g belongs to class g mod 3."""
    method = make_method("dgms", {"levels": 4, "sigma": 0.8})
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 3, 3, 1, 1, 10, 2, 11, 0])
    loss = method.loss(Output(embedding[None], None, 3), labels)
    torch.testing.assert_close(loss.total, sgm(embedding, labels, 12, 0.8))
    assert loss.scores is not None
    means = {g: embedding[labels == g].mean(0) for g in labels.tolist()}
    for i in range(9):
        weights = {g: (-((embedding[i] - mean) ** 2).sum() / (2 * 0.8**2)).exp() for g, mean in means.items()}
        whole = sum(weights.values())
        by_class = [sum(weight for g, weight in weights.items() if g % 3 == c) / whole for c in range(3)]
        assert loss.scores[i].tolist() == pytest.approx([float(part) for part in by_class])
    assert loss.classification is None
    assert loss.metric is not None
    assert torch.equal(loss.metric, loss.total.detach()[None])


def test_one_level_is_sgm_over_the_classes():
    embedding = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 3
    loss = make_method("dgms", {"levels": 1}).loss(Output(embedding[None], None, 3), labels)
    torch.testing.assert_close(loss.total, sgm(embedding, labels, 3, 0.5))


def test_a_step_never_waits_for_the_host():
    method = make_method("dgms", {})
    with torch.device("meta"):
        head = method.head(16, 3)
        loss = method.loss(head(torch.randn(10, 16)), torch.zeros(10, dtype=torch.int64))
    loss.total.backward()
    assert loss.scores is not None
    assert loss.scores.shape == (10, 3)


@pytest.mark.parametrize("seed", [0, 1])
def test_training_finds_two_patterns_in_every_class(seed):
    """Each of three classes has two patterns of bars, ten noisy images of each: the second level parts just these."""
    labels, pattern = torch.arange(60) % 3, torch.arange(60) // 3 % 2
    noise = torch.randint(0, 12, (60, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    images = (toy.images(6)[labels + 3 * pattern] * 0.9 + noise).to(torch.uint8)
    index = torch.arange(60)
    method = toy.made("dgms", levels=2)
    session = method.session(TrainingSet(images, labels, None, index, 3, None, seed))
    recipe = Recipe(epochs=4, batch_size=30, learning_rate=1e-3, augmentation="none")
    records = list(Training(toy.network(method, seed), method, recipe, images, labels, index, {}, seed, session))
    assert set(session.labels.tolist()) == set(range(6))
    assert len(set(zip(session.labels.tolist(), pattern.tolist(), strict=True))) == 6
    assert torch.equal(session.labels % 3, labels)
    assert records[-1]["train_accuracy"] == 1, "classes are told by the sums of their sub-classes' posteriors"
    assert records[-1]["classification_loss"] is None
    assert session.pictures["sub-classes"].shape == (6 * 18 + 2, 16 * 18 + 2, 3)


@pytest.mark.parametrize("options", [{"levels": 0}, {"sigma": 0.0}, {"sigma": -1.0}, {"slice_dim": 0}])
def test_options_out_of_range(options):
    with pytest.raises(MethodError, match=next(iter(options))):
        make_method("dgms", options)


def test_defaults_are_the_papers():
    method = make_method("dgms", {})
    assert isinstance(method, DGMS)
    assert (method.slice_dim, method.sigma, method.most, method.per_class) == (64, 0.5, 5, 10)
    assert (method.prediction, method.sampler) == ("knn", "balanced")
