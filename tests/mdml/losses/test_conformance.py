"""What every loss of mdml.losses must do, whatever it is: a new one is a line of LOSSES."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from mdml.losses import (
    arcface_logits,
    batch_hard_triplet,
    center_loss,
    circle,
    class_cosines,
    contrastive,
    coupled_clusters,
    npair,
    radial_loss,
    sgm,
    tuplet_clusters,
)
from mdml.losses.precision import raised
from mdml.losses.radial import FixedRadius, RadialMetric

WIDTH, CLASSES = 5, 7
BATCHES = {
    "all classes": [0, 1, 2, 3, 4, 5, 6, 0, 1, 2],
    "uneven classes": [0, 1, 1, 2, 2, 2, 0, 1, 2, 2, 1, 0, 2],
    "one class": [3, 3, 3, 3],
    "lone classes": [0, 0, 0, 5, 6],
    "all different": [0, 1, 2, 3],
    "two of one class": [2, 2],
    "two of two classes": [6, 0],
    "one sample": [4],
}
ONE_CLASS = ("one class", "two of one class", "one sample")
NO_PAIR = ("all different", "two of two classes", "one sample")
# What a loss has beside the batch, the same for all tests.
CONSTANTS = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Case(NamedTuple):
    """A loss of (B, WIDTH) embeddings and (B,) labels in 0 .. 6, and what is particular about it."""

    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    # The batches that cost exactly 0.
    zero: tuple[str, ...] = ()
    # Whether the order of the samples within a class matters.
    ordered: bool = False
    # Whether the gradient holds a factor constant, so that it is not the slope of the loss: its own tests write it out.
    holds: bool = False


def triplet(form):
    def loss(embeddings, labels):
        return batch_hard_triplet(embeddings[None], labels, torch.full((1,), 0.45, device=labels.device), form)[0]

    return loss


def arcface(form):
    def loss(embeddings, labels):
        cosines = class_cosines(embeddings, CONSTANTS.to(labels.device))
        return F.cross_entropy(arcface_logits(cosines, labels, form, scale=4.0), labels)

    return loss


def near(labels, embeddings, step):
    """The constant of another class for each sample, in the type that the embeddings are raised to."""
    return CONSTANTS.to(labels.device)[(labels + step) % CLASSES].to(raised(embeddings).dtype)


def adaptive(device):
    """g = .04 |f - C|^2, so that neither hinge is closed at the distances of these tests; its weights do not learn."""
    metric = RadialMetric(WIDTH).requires_grad_(False)
    metric.a.mul_(0.2 / 2**0.5), metric.b.mul_(0.2 / 2**0.5), metric.bias.zero_()
    return metric.to(device)


def radial(metric):
    def loss(embeddings, labels):
        return radial_loss(embeddings, near(labels, embeddings, 0), labels, metric(labels.device))

    return loss


def tuplets(reduction):
    def loss(embeddings, labels):
        others = torch.stack([near(labels, embeddings, step) for step in range(5)], 1)
        return tuplet_clusters(embeddings, others[:, :2], others[:, 2:], FixedRadius(), reduction)

    return loss


LOSSES = {
    "triplet, conventional": Case(triplet("conventional"), ONE_CLASS + NO_PAIR),
    "triplet, dual": Case(triplet("dual"), ONE_CLASS + NO_PAIR),
    "contrastive": Case(lambda e, y: contrastive(e, y, 5.0), ("one sample",)),
    "npair": Case(lambda e, y: npair(e, y, 0.0), (*ONE_CLASS, *NO_PAIR, "lone classes"), ordered=True),
    "npair, regularised": Case(npair, ordered=True),
    "coupled_clusters": Case(lambda e, y: coupled_clusters(e, y, 10.0), ONE_CLASS + NO_PAIR),
    "center": Case(lambda e, y: center_loss(e, y, CONSTANTS.to(y.device))),
    "circle, batch": Case(lambda e, y: circle(e, y, "batch", 8.0), ONE_CLASS),
    "circle, original": Case(lambda e, y: circle(e, y, "original", 8.0), ONE_CLASS + NO_PAIR, holds=True),
    "arcface, additive": Case(arcface("additive")),
    "arcface, combined": Case(arcface("combined")),
    "radial, adaptive": Case(radial(adaptive)),
    "radial, fixed": Case(radial(lambda device: FixedRadius(10.0, 40.0))),
    "tuplet_clusters, violators": Case(tuplets("violators")),
    "tuplet_clusters, all": Case(tuplets("all")),
    "sgm": Case(lambda e, y: sgm(e, y, CLASSES, sigma=2.0), ONE_CLASS),
}
every_loss = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
every_batch = pytest.mark.parametrize("batch", BATCHES)


def draw(labels, dtype=torch.float64, seed=0):
    """Embeddings around one centre a class, and labels."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, WIDTH, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), WIDTH, generator=generator, dtype=torch.float64)
    return (centres[labels] + 0.7 * noise).to(dtype).requires_grad_(), torch.tensor(labels)


