"""Scores against scikit-learn and worked examples."""

import dataclasses
import math

import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score
from sklearn.neighbors import KNeighborsClassifier

from mdml import evaluation
from mdml.augmentation import AUGMENTATIONS, standardize
from mdml.evaluation import Embedded
from mdml.losses.triplet import normalize_slices
from mdml.methods import make_method
from mdml.models import Network, Output

# M3: truth in rows.
M3 = torch.tensor([[8, 2, 0], [1, 5, 0], [1, 0, 3]])
# M2: six points on a line.
LINE, LINE_LABELS = torch.tensor([0, 0.9, 2, 2.5, 4, 4.2])[:, None], torch.tensor([0, 1, 0, 0, 1, 1])


def drawn(count, classes, seed=0, absent=()):
    generator = torch.Generator().manual_seed(seed)
    kept = torch.tensor([c for c in range(classes) if c not in absent])
    return kept[torch.randint(len(kept), (count,), generator=generator)]


def test_m3_rows_are_the_truth():
    truth, predicted = M3.nonzero().T
    times = M3[M3 > 0]
    found = evaluation.confusion(predicted.repeat_interleave(times), truth.repeat_interleave(times), 3)
    assert found.dtype == torch.int64
    assert found.tolist() == M3.tolist()


def test_m3_scores():
    """16 of 20 right; recalls 8/10, 5/6, 3/4; F1 = 16/20, 10/13, 6/7."""
    assert evaluation.accuracy(M3) == pytest.approx(0.8)
    assert evaluation.balanced_accuracy(M3) == pytest.approx(0.794444, abs=1e-6)
    assert evaluation.macro_f1(M3) == pytest.approx(0.808791, abs=1e-6)


@pytest.mark.parametrize("absent", [(), (2,), (0, 4)])
def test_scores_of_predictions_equal_scikit_learn(absent):
    """Classes that never occur count neither as right nor as wrong."""
    truth, predicted = drawn(97, 5, absent=absent), drawn(97, 5, seed=1, absent=absent[:1])
    counts = evaluation.confusion(predicted, truth, 5)
    assert counts.tolist() == confusion_matrix(truth, predicted, labels=range(5)).tolist()
    assert evaluation.accuracy(counts) == pytest.approx(accuracy_score(truth, predicted))
    occurring = truth.unique().tolist()
    recall = recall_score(truth, predicted, labels=occurring, average="macro")
    assert evaluation.balanced_accuracy(counts) == pytest.approx(recall)
    either = torch.cat([truth, predicted]).unique().tolist()
    f1 = f1_score(truth, predicted, labels=either, average="macro", zero_division=0)
    assert evaluation.macro_f1(counts) == pytest.approx(f1)


@pytest.mark.parametrize("neighbours", [1, 2, 5, 11])
@pytest.mark.parametrize(("memory", "queries"), [(60, 40), (1500, 1100)])
def test_knn_equals_scikit_learn(memory, queries, neighbours):
    generator = torch.Generator().manual_seed(0)
    known, asked = torch.randn(memory, 3, generator=generator), torch.randn(queries, 3, generator=generator)
    known_labels, labels = drawn(memory, 4), drawn(queries, 4, seed=1)
    peer = KNeighborsClassifier(neighbours, algorithm="brute").fit(known.double(), known_labels)
    expected = accuracy_score(labels, peer.predict(asked.double()))
    found = evaluation.knn_accuracy(known, known_labels, asked, labels, neighbours)
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
    accuracies = [evaluation.knn_accuracy(known, labels, asked, torch.tensor([label])) for label in range(7)]
    assert accuracies == [float(label == winner) for label in range(7)]


def test_knn_of_a_small_memory_lets_all_vote():
    known, labels = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1, 2, 2])
    assert evaluation.knn_accuracy(known, labels, torch.zeros(1, 1), torch.tensor([2])) == 1


def test_m2_recall():
    """Nearest others: 0 -> .9 (wrong), .9 -> 0 (wrong), 2 <-> 2.5, 4 <-> 4.2 right: 4/6.

    Second nearest: 0 -> 2 right: 5/6. Third: .9 -> 2.5 wrong still: 5/6.
    """
    assert evaluation.recall_at(LINE, LINE_LABELS, (1, 2, 3)) == pytest.approx(
        {1: 0.666667, 2: 0.833333, 3: 0.833333}, abs=1e-6
    )


def test_recall_leaves_out_what_the_set_is_too_small_for():
    assert list(evaluation.recall_at(LINE, LINE_LABELS)) == [1, 2, 4]
    assert list(evaluation.recall_at(LINE, LINE_LABELS, (5, 6))) == [5]
    assert evaluation.recall_at(LINE[:1], LINE_LABELS[:1]) == {}


