"""What every method must do, whatever it is: a new module in mdml/methods is tested here without a line more."""

import pytest
import torch

from mdml.diagnostics import RATES
from mdml.losses import batch_hard_triplet
from mdml.losses.triplet import FORMS
from mdml.methods import make_method, method_names
from mdml.methods.base import Output
from mdml.session import TrainingSet

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


def without_dropout(name):
    """The method, where it drops anything at all, without."""
    fields = make_method(name, {}).__dataclass_fields__
    return made(name, **({"dropout": 0.0} if "dropout" in fields else {}))


def per_query(method):
    """How many companions a query has: two images of every person and class train, so that any rule finds some."""
    index = torch.arange(2 * CLASSES * 4)
    images = torch.randint(256, (len(index), 1, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    training = TrainingSet(images, index % CLASSES, index // (2 * CLASSES), index, CLASSES, 0, 0)
    companions = method.session(training).companions
    return 0 if companions is None else companions.per_query


def batch(name, labels, collapsed=False, seed=0):
    """Method, head, features (B, FEATURES) and labels (B,) of the queries and, query after query, their companions."""
    method, head = without_dropout(name)
    labels = torch.tensor(labels)
    company = per_query(method)
    # A companion's class is drawn: the first has the class of its query, the others any.
    others = (labels[:, None] + torch.arange(company)).flatten() % CLASSES
    labels = torch.cat([labels, others])
    inputs = features(1).repeat(len(labels), 1) if collapsed else features(len(labels), seed)
    return method, head, inputs.requires_grad_(), labels


@every_method
def test_the_head_gives_what_the_layout_says(name):
    method, head = made(name)
    output = head(features(5))
    assert output.slices.shape == (method.layout.slices, 5, method.layout.width)
    assert len(method.layout.thresholds) in (0, method.layout.slices)
    assert method.prediction in ("classifier", "knn")
    if method.prediction == "classifier":
        scores = method.scores(output)
        assert output.logits.shape == scores.shape == (5, CLASSES)
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores.sum(1), torch.ones(5))
    else:
        assert output.logits is None


@every_method
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("collapsed", [False, True])
def test_losses_and_gradients_are_finite(name, labels, collapsed):
    method, head, inputs, labels = batch(name, labels, collapsed)
    loss = method.loss(head(inputs), labels)
    assert loss.total.shape == ()
    assert all(part.isfinite().all() for part in loss if part is not None)
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()
    if method.prediction == "classifier":
        assert inputs.grad.any()


@every_method
def test_every_parameter_of_the_head_learns(name):
    """Small features: a Gaussian posterior is not yet 0 or 1. A shift of all embeddings may be nothing to learn."""
    method, head, inputs, labels = batch(name, LABELS["all classes"])
    method.loss(head(0.1 * inputs), labels).total.backward()
    for parameter, tensor in head.named_parameters():
        assert tensor.grad is not None, parameter
        assert tensor.grad.any() or (method.prediction == "knn" and parameter == "embed.bias"), parameter


@every_method
def test_the_parts_of_a_loss_carry_no_graph_and_have_their_shapes(name):
    method, head, inputs, labels = batch(name, LABELS["all classes"])
    loss = method.loss(head(inputs), labels)
    slices = method.layout.slices
    shapes = {
        "classification": (),
        "metric": (slices,),
        "rates": (len(RATES) + 1, slices),
        "scores": (len(LABELS["all classes"]), CLASSES),
    }
    assert loss.total.requires_grad
    for part, shape in shapes.items():
        found = getattr(loss, part)
        assert found is None or (found.shape == shape and not found.requires_grad), part
    assert (loss.rates is not None) == bool(method.layout.thresholds)
    assert (loss.classification is None) == (method.prediction == "knn")


@every_method
def test_a_few_steps_lower_the_loss(name):
    method, head, inputs, labels = batch(name, LABELS["all classes"])
    inputs = 0.1 * inputs.detach()
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        loss = method.loss(head(inputs), labels).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@every_method
def test_neighbours_are_compared_as_the_metric_loss_compares_them(name):
    """Embeddings three times as long are the same to a loss that normalises, and to no other."""
    method, head, inputs, labels = batch(name, LABELS["all classes"])
    output = head.eval()(0.1 * inputs)
    loss, longer = (method.loss(output._replace(slices=scale * output.slices), labels).metric for scale in (1, 3))
    if loss is None or longer is None:
        assert method.normalized, "classifiers alone, and by cosines"
    else:
        assert torch.allclose(loss, longer, rtol=1e-4, atol=1e-6) == method.normalized


@every_method
def test_half_precision_outputs_give_float32_losses(name):
    method, head, inputs, labels = batch(name, LABELS["all classes"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(inputs)
        loss = method.loss(output, labels)
    assert output.slices.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in loss[:4] if part is not None)
    loss.total.backward()


@every_method
def test_a_loss_takes_nothing_from_the_random_stream(name):
    method, head, inputs, labels = batch(name, LABELS["all classes"])
    output = head.eval()(inputs)
    state = torch.get_rng_state()
    first, second = (method.loss(output, labels).total for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)


@every_method
def test_the_step_never_waits_for_the_host(name):
    """On the meta device whatever depends on values, such as .item() or a boolean index, cannot run."""
    method, head, inputs, labels = batch(name, LABELS["all classes"])
    loss = method.loss(head.to("meta")(inputs.detach().to("meta")), labels.to("meta"))
    loss.total.backward()
    assert loss.total.is_meta


@every_method
def test_dropout_acts_in_training_alone(name):
    method, head = made(name)
    inputs = features(4)
    if "dropout" in method.__dataclass_fields__:
        _, head = made(name, dropout=0.5)
        assert not torch.equal(head(inputs).logits, head(inputs).logits)
    one, other = head.eval()(inputs), head(inputs)
    assert torch.equal(one.slices, other.slices)
    assert one.logits is None or torch.equal(one.logits, other.logits)


@pytest.mark.parametrize("name", ["softmax", "triplet", "mul_dml"])
def test_a_linear_classifier_sees_the_embedding_itself(name):
    _, head = made(name, linear_classifier=True)
    output = head(features(4))
    embedding = output.slices.transpose(0, 1).flatten(1)
    classify = torch.nn.functional.linear(embedding, head.classify.weight, head.classify.bias)
    torch.testing.assert_close(output.logits, classify)


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