def gradient(case, embeddings, labels):
    (found,) = torch.autograd.grad(case.loss(embeddings, labels), embeddings)
    return found


@every_loss
@every_batch
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_finite_number_of_the_type_of_the_embeddings_with_a_graph(case, batch, dtype):
    embeddings, labels = draw(BATCHES[batch], dtype)
    loss = case.loss(embeddings, labels)
    assert loss.shape == ()
    assert loss.dtype == dtype
    assert loss.isfinite()
    assert loss >= 0
    assert gradient(case, embeddings, labels).isfinite().all()


@every_loss
@every_batch
def test_what_costs_nothing_is_exactly_0_and_keeps_its_graph(case, batch):
    for dtype in (torch.float64, torch.float32):
        embeddings, labels = draw(BATCHES[batch], dtype)
        loss = case.loss(embeddings, labels)
        assert loss.requires_grad
        assert (loss.item() == 0) == (batch in case.zero)
        assert gradient(case, embeddings, labels).any() == (batch not in case.zero)


@every_loss
@every_batch
@pytest.mark.parametrize("point", ["anywhere", "the origin", "one point a class", "two of two classes"])
def test_gradients_are_finite_where_embeddings_coincide(case, batch, point):
    for dtype in (torch.float64, torch.float32):
        embeddings, labels = draw(BATCHES[batch], dtype)
        with torch.no_grad():
            if point == "one point a class":
                embeddings.copy_(CONSTANTS[labels])
            elif point == "two of two classes":
                embeddings[-1] = embeddings[0]
            else:
                embeddings.copy_(CONSTANTS[0] if point == "anywhere" else torch.zeros(WIDTH))
        assert case.loss(embeddings, labels).isfinite()
        assert gradient(case, embeddings, labels).isfinite().all()


@every_loss
@every_batch
@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_short_and_long_embeddings_give_finite_losses(case, batch, scale):
    embeddings, labels = draw(BATCHES[batch], torch.float32)
    embeddings = (embeddings.detach() * scale).requires_grad_()
    assert case.loss(embeddings, labels).isfinite()
    assert gradient(case, embeddings, labels).isfinite().all()


@every_loss
@every_batch
def test_float32_is_float64_rounded(case, batch):
    exact, labels = draw(BATCHES[batch])
    rounded, _ = draw(BATCHES[batch], torch.float32)
    torch.testing.assert_close(case.loss(rounded, labels).double(), case.loss(exact, labels), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        gradient(case, rounded, labels).double(), gradient(case, exact, labels), rtol=1e-4, atol=1e-5
    )


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_before_anything_is_computed(case, dtype):
    half, labels = draw(BATCHES["all classes"], dtype)
    whole = half.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = case.loss(half, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == case.loss(whole, labels).item()
    loss.backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad, gradient(case, whole, labels).to(dtype), rtol=0, atol=0)


@every_loss
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_batch_does_not_matter(case, seed):
    embeddings, labels = draw(BATCHES["uneven classes"])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if case.ordered:
        for label in range(CLASSES):
            of_class = labels[order] == label
            order[of_class] = order[of_class].sort().values
    torch.testing.assert_close(case.loss(embeddings[order], labels[order]), case.loss(embeddings, labels))


@pytest.mark.parametrize("name", [name for name, case in LOSSES.items() if not case.holds])
@pytest.mark.parametrize("batch", ["all classes", "uneven classes", "lone classes"])
def test_gradcheck(name, batch):
    case = LOSSES[name]
    embeddings, labels = draw(BATCHES[batch])
    assert torch.autograd.gradcheck(lambda e: case.loss(e, labels), (embeddings,))


@every_loss
@every_batch
def test_the_host_never_waits_for_the_device(case, batch):
    """On the meta device whatever depends on values, such as .item(), nonzero or a boolean index, cannot run."""
    embeddings, labels = draw(BATCHES[batch], torch.float32)
    embeddings = embeddings.detach().to("meta").requires_grad_()
    loss = case.loss(embeddings, labels.to("meta"))
    loss.backward()
    assert loss.is_meta
    assert embeddings.grad is not None
    assert embeddings.grad.shape == (len(labels), WIDTH)


@every_loss
def test_a_loss_changes_neither_its_arguments_nor_the_random_stream(case):
    embeddings, labels = draw(BATCHES["all classes"])
    kept, state = (embeddings.detach().clone(), labels.clone()), torch.get_rng_state()
    first = case.loss(embeddings, labels)
    first.backward()
    assert torch.equal(embeddings.detach(), kept[0])
    assert torch.equal(labels, kept[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(case.loss(embeddings, labels), first)
    assert not case.loss(embeddings.detach(), labels).requires_grad
