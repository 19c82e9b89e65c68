"""What a session may do to a training: change labels, bring companions, predict by neighbours."""

import pytest
import torch
import torch.nn.functional as F

from mdml import evaluation
from mdml.augmentation import augmentation
from mdml.methods.base import EmbeddingHead, Method, StepLoss
from mdml.methods.softmax import Softmax
from mdml.session import Session
from mdml.train import Recipe, Training
from tests.mdml import toy

TRAIN, VALIDATION = torch.arange(14), torch.arange(14, 20)
RECIPE = Recipe(epochs=2, batch_size=5, learning_rate=1e-3, augmentation="paper")


class Double:
    """Every query's companion is its own image, shared view or not."""

    per_query = 1

    def __init__(self, session, shares_view):
        self.session, self.shares_view = session, shares_view

    def draw(self, queries, generator):
        training = self.session.training
        return training.images[training.index[queries]], 10 + training.labels[queries]


class Watching(Session):
    """Notes what it is asked; turns the labels round in epoch 2."""

    def __init__(self, training):
        super().__init__(training)
        self.epochs, self.embedded = [], []

    def begin_epoch(self, epoch, epochs, embed):
        self.epochs.append((epoch, epochs))
        self.embedded.append(embed())
        if epoch == 2:
            self.labels = 2 - self.training.labels


def record(method, session=None, **changes):
    recipe = Recipe(**{**vars(RECIPE), **changes})
    session = session or toy.session(method, TRAIN)
    network, images, labels = toy.network(method), toy.images(), toy.labels()
    watch = {"val": VALIDATION}
    return list(Training(network, method, recipe, images, labels, TRAIN, watch, 0, session)), network


class Noting(Softmax):
    """Softmax on the queries alone; keeps what each step was given."""

    def loss(self, output, labels):
        steps.append((output, labels))
        queries = len(labels) // 2
        logits = output.logits[:queries]
        cross_entropy = F.cross_entropy(logits, labels[:queries])
        return StepLoss(cross_entropy, cross_entropy.detach(), scores=logits.detach())


steps: list[tuple[object, torch.Tensor]] = []


@pytest.mark.parametrize("shares_view", [True, False])
def test_companions_come_after_the_queries_with_their_labels_and_the_same_view_where_they_share_it(shares_view):
    method = Noting(16)
    session = toy.session(method, TRAIN)
    session.companions = Double(session, shares_view)
    steps.clear()
    records, _ = record(method, session)
    assert len(steps) == 6
    for output, labels in steps:
        queries = len(labels) // 2
        assert torch.equal(labels[queries:], 10 + labels[:queries])
        ours, theirs = output.slices[0].split(queries)
        assert torch.equal(ours, theirs) == shares_view
    assert sum(len(labels) // 2 for _, labels in steps) == 28, "every image is a query once an epoch"
    assert all(0 <= one["train_accuracy"] <= 1 for one in records)


def test_queries_meet_the_same_views_with_and_without_companions():
    """Without batch normalisation's mixing the first step's embeddings of the queries are the same."""
    method, seen = Noting(16), []
    for shares_view in (True, False):
        session = toy.session(method, TRAIN)
        session.companions = Double(session, shares_view)
        steps.clear()
        record(method, session, epochs=1)
        seen.append([labels[: len(labels) // 2] for _, labels in steps])
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


def test_a_session_is_asked_before_every_epoch_and_its_labels_are_trained_on():
    """Accuracy is counted with the true classes whatever the session calls them: turning labels round costs accuracy."""
    method = toy.made("softmax")
    session = Watching(toy.session(method, TRAIN).training)
    plain = record(method)[0]
    turned, network = record(method, session)
    assert session.epochs == [(1, 2), (2, 2)]
    assert session.embedded[0].shape == (14, 16)
    assert not torch.equal(*session.embedded)
    assert turned[0]["train_loss"] == plain[0]["train_loss"], "looking changes nothing"
    assert turned[1]["train_loss"] > plain[1]["train_loss"]
    assert network.training is False, "the last thing done is the evaluation"


class Pull(Method):
    """No classifier: pulls an embedding's classes together."""

    def head(self, in_features, classes):
        return EmbeddingHead(in_features, self.slice_dim)

    def loss(self, output, labels):
        same = labels[:, None] == labels
        total = (torch.cdist(output.slices[0], output.slices[0]) * same).mean()
        return StepLoss(total, None, total.detach()[None])


def test_a_method_without_a_classifier_is_judged_by_its_nearest_training_images():
    method = Pull(16)
    records, network = record(method)
    images, labels, view = toy.images(), toy.labels(), augmentation(RECIPE.augmentation)
    memory, judged = (
        evaluation.embed(network, method, images, labels, members, view) for members in (TRAIN, VALIDATION)
    )
    expected = evaluation.knn_accuracy(memory.embedding, memory.labels, judged.embedding, judged.labels)
    assert records[-1]["val_accuracy"] == expected
    for one in records:
        assert one["classification_loss"] is one["train_accuracy"] is one["val_loss"] is None
        assert one["metric_loss"] == pytest.approx(one["train_loss"])


@pytest.mark.parametrize("optimizer", ["amsgrad", "sgd"])
def test_every_optimizer_is_the_one_of_torch(optimizer):
    """One step on a known gradient: the first step of Adam is the rate, that of SGD the rate times gradient and decay."""
    from mdml.train import OPTIMIZERS

    weight = torch.nn.Parameter(torch.tensor([2.0]))
    chosen = OPTIMIZERS[optimizer]([weight], lr=0.1, fused=True)
    for _ in range(2):
        chosen.zero_grad()
        (3 * weight).sum().backward()
        chosen.step()
    first = 3 + 1e-4 * 2
    second = 3 + 1e-4 * (2 - 0.1 * first) + 0.9 * first
    expected = {"amsgrad": 2 - 0.2, "sgd": 2 - 0.1 * (first + second)}
    assert weight.item() == pytest.approx(expected[optimizer], abs=1e-5)
