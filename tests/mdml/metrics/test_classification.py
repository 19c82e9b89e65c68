"""Scores of predictions against scikit-learn and worked examples."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)

from mdml.metrics import classification
from tests.mdml.metrics.drawn import drawn

# M3: truth in rows.
M3 = torch.tensor([[8, 2, 0], [1, 5, 0], [1, 0, 3]])


def test_m3_rows_are_the_truth():
    truth, predicted = M3.nonzero().T
    times = M3[M3 > 0]
    found = classification.confusion(predicted.repeat_interleave(times), truth.repeat_interleave(times), 3)
    assert found.dtype == torch.int64
    assert found.tolist() == M3.tolist()


def test_m3_scores():
    """16 of 20 right; recalls 8/10, 5/6, 3/4; F1 = 16/20, 10/13, 6/7."""
    assert classification.accuracy(M3) == pytest.approx(0.8)
    assert classification.balanced_accuracy(M3) == pytest.approx(0.794444, abs=1e-6)
    assert classification.macro_f1(M3) == pytest.approx(0.808791, abs=1e-6)


@pytest.mark.parametrize("absent", [(), (2,), (0, 4)])
def test_scores_of_predictions_equal_scikit_learn(absent):
    """Classes that never occur count neither as right nor as wrong."""
    truth, predicted = drawn(97, 5, absent=absent), drawn(97, 5, seed=1, absent=absent[:1])
    counts = classification.confusion(predicted, truth, 5)
    assert counts.tolist() == confusion_matrix(truth, predicted, labels=range(5)).tolist()
    assert classification.accuracy(counts) == pytest.approx(accuracy_score(truth, predicted))
    occurring = truth.unique().tolist()
    recall = recall_score(truth, predicted, labels=occurring, average="macro")
    assert classification.balanced_accuracy(counts) == pytest.approx(recall)
    either = torch.cat([truth, predicted]).unique().tolist()
    f1 = f1_score(truth, predicted, labels=either, average="macro", zero_division=0)
    assert classification.macro_f1(counts) == pytest.approx(f1)


def test_m3_precision_and_the_two_f1():
    """Precisions 8/10, 5/7, 3/3; 2PR / (P + R) of their mean and the mean recall is not the mean F1."""
    assert classification.macro_precision(M3) == pytest.approx(0.838095, abs=1e-6)
    assert classification.f1_of_macro(M3) == pytest.approx(0.815686, abs=1e-6)
    assert classification.macro_f1(M3) == pytest.approx(0.808791, abs=1e-6)


def test_m3_row_normalised():
    found = classification.row_normalized(torch.cat([M3, torch.zeros(1, 3, dtype=torch.int64)]))
    assert found.tolist() == [[0.8, 0.2, 0], pytest.approx([1 / 6, 5 / 6, 0]), [0.25, 0, 0.75], [0, 0, 0]]


@pytest.mark.parametrize("absent", [(), (2,), (0, 4)])
def test_scores_of_classes_equal_scikit_learn(absent):
    truth, predicted = drawn(97, 6, absent=absent), drawn(97, 6, seed=1, absent=absent[:1])
    found = classification.per_class(classification.confusion(predicted, truth, 6))
    expected = precision_recall_fscore_support(truth, predicted, labels=range(6), zero_division=np.nan)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.tolist() == pytest.approx(theirs.tolist(), nan_ok=True)


@pytest.mark.parametrize("absent", [(), (2,), (0, 4)])
def test_macro_precision_equals_scikit_learn(absent):
    truth, predicted = drawn(97, 6, absent=absent), drawn(97, 6, seed=1, absent=absent[:1])
    predicted[predicted == 3] = 1
    counts = classification.confusion(predicted, truth, 6)
    expected = precision_score(truth, predicted, average="macro", zero_division=0)
    assert classification.macro_precision(counts) == pytest.approx(expected)
    recall = classification.balanced_accuracy(counts)
    assert classification.f1_of_macro(counts) == pytest.approx(2 * expected * recall / (expected + recall))


def test_f1_of_macro_of_nothing_right_is_zero():
    assert classification.f1_of_macro(torch.tensor([[0, 3], [2, 0]])) == 0


def test_v1_sequences_are_decided_on_by_the_mean_of_their_frames():
    """Mean scores .366667 .483333 .15: class 1, although two of the three frames say 0."""
    frames = torch.tensor([[0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.4, 0.35, 0.25]], dtype=torch.float64)
    assert frames.mean(0).tolist() == pytest.approx([0.366667, 0.483333, 0.15], abs=1e-6)
    names = np.array(["a"] * 3)
    accuracies = [classification.sequence_accuracy(frames, torch.full((3,), label), names) for label in range(3)]
    assert accuracies == [0, 1, 0]


def test_sequences_equal_a_loop_and_part_at_a_change_of_class():
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(60, 3, generator=generator).softmax(1), drawn(60, 3)
    names = np.array([f"s{i % 17}" for i in range(60)])
    right = []
    for name, label in sorted(set(zip(names.tolist(), labels.tolist(), strict=True))):
        members = [i for i in range(60) if names[i] == name and labels[i] == label]
        sums = [sum(scores[i, c].item() for i in members) for c in range(3)]
        right.append(max(range(3), key=sums.__getitem__) == label)
    found = classification.sequence_accuracy(scores, labels, names)
    assert found == pytest.approx(sum(right) / len(right))
    assert len(right) > 17


def test_stills_are_sequences_of_their_own_and_ties_go_to_the_first_class():
    scores, labels = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.4, 0.6]]), torch.tensor([0, 1, 0])
    assert classification.sequence_accuracy(scores, labels, np.array(["a", "b", "c"])) == pytest.approx(2 / 3)
