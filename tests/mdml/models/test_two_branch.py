"""The two-branch and the voting head: what is connected with what, by formulas written out."""

import pytest
import torch
import torch.nn.functional as F

from mdml.losses.radial import RadialMetric, RunningCenters
from mdml.methods import make_method
from mdml.models.head import SlicedHead
from mdml.models.two_branch import WIDTH, Learned, TwoBranchHead
from mdml.models.voting import VotingHead
from mdml.train import build_network

NOTHING = Learned(None, None)


def features(count=5, width=12, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def two_branch(dropout=0.0, learned=NOTHING):
    torch.manual_seed(1)
    return TwoBranchHead(12, 7, 4, dropout, learned)


def test_the_connecting_layer():
    """FC2 = (1, 2), FC3 = (3, 4), P = .1 everywhere: P [FC2; FC3] = (1, 1)."""
    head = two_branch()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.expression.bias[:2] = torch.tensor([1.0, 2.0])
        head.similarity.bias[:2] = torch.tensor([3.0, 4.0])
        head.connect.weight[:2, [0, 1, WIDTH, WIDTH + 1]] = 0.1
        head.embed.weight[[0, 1], [0, 1]] = 1
    assert head(features()).slices[0].tolist() == [pytest.approx([1, 1, 0, 0])] * 5


def test_both_branches_are_the_formulas():
    head, inputs = two_branch(), features()
    fc2 = F.linear(inputs, head.expression.weight, head.expression.bias)
    fc3 = F.linear(inputs, head.similarity.weight, head.similarity.bias)
    fc2, fc3 = (torch.where(x > 0, x, 0.1 * x) for x in (fc2, fc3))
    fc4 = (fc2 @ head.connect.weight[:, :WIDTH].T + fc3 @ head.connect.weight[:, WIDTH:].T).clamp_min(0)
    output = head(inputs)
    assert output.slices.shape == (1, 5, 4)
    assert head.connect.bias is None
    torch.testing.assert_close(output.slices[0], fc4 @ head.embed.weight.T + head.embed.bias)
    torch.testing.assert_close(output.logits, fc2 @ head.classify.weight.T + head.classify.bias)


def test_the_metric_moves_the_expression_branch_and_the_classifier_not_the_metric_branch():
    head = two_branch()
    head(features()).slices.square().sum().backward()
    assert head.expression.weight.grad.any()
    assert head.similarity.weight.grad.any()
    assert head.classify.weight.grad is None
    head = two_branch()
    head(features()).logits.square().sum().backward()
    assert head.expression.weight.grad.any()
    assert head.similarity.weight.grad is head.connect.weight.grad is head.embed.weight.grad is None


def test_dropout_acts_on_the_feature_of_the_trunk():
    head, inputs = two_branch(0.5), features()
    torch.manual_seed(2)
    dropped = F.dropout(inputs, 0.5)
    torch.manual_seed(2)
    found = head(inputs)
    expected = two_branch()(dropped)
    assert torch.equal(found.slices, expected.slices)
    assert torch.equal(found.logits, expected.logits)
    assert not torch.equal(head.eval()(inputs).logits, found.logits)


def test_what_the_loss_keeps_is_part_of_the_network_and_comes_along():
    learned = Learned(RadialMetric(4), RunningCenters(7, 4))
    head = two_branch(learned=learned)
    assert head(features()).extra == learned
    assert {name.partition(".")[0] for name in head.state_dict()} >= {"metric", "centers"}
    assert two_branch()(features()).extra == NOTHING


def test_on_the_two_branch_inception_trunk_the_parameters_number_as_specified():
    """7 classes, 64-d embedding, grey images, with L_A, L_B, c and b."""
    network = build_network(make_method("rml", {}), "incfer60", None, 1, 7, 0, torch.device("cpu"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_059_896


def test_without_an_adaptive_metric_the_network_starts_alike():
    """The fixed and the adaptive arm of a comparison begin with the same weights."""
    one, other = two_branch().state_dict(), two_branch(learned=Learned(RadialMetric(4), None)).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("linear", [False, True])
def test_voting_slices_classify_each_on_their_own(linear):
    torch.manual_seed(0)
    head, inputs = VotingHead(12, 7, 3, 4, 0.0, linear), features()
    output = head(inputs)
    assert output.slices.shape == (3, 5, 4)
    for i in range(3):
        embedding = F.linear(inputs, head.embed.weight[4 * i : 4 * i + 4], head.embed.bias[4 * i : 4 * i + 4])
        seen = embedding if linear else embedding.clamp_min(0)
        torch.testing.assert_close(output.slices[i], embedding)
        torch.testing.assert_close(output.extra[i], seen @ head.weight[i] + head.bias[i])
    torch.testing.assert_close(output.logits, output.extra.mean(0))


def test_voting_classifiers_start_as_linear_layers_do_on_the_embedding_of_the_sliced_head():
    torch.manual_seed(0)
    head = VotingHead(12, 7, 3, 400, 0.5)
    for parameter in (head.weight, head.bias):
        assert parameter.abs().max() <= 0.05
    assert head.weight.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.05)
    torch.manual_seed(0)
    assert torch.equal(head.embed.weight, SlicedHead(12, 7, 3, 400, 0.5).embed.weight)
