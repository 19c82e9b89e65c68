"""What every method must do, whatever it is: a new module in mdml/methods is tested here without a line more."""

import pytest
import torch

from mdml.diagnostics import RATES
from mdml.losses import batch_hard_triplet
from mdml.losses.triplet import FORMS
from mdml.methods import make_method, method_names
from mdml.methods.base import Output

CLASSES, FEATURES = 7, 512
LABELS = {
    "all classes": [0, 1, 2, 3, 4, 5, 6, 0, 1, 2],
    "one class": [3, 3, 3, 3],
    "lone classes": [0, 0, 0, 5, 6],
    "all different": [0, 1, 2, 3],
    "two of one class": [2, 2],
    "two of two classes": [6, 0],
}
every_method = pytest.mark.parametrize("name", method_names())


def features(count, seed=0):
    return torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))


def made(name, seed=0, **options):
    method = make_method(name, options)
    torch.manual_seed(seed)
    return method, method.head(FEATURES, CLASSES)


@every_method
def test_the_head_gives_what_the_layout_says(name):
    method, head = made(name)
    output = head(features(5))
    assert output.slices.shape == (method.layout.slices, 5, method.layout.width)
    assert output.logits.shape == (5, CLASSES)
    assert len(method.layout.thresholds) in (0, method.layout.slices)


@every_method
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("collapsed", [False, True])
def test_losses_and_gradients_are_finite(name, labels, collapsed):
    method, head = made(name, dropout=0.0)
    inputs = features(1).repeat(len(labels), 1) if collapsed else features(len(labels))
    inputs.requires_grad_()
    loss = method.loss(head(inputs), torch.tensor(labels))
    assert loss.total.shape == loss.classification.shape == ()
    assert loss.total.isfinite()
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()
    assert inputs.grad.any()


@every_method
def test_the_parts_of_a_loss_carry_no_graph_and_have_their_shapes(name):
    method, head = made(name)
    loss = method.loss(head(features(10)), torch.tensor(LABELS["all classes"]))
    assert loss.total.requires_grad
    assert not loss.classification.requires_grad
    slices = method.layout.slices
    assert (loss.metric is None) == (not method.layout.thresholds)
    if loss.metric is not None:
        assert loss.metric.shape == (slices,)
        assert not loss.metric.requires_grad
    if loss.rates is not None:
        assert loss.rates.shape == (len(RATES) + 1, slices)
        assert not loss.rates.requires_grad


@every_method
def test_a_few_steps_lower_the_loss(name):
    method, head = made(name, dropout=0.0)
    inputs, labels = features(10), torch.tensor(LABELS["all classes"])
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    losses = []
    for _ in range(15):
        loss = method.loss(head(inputs), labels).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@every_method
def test_half_precision_outputs_give_float32_losses(name):
    method, head = made(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(features(10))
        loss = method.loss(output, torch.tensor(LABELS["all classes"]))
    assert output.logits.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in loss if part is not None)
    loss.total.backward()


@every_method
def test_a_loss_takes_nothing_from_the_random_stream(name):
    method, head = made(name)
    output = head(features(10))
    state = torch.get_rng_state()
    first, second = (method.loss(output, torch.tensor(LABELS["all classes"])).total for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)


@every_method
def test_dropout_acts_on_the_classifier_alone_and_in_training_alone(name):
    _, head = made(name)
    inputs = features(4)
    one, other = head(inputs), head(inputs)
    assert torch.equal(one.slices, other.slices)
    assert not torch.equal(one.logits, other.logits)
    head.eval()
    assert torch.equal(head(inputs).logits, head(inputs).logits)


@every_method
def test_numerics_is_a_whole_number(name):
    assert type(make_method(name, {}).numerics) is int


def test_t5_one_slice_of_mul_dml_is_the_single_threshold_method_bit_for_bit():
    labels = torch.tensor(LABELS["all classes"])
    for form in ("conventional", "dual"):
        results = []
        for name, options in (("triplet", {}), ("mul_dml", {"slices": 1})):
            method, head = made(name, thresholds=[0.65], form=form, **options)
            inputs = features(10).requires_grad_()
            torch.manual_seed(5)
            loss = method.loss(head(inputs), labels)
            loss.total.backward()
            results.append([*loss, inputs.grad, *(p.grad for p in head.parameters())])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("form", ["conventional", "dual"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_total_is_cross_entropy_and_the_weighted_mean_of_the_slices(form, weight):
    """Points at 0, 30 | 75, 150 degrees in every slice, uniform logits over 7 classes: CE = ln 7.

    Either form costs .276107 at tau .45 and .150539 at .15 (oracle T2), .213323 in the mean.
    """
    angles = torch.deg2rad(torch.tensor([0.0, 30, 75, 150]))
    slices = torch.stack([angles.cos(), angles.sin()], 1).expand(2, 4, 2) * 3
    output = Output(slices, torch.zeros(4, 7))
    method = make_method("mul_dml", {"slices": 2, "thresholds": [0.15, 0.45], "form": form, "weight": weight})
    loss = method.loss(output, torch.tensor([0, 0, 1, 1]))
    assert loss.metric is not None
    assert loss.metric.tolist() == pytest.approx([0.150539, 0.276107], abs=1e-6)
    assert loss.classification.item() == pytest.approx(1.945910, abs=1e-6)
    assert loss.total.item() == pytest.approx(1.945910 + weight * 0.213323, abs=1e-6)
    assert loss.rates is not None
    assert (loss.rates[1] / loss.rates[-1]).tolist() == [0.25, 0.25]


@pytest.mark.parametrize("name", ["triplet", "mul_dml"])
def test_each_form_is_that_of_the_loss(name):
    method, head = made(name)
    output, labels = head(features(10)), torch.tensor(LABELS["all classes"])
    losses = []
    for form in FORMS:
        found = make_method(name, {"form": form}).loss(output, labels).metric
        losses.append(batch_hard_triplet(output.slices, labels, torch.tensor(method.layout.thresholds), form).detach())
        assert found is not None
        assert torch.equal(found, losses[-1])
    assert not torch.isclose(losses[0], losses[1]).any()


def test_weight_zero_is_the_softmax_method():
    labels = torch.tensor(LABELS["all classes"])
    gradients = []
    for name, options in (("softmax", {}), ("triplet", {"weight": 0.0})):
        method, head = made(name, **options)
        torch.manual_seed(5)
        method.loss(head(features(10)), labels).total.backward()
        gradients.append([p.grad for p in head.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_the_metric_loss_sees_slices_before_relu_and_the_classifier_after():
    _, head = made("mul_dml", slices=2, slice_dim=4, dropout=0.0)
    inputs = features(3)
    output = head(inputs)
    raw = torch.nn.functional.linear(inputs, head.embed.weight, head.embed.bias)
    torch.testing.assert_close(output.slices[0], raw[:, :4])
    torch.testing.assert_close(output.slices[1], raw[:, 4:])
    assert (output.slices < 0).any()
    classify = torch.nn.functional.linear(raw.clamp_min(0), head.classify.weight, head.classify.bias)
    torch.testing.assert_close(output.logits, classify)