@pytest.mark.parametrize("count", [50, 1030])
def test_recall_equals_a_loop(count):
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(count, 2, generator=generator, dtype=torch.float64), drawn(count, 12)
    rows, hits = points.tolist(), {1: 0, 4: 0, 8: 0}
    for i, row in enumerate(rows):
        order = sorted((j for j in range(count) if j != i), key=lambda j: math.dist(row, rows[j]))
        for k in hits:
            hits[k] += any(labels[j] == labels[i] for j in order[:k])
    found = evaluation.recall_at(points, labels, (1, 4, 8))
    assert found == pytest.approx(
        {k: hit / count for k, hit in hits.items()}, abs=1.5 / count if count > 1000 else 1e-12
    )


def random_set(count, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, slices = torch.randn(count, 4, generator=generator), torch.randn(3, count, 5, generator=generator)
    return Embedded(slices, drawn(count, 4, seed), logits, logits.softmax(1))


def test_the_embedding_is_the_normalised_slices_side_by_side():
    embedded = random_set(6, 0)
    assert embedded.embedding.shape == (6, 15)
    for index in range(3):
        part = embedded.embedding[:, 5 * index : 5 * index + 5]
        torch.testing.assert_close(part, embedded.slices[index] / embedded.slices[index].norm(dim=1, keepdim=True))


def test_scores_are_the_single_scores_of_logits_and_embedding():
    queries, memory = random_set(30, 0), random_set(50, 1)
    predicted = queries.logits.argmax(1)
    peer = KNeighborsClassifier(11).fit(memory.embedding.double(), memory.labels)
    found = evaluation.scores(queries, memory)
    assert found == pytest.approx(
        {
            "accuracy": accuracy_score(queries.labels, predicted),
            "balanced_accuracy": recall_score(queries.labels, predicted, average="macro"),
            "macro_f1": f1_score(queries.labels, predicted, average="macro"),
            "knn_accuracy": peer.score(queries.embedding.double(), queries.labels),
            **{f"recall_at_{k}": v for k, v in evaluation.recall_at(queries.embedding, queries.labels).items()},
        }
    )
    assert [name for name in found if name.startswith("recall")] == [f"recall_at_{k}" for k in (1, 2, 4, 8, 16)]


def test_a_method_without_a_classifier_is_judged_by_the_votes_of_its_memory():
    queries, memory = random_set(30, 0), random_set(50, 1)
    bare = dataclasses.replace(queries, logits=None, scores=None)
    with pytest.raises(ValueError, match="memory"):
        _ = bare.counts
    found = evaluation.with_neighbours(bare, memory, 4)
    peer = KNeighborsClassifier(11).fit(memory.embedding.double(), memory.labels)
    assert found.scores.numpy() == pytest.approx(peer.predict_proba(queries.embedding.double()))
    scores = evaluation.scores(found, memory)
    assert scores["accuracy"] == scores["knn_accuracy"]


def test_slice_knn_judges_every_slice_on_its_own():
    queries, memory = random_set(40, 0), random_set(60, 1)
    queries.slices[1] = 7 * torch.nn.functional.one_hot(queries.labels, 5)
    memory.slices[1] = 3 * torch.nn.functional.one_hot(memory.labels, 5)
    ours, theirs = normalize_slices(queries.slices.double()), normalize_slices(memory.slices.double())
    expected = [
        KNeighborsClassifier(11, algorithm="brute").fit(there, memory.labels).score(here, queries.labels)
        for here, there in zip(ours, theirs, strict=True)
    ]
    found = evaluation.slice_knn(queries, memory)
    assert found == pytest.approx(expected)
    assert found[1] == 1 > max(found[0], found[2])


class Copies(torch.nn.Module):
    """Hands the images through: the logits are the first three pixels, the slices the image and its negative."""

    def forward(self, images):
        pixels = images.flatten(1)
        return Output(torch.stack([pixels, -pixels]), torch.nn.functional.dropout(pixels[:, :3], 0.9, self.training))


@pytest.mark.parametrize("name", ["none", "paper"])
def test_embed_shows_the_test_view_of_the_chosen_images_in_their_order(name):
    """Batches of two: the last is smaller, and the chunks of slices are joined along the samples."""
    images = torch.randint(256, (9, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels, index = torch.arange(9) * 10, torch.tensor([7, 0, 3, 3, 8])
    network = Network(torch.nn.Identity(), Copies()).train()
    found = evaluation.embed(network, make_method("softmax", {}), images, labels, index, AUGMENTATIONS[name], batch=2)
    pixels = AUGMENTATIONS[name].test(images[index]).flatten(1)
    assert found.labels.tolist() == [70, 0, 30, 30, 80]
    torch.testing.assert_close(found.slices, torch.stack([pixels, -pixels]))
    torch.testing.assert_close(found.logits, pixels[:, :3], msg="dropout must be off")
    torch.testing.assert_close(found.scores, found.logits.softmax(1))
    assert not network.training
    assert not found.logits.requires_grad
    if name == "none":
        torch.testing.assert_close(pixels, standardize(images[index].float()).flatten(1))
