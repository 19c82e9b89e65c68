"""What a network makes of a set of images, and the scores of it against scikit-learn."""

import dataclasses

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import accuracy_score, f1_score, normalized_mutual_info_score, precision_score, recall_score
from sklearn.metrics.cluster import pair_confusion_matrix
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from mdml import evaluation
from mdml.augmentation import AUGMENTATIONS, standardize
from mdml.evaluation import Embedded
from mdml.losses.triplet import normalize_slices
from mdml.methods import make_method
from mdml.metrics.neighbours import retrieval
from mdml.models import Network, Output
from tests.mdml.metrics.drawn import drawn


def random_set(count, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, slices = torch.randn(count, 4, generator=generator), torch.randn(3, count, 5, generator=generator)
    return Embedded(slices, drawn(count, 4, seed), logits, logits.softmax(1), normalized=True)


def test_the_embedding_is_the_normalised_slices_side_by_side():
    embedded = random_set(6, 0)
    assert embedded.embedding.shape == (6, 15)
    for index in range(3):
        part = embedded.embedding[:, 5 * index : 5 * index + 5]
        torch.testing.assert_close(part, embedded.slices[index] / embedded.slices[index].norm(dim=1, keepdim=True))


def test_the_embedding_of_a_method_whose_loss_does_not_normalise_is_the_slices_as_they_are():
    embedded = dataclasses.replace(random_set(6, 0), normalized=False)
    assert torch.equal(embedded.embedding, torch.cat(list(embedded.slices), 1))


def test_scores_are_the_single_scores_of_logits_and_embedding():
    queries, memory = random_set(30, 0), random_set(50, 1)
    predicted, truth = queries.logits.argmax(1), queries.labels
    embedding, known = queries.embedding.double(), memory.embedding.double()
    precision = precision_score(truth, predicted, average="macro", zero_division=0)
    recall = recall_score(truth, predicted, average="macro")
    retrieved = retrieval(embedding, truth, (1, 2, 4, 8, 16))
    found = evaluation.scores(queries, memory)
    assert found == pytest.approx(
        {
            "accuracy": accuracy_score(truth, predicted),
            "balanced_accuracy": recall,
            "precision": precision,
            "macro_f1": f1_score(truth, predicted, average="macro"),
            "f1_of_macro": 2 * precision * recall / (precision + recall),
            "knn_accuracy": KNeighborsClassifier(11).fit(known, memory.labels).score(embedding, truth),
            "nearest_mean_accuracy": NearestCentroid().fit(known, memory.labels).score(embedding, truth),
            **{f"recall_at_{k}": rates.recall for k, rates in retrieved.items()},
            **{f"acc_at_{k}": rates.accuracy for k, rates in retrieved.items()},
        }
    )
    assert evaluation.scores(queries, memory, evaluation.neighbourhood(queries, memory)) == found


def test_cluster_scores_are_those_of_kmeans_and_of_the_vote_of_eleven():
    queries, memory = random_set(60, 0), random_set(50, 1)
    points, truth = queries.embedding.numpy(), queries.labels.numpy()
    clusters = KMeans(4, n_init=10, random_state=0).fit_predict(points)
    voted = KNeighborsClassifier(11).fit(memory.embedding, memory.labels).predict(points)
    found = evaluation.cluster_scores(queries, evaluation.neighbourhood(queries, memory), 4)
    assert found == pytest.approx(
        {
            "nmi": normalized_mutual_info_score(truth, clusters),
            "pairwise_f1": pair_f1(truth, clusters),
            "nmi_knn": normalized_mutual_info_score(truth, voted),
            "pairwise_f1_knn": pair_f1(truth, voted),
        }
    )


def pair_f1(truth, groups):
    (_, fp), (fn, tp) = pair_confusion_matrix(truth, groups)
    return 2 * tp / (2 * tp + fp + fn)


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


def test_a_restricted_set_has_the_images_and_the_scores_of_some_classes_alone():
    embedded = random_set(30, 0)
    found = evaluation.restricted(embedded, [3, 1])
    kept = [i for i, label in enumerate(embedded.labels.tolist()) if label in (3, 1)]
    assert found.labels.tolist() == [[3, 1].index(label) for label in embedded.labels.tolist() if label in (3, 1)]
    assert torch.equal(found.slices, embedded.slices[:, kept])
    assert torch.equal(found.logits, embedded.logits[kept][:, [3, 1]])
    torch.testing.assert_close(found.scores, embedded.logits[kept][:, [3, 1]].softmax(1))
    bare = evaluation.restricted(dataclasses.replace(embedded, logits=None, scores=None), [0])
    assert bare.logits is None
    assert bare.scores is None
    assert bare.labels.unique().tolist() == [0]
