"""The voting ablation: oracle V1, ties, and what its two losses are made of."""

import pytest
import torch
import torch.nn.functional as F

from mdml.errors import MethodError
from mdml.losses import batch_hard_triplet
from mdml.methods import make_method
from mdml.models.head import Output


def voted(heads, classes=3):
    """Scores of one image whose heads vote so."""
    logits = F.one_hot(torch.tensor(heads), classes).float()[:, None] * 5 - 2
    return make_method("vote", {}).scores(Output(torch.zeros(len(heads), 1, 4), logits.mean(0), logits))[0]


def draw(slices=3, batch=8, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(slices, batch, 5, generator=generator).requires_grad_()
    logits = torch.randn(slices, batch, classes, generator=generator).requires_grad_()
    return Output(points, logits.mean(0), logits), torch.arange(batch) % classes


def test_v1():
    """Votes 2 0 2 1 0 0 2: counts 3, 1, 3, and the tie goes to class 0."""
    scores = voted([2, 0, 2, 1, 0, 0, 2])
    assert scores.tolist() == pytest.approx([3 / 7, 1 / 7, 3 / 7])
    assert scores.argmax() == 0


@pytest.mark.parametrize(
    ("heads", "winner"), [([1], 1), ([2, 1], 1), ([2, 2, 0, 1], 2), ([1, 2, 2, 1, 0], 1), ([0, 2, 2], 2)]
)
def test_most_votes_win_and_the_lowest_class_among_equals(heads, winner):
    assert voted(heads).argmax() == winner


def test_a_head_that_cannot_decide_votes_for_the_lowest_class():
    logits = torch.tensor([[[1.0, 2.0, 2.0]], [[2.0, 2.0, 2.0]]])
    assert make_method("vote", {}).scores(Output(torch.zeros(2, 1, 4), logits.mean(0), logits)).tolist() == [
        [0.5, 0.5, 0]
    ]


def test_the_vote_can_differ_from_the_mean_of_the_logits():
    logits = torch.tensor([[[0.0, 9.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    output = Output(torch.zeros(3, 1, 4), logits.mean(0), logits)
    assert output.logits is not None
    assert output.logits.argmax() == 1
    assert make_method("vote", {}).scores(output).argmax() == 0


def test_a_weight_of_losses_that_are_left_out_is_refused():
    with pytest.raises(MethodError, match=r"with_triplet=true alone, found 0\.9"):
        make_method("vote", {"with_triplet": False, "weight": 0.9})


@pytest.mark.parametrize(("with_triplet", "weight"), [(True, 0.0), (True, 0.5), (True, 2.0), (False, 0.5)])
def test_the_total_is_the_sum_of_cross_entropies_and_where_asked_the_mean_of_the_triplet_losses(with_triplet, weight):
    output, labels = draw()
    taus = [0.15, 0.3, 0.75]
    options = {"slices": 3, "thresholds": taus, "weight": weight, "with_triplet": with_triplet}
    loss = make_method("vote", options).loss(output, labels)
    entropies = torch.stack([F.cross_entropy(logits, labels) for logits in output.extra]).sum()
    triplets = batch_hard_triplet(output.slices, labels, torch.tensor(taus), "dual")
    torch.testing.assert_close(loss.total, entropies + (weight * triplets.mean() if with_triplet else 0))
    torch.testing.assert_close(loss.classification, entropies.detach())
    torch.testing.assert_close(loss.metric, triplets.detach())
    assert loss.rates is not None
    (gradient,) = torch.autograd.grad(loss.total, output.slices, allow_unused=True)
    assert (gradient is not None and bool(gradient.any())) == (with_triplet and weight > 0)


def test_one_slice_is_mul_dml_of_one_slice():
    output, labels = draw(slices=1)
    options = {"slices": 1, "thresholds": [0.65]}
    totals = [make_method(name, options).loss(output, labels).total for name in ("vote", "mul_dml")]
    torch.testing.assert_close(*totals)


def test_the_training_accuracy_counts_votes():
    output, labels = draw()
    method = make_method("vote", {"slices": 3})
    scores = method.loss(output, labels).scores
    assert scores is not None
    assert torch.equal(scores, method.scores(output))
    assert not scores.requires_grad
