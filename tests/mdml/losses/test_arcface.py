"""ArcFace in both forms: the worked example, angles in Python floats, its limits, and pytorch-metric-learning."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss

from mdml import MethodError
from mdml.losses import arcface_logits, class_cosines

both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
ANGLES = (0.0, 0.5, 10.0, 60.0, 90.0, 120.0, 151.0, 152.0, 162.0, 163.0, 170.0, 179.9, 180.0)


def cosines(*degrees):
    return [math.cos(math.radians(angle)) for angle in degrees]


def own_logit(theta, form, scale, margins):
    """The logit of the own class at an angle in degrees."""
    theta = math.radians(theta)
    if form == "additive":
        (m,) = margins
        fits = math.cos(theta) > math.cos(math.pi - m)
        return scale * (math.cos(theta + m) if fits else math.cos(theta) - m * math.sin(m))
    m1, m2, m3 = margins
    angle = m1 * theta + m3
    return scale * (math.cos(angle) - m2 if angle <= math.pi else math.cos(theta))


@both_types
def test_o1(dtype):
    """64 cos(60 deg + .5) = 1.510181; 170 deg + .5 passes pi: 64 (cos 170 deg - .5 sin .5) = -78.369313."""
    logits = arcface_logits(torch.tensor([cosines(60, 90), cosines(170, 90)], dtype=dtype), torch.tensor([0, 0]))
    digits = 1e-6 if dtype == torch.float64 else 1e-5
    assert logits[:, 0].tolist() == pytest.approx([1.510181, -78.369313], abs=digits)
    logits = arcface_logits(torch.tensor([[0.5, 0.2]], dtype=dtype), torch.tensor([0]), scale=4.0)
    assert F.cross_entropy(logits, torch.tensor([0])).item() == pytest.approx(1.106941, abs=1e-6)


@both_types
@pytest.mark.parametrize(
    ("form", "margins"),
    [
        ("additive", (0.5,)),
        ("additive", (0.3,)),
        ("combined", (1.0, 0.2, 0.3)),
        ("combined", (1.2, 0.0, 0.1)),
        ("combined", (1.0, 0.35, 0.0)),
    ],
)
def test_the_own_logit_at_every_angle(form, margins, dtype):
    """Angles from 0 to 180 degrees, on both sides of pi - .5 (151.4) and pi - .3 (162.8)."""
    given = torch.tensor([[c, 0.25] for c in cosines(*ANGLES)], dtype=dtype)
    found = arcface_logits(given, torch.zeros(len(ANGLES), dtype=torch.int64), form, 16.0, margins)
    expected = [own_logit(angle, form, 16.0, margins) for angle in ANGLES]
    assert found[:, 0].tolist() == pytest.approx(expected, abs=1e-12 if dtype == torch.float64 else 5e-5)
    assert found[:, 1].tolist() == [4.0] * len(ANGLES)


@pytest.mark.parametrize(("form", "margins"), [("additive", (0.5,)), ("combined", (1.0, 0.2, 0.3))])
def test_defaults_of_the_forms(form, margins):
    given, labels = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    assert torch.equal(arcface_logits(given, labels, form), arcface_logits(given, labels, form, 64.0, margins))
    other = given.scatter(1, labels[:, None], 0)
    assert torch.equal(arcface_logits(given, labels, form).scatter(1, labels[:, None], 0), 64 * other)


@pytest.mark.parametrize(("form", "margins"), [("additive", (0.0,)), ("combined", (1.0, 0.0, 0.0))])
def test_without_margin_the_logits_are_scaled_cosines(form, margins):
    given = torch.rand(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(arcface_logits(given, torch.tensor([0, 1, 2, 3, 0, 1]), form, 8.0, margins), 8 * given)


def test_the_additive_logit_falls_with_the_angle_throughout():
    given = torch.linspace(1, -1, 2001, dtype=torch.float64)[:, None]
    found = arcface_logits(given, torch.zeros(2001, dtype=torch.int64))[:, 0]
    assert (found.diff() < 0).all()


@pytest.mark.parametrize("scale", [4.0, 64.0])
def test_the_additive_form_equals_pytorch_metric_learning(scale):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(32, 8, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(7, (32,), generator=generator)
    peer = ArcFaceLoss(7, 8, margin=math.degrees(0.5), scale=scale).double()
    peer.W.data.copy_(torch.randn(8, 7, generator=generator, dtype=torch.float64))
    # On both sides of the angle where the margin would pass pi.
    embeddings.data[:4] = -peer.W.data.T[labels[:4]] + 0.1 * embeddings.data[:4]
    found = F.cross_entropy(arcface_logits(class_cosines(embeddings, peer.W.T), labels, scale=scale), labels)
    expected = peer(embeddings, labels)
    torch.testing.assert_close(found, expected)
    both = [torch.autograd.grad(loss, (embeddings, peer.W)) for loss in (found, expected)]
    torch.testing.assert_close(*both)


@both_types
@pytest.mark.parametrize("form", ["additive", "combined"])
def test_gradients_are_finite_at_and_beyond_the_ends(form, dtype):
    """Rounding gives cosines a little above 1, too."""
    ends = [1.0, -1.0, 1.0 + 1e-7, -1.0 - 1e-7, 1.0 - 1e-7]
    given = torch.tensor([[end, 0.0] for end in ends], dtype=dtype, requires_grad=True)
    logits = arcface_logits(given, torch.zeros(5, dtype=torch.int64), form)
    assert logits.isfinite().all()
    assert torch.autograd.grad(logits.sum(), given)[0].isfinite().all()


def test_cosines_of_embeddings_and_classes():
    generator = torch.Generator().manual_seed(0)
    embeddings, weights = torch.randn(5, 4, generator=generator), torch.randn(3, 4, generator=generator)
    expected = [[F.cosine_similarity(e, w, dim=0) for w in weights] for e in embeddings]
    torch.testing.assert_close(class_cosines(embeddings, weights), torch.tensor(expected))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = class_cosines(embeddings.bfloat16(), weights)
    assert torch.equal(half, class_cosines(embeddings.bfloat16().float(), weights))


GIVEN, OWN = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GIVEN, OWN, "both"), r'"additive" or "combined", not \'both\''),
        ((GIVEN, OWN, "additive", 4.0, (0.5, 0.2)), r"form additive has 1 margins, found 2: \(0\.5, 0\.2\)"),
        ((GIVEN, OWN, "combined", 4.0, (0.5,)), r"form combined has 3 margins, found 1"),
        ((GIVEN[0], OWN), r"cosines \(B, C\) .* found \(3,\)"),
        ((GIVEN, OWN[:3]), r"labels \(B,\) int64, found \(4, 3\) and \(3,\) torch.int64"),
        ((GIVEN, OWN.float()), r"found \(4, 3\) and \(4,\) torch.float32"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(arguments, message):
    with pytest.raises(MethodError, match=message):
        arcface_logits(*arguments)
