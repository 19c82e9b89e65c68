"""The losses of the generator against loops over pixels, and the worked example H1: [[1,2,3,4],[0,1,1,2]]."""

import math

import pytest
import torch

from mdml.errors import MethodError
from mdml.hng import losses

IMAGE = [[1.0, 2, 3, 4], [0, 1, 1, 2]]
both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def logit(probability):
    return math.log(probability / (1 - probability))


def close(found, expected):
    assert found.shape == ()
    assert found.item() == pytest.approx(expected, abs=1e-6)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@both_types
def test_h1(dtype):
    image = torch.tensor([[IMAGE]], dtype=dtype)
    close(losses.symmetry_loss(image), 1.5)
    close(losses.pixel_loss(image, torch.zeros_like(image)), 1.75)
    real, generated = torch.tensor([logit(0.8)], dtype=dtype), torch.tensor([logit(0.3)], dtype=dtype)
    close(losses.discriminator_loss(real, generated), 0.579818)
    close(losses.decoder_loss(generated), 1.203973)


@both_types
def test_batches_are_means_of_their_images(dtype):
    image = torch.tensor([IMAGE], dtype=dtype)
    close(losses.symmetry_loss(torch.stack([image, torch.ones_like(image)])), 0.75)
    real = torch.tensor([logit(0.8), logit(0.5)], dtype=dtype)
    generated = torch.tensor([logit(0.3), logit(0.9), logit(0.5)], dtype=dtype)
    judged = (math.log(0.8) + math.log(0.5)) / -2 - (math.log(0.7) + math.log(0.1) + math.log(0.5)) / 3
    close(losses.discriminator_loss(real, generated), judged)
    close(losses.decoder_loss(generated), -(math.log(0.3) + math.log(0.9) + math.log(0.5)) / 3)


@pytest.mark.parametrize("width", [2, 5, 6])
def test_symmetry_against_a_loop_over_columns(width):
    images = drawn(3, 2, 4, width)
    terms = [
        abs(float(images[i, c, m, n] - images[i, c, m, width - 1 - n]))
        for i in range(3)
        for c in range(2)
        for m in range(4)
        for n in range(width // 2)
    ]
    close(losses.symmetry_loss(images), sum(terms) / len(terms))


def test_a_symmetric_image_costs_nothing_and_a_mirrored_one_the_same():
    images = drawn(2, 1, 4, 6)
    for laplacian in (False, True):
        close(losses.symmetry_loss(images + images.flip(-1), laplacian), 0.0)
        close(losses.symmetry_loss(images.flip(-1), laplacian), losses.symmetry_loss(images, laplacian).item())


def test_the_laplacian_against_a_loop_and_what_it_forgets():
    image = drawn(1, 1, 4, 6)
    found = losses._laplacian(image)[0, 0]
    for y in range(4):
        for x in range(6):
            around = [(max(y - 1, 0), x), (min(y + 1, 3), x), (y, max(x - 1, 0)), (y, min(x + 1, 5))]
            assert found[y, x].item() == pytest.approx(
                sum(float(image[0, 0, j, i]) for j, i in around) - 4 * float(image[0, 0, y, x])
            )
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # Light from one side.
    assert losses.symmetry_loss(ramp) == 4
    assert losses.symmetry_loss(ramp, laplacian=True) == 2 / 4  # The border alone: 1 and -1 in one of 4 columns.


def test_features_and_identity_against_loops():
    one, other = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    squares = [float(a - b) ** 2 for a, b in zip(one.flatten(), other.flatten(), strict=True)]
    close(losses.feature_loss(one, other), sum(squares) / len(squares))
    flat, wide = drawn(2, 5, seed=2), drawn(2, 5, seed=3)
    layers = [
        [abs(float(a - b)) for a, b in zip(u.flatten(), v.flatten(), strict=True)]
        for u, v in ((one, other), (flat, wide))
    ]
    close(losses.identity_loss((one, flat), (other, wide)), sum(sum(layer) / len(layer) for layer in layers))


def test_logits_far_out_stay_finite():
    far = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = losses.discriminator_loss(far, far) + losses.decoder_loss(far)
    loss.backward()
    assert loss.isfinite()
    assert far.grad is not None
    assert far.grad.isfinite().all()


def test_gradients():
    images, target = drawn(2, 1, 3, 4).requires_grad_(), drawn(2, 1, 3, 4, seed=1)
    for loss in (
        losses.symmetry_loss,
        lambda x: losses.symmetry_loss(x, laplacian=True),
        lambda x: losses.pixel_loss(x, target),
        lambda x: losses.feature_loss(x, target),
        lambda x: losses.identity_loss([target], [x]),
        lambda x: losses.decoder_loss(x.flatten()),
        lambda x: losses.discriminator_loss(target.flatten(), x.flatten()),
    ):
        assert torch.autograd.gradcheck(loss, images)


def test_nothing_waits_for_the_host():
    images, logits = torch.empty(2, 1, 4, 4, device="meta"), torch.empty(2, device="meta")
    for found in (
        losses.symmetry_loss(images, laplacian=True),
        losses.pixel_loss(images, images),
        losses.feature_loss(images, images),
        losses.identity_loss([images], [images]),
        losses.discriminator_loss(logits, logits),
        losses.decoder_loss(logits),
    ):
        assert found.is_meta
        assert found.shape == ()


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(MethodError, match=r"one shape, found \(1, 1\) and \(1, 2\)"):
        losses.pixel_loss(torch.ones(1, 1), torch.ones(1, 2))
    with pytest.raises(MethodError, match="at least 2 columns"):
        losses.symmetry_loss(torch.ones(1, 1, 4, 1))
