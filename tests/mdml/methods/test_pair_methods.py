"""Cross-entropy beside a loss over pairs, tuplets or centres, and ArcFace: what each puts together, and the options it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F

from mdml import MethodError
from mdml.losses import arcface_logits, center_loss, circle, contrastive, coupled_clusters, island_term, npair
from mdml.methods import make_method
from mdml.models.head import Output

FEATURES, CLASSES = 16, 3
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


def forward(name, **options):
    """Method, head, and its output for seven samples, without dropout."""
    method = make_method(name, {"slice_dim": 8, "dropout": 0.0} | options)
    torch.manual_seed(0)
    head = method.head(FEATURES, CLASSES)
    return method, head, head(torch.randn(7, FEATURES))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("contrastive", {}, lambda f: contrastive(F.normalize(f), LABELS, 1.0)),
        ("contrastive", {"margin": 0.7}, lambda f: contrastive(F.normalize(f), LABELS, 0.7)),
        ("npair", {}, lambda f: npair(f, LABELS, 0.002)),
        ("npair", {"regularization": 0.5}, lambda f: npair(f, LABELS, 0.5)),
        ("coupled_clusters", {}, lambda f: coupled_clusters(F.normalize(f), LABELS, 0.3)),
        ("coupled_clusters", {"alpha": 2.0}, lambda f: coupled_clusters(F.normalize(f), LABELS, 2.0)),
        ("center", {}, lambda f: center_loss(f, LABELS, torch.zeros(CLASSES, 8))),
        # Centres at 0 have cosine 0: six ordered pairs of three.
        ("center", {"form": "island"}, lambda f: center_loss(f, LABELS, torch.zeros(CLASSES, 8)) + 60),
        ("circle", {}, lambda f: circle(f, LABELS, "batch", 32.0, 0.25)),
        ("circle", {"form": "original", "relaxation": 0.4}, lambda f: circle(f, LABELS, "original", 256.0, 0.4)),
        ("circle", {"gamma": 8}, lambda f: circle(f, LABELS, "batch", 8.0, 0.25)),
    ],
)
@pytest.mark.parametrize("weight", [None, 0.0, 2.0])
def test_the_total_is_cross_entropy_and_the_weighted_metric_loss(name, options, expected, weight):
    method, _, output = forward(name, **options, **({} if weight is None else {"weight": weight}))
    default = {"center": 0.003, "island": 0.01}.get(str(method.layout.form), 0.5)
    metric = expected(output.slices[0])
    cross_entropy = F.cross_entropy(output.logits, LABELS)
    loss = method.loss(output, LABELS)
    torch.testing.assert_close(loss.metric, metric.detach()[None])
    torch.testing.assert_close(loss.classification, cross_entropy.detach())
    torch.testing.assert_close(loss.total, cross_entropy + (default if weight is None else weight) * metric)
    torch.testing.assert_close(loss.scores, output.logits.detach())
    assert loss.rates is None


@pytest.mark.parametrize("name", ["contrastive", "coupled_clusters"])
def test_bfloat16_embeddings_are_normalised_in_float32(name):
    method, _, output = forward(name, alpha=5.0) if name == "coupled_clusters" else forward(name)
    half = output.slices[0].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = method.metric(half, LABELS, output)
    assert torch.equal(found, method.metric(half.float(), LABELS, output))


@pytest.mark.parametrize("form", ["center", "island"])
def test_centres_move_in_training_alone_and_after_the_loss(form):
    method, head, output = forward("center", form=form, center_rate=0.3)
    head.eval()
    method.loss(output, LABELS)
    assert not head.centers.centers.any()
    head.train()
    first = method.loss(output, LABELS)
    constant: float = 60 if form == "island" else 0
    torch.testing.assert_close(first.metric[0] - constant, output.slices.square().sum(-1).mean() / 2)
    members = F.one_hot(LABELS, CLASSES).float()
    sums = members.T @ output.slices[0].detach() / (1 + members.sum(0))[:, None]
    torch.testing.assert_close(head.centers.centers, 0.3 * sums)
    moved = head.centers.centers.clone()
    second = method.loss(output, LABELS)
    constant = 10 * island_term(moved).item() if form == "island" else 0
    torch.testing.assert_close(second.metric[0] - constant, center_loss(output.slices[0], LABELS, moved).detach())
    assert not torch.equal(head.centers.centers, moved)
    assert output.extra is head.centers


def test_the_island_form_turns_the_centres_apart():
    similarities = {}
    for form in ("center", "island"):
        method, head, output = forward("center", form=form, island_weight=10.0)
        for _ in range(5):
            method.loss(output, LABELS)
        similarities[form] = island_term(head.centers.centers).item()
    assert similarities["island"] < similarities["center"]


def test_centres_are_kept_with_the_network_and_are_not_trained():
    _, head, _ = forward("center")
    assert "centers.centers" in head.state_dict()
    assert all("centers" not in name for name, _ in head.named_parameters())


@pytest.mark.parametrize("form", ["additive", "combined"])
def test_arcface_trains_on_margins_and_predicts_without(form):
    method, head, output = forward("arcface", form=form, scale=16.0)
    cosines = F.normalize(output.slices[0]) @ F.normalize(head.classify.weight).T
    torch.testing.assert_close(output.logits, 16 * cosines)
    loss = method.loss(output, LABELS)
    torch.testing.assert_close(loss.total, F.cross_entropy(arcface_logits(cosines, LABELS, form, 16.0), LABELS))
    torch.testing.assert_close(method.scores(output), (16 * cosines).softmax(1))
    torch.testing.assert_close(loss.scores, output.logits.detach())
    assert torch.equal(loss.classification, loss.total.detach())
    assert loss.metric is None


def test_arcface_margins_are_its_losss():
    method, _, output = forward("arcface", margins=[0.2])
    expected = arcface_logits(output.extra, LABELS, "additive", 64.0, (0.2,))
    torch.testing.assert_close(method.loss(output, LABELS).total, F.cross_entropy(expected, LABELS))


def test_arcface_keeps_its_cosines_in_float32_under_autocast():
    _, head, _ = forward("arcface")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(torch.randn(7, FEATURES))
    assert output.slices.dtype == torch.bfloat16
    assert output.extra.dtype == output.logits.dtype == torch.float32
    exact = F.normalize(output.slices[0].float()) @ F.normalize(head.classify.weight).T
    torch.testing.assert_close(output.extra, exact)


def test_only_npair_needs_balanced_batches():
    names = ("contrastive", "npair", "coupled_clusters", "center", "circle", "arcface")
    assert {name: make_method(name, {}).sampler for name in names} == dict.fromkeys(names) | {"npair": "balanced"}


def test_layouts_name_the_form():
    assert make_method("center", {"form": "island"}).layout == (1, 256, (), "island")
    assert make_method("circle", {}).layout == (1, 256, (), "batch")
    assert make_method("arcface", {"slice_dim": 4}).layout == (1, 4, (), "additive")
    assert make_method("npair", {}).layout == (1, 256, (), None)
    assert Output(torch.zeros(1, 2, 4), None).extra is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("contrastive", {"margin": -1}, r"method\.margin must be finite and not negative, found -1"),
        ("npair", {"regularization": math.inf}, r"method\.regularization must be finite"),
        ("npair", {"weight": -0.5}, r"method\.weight must be finite and not negative, found -0\.5"),
        ("coupled_clusters", {"alpha": -0.1}, r"method\.alpha must be finite and not negative, found -0\.1"),
        ("center", {"form": "islands"}, r"method\.form of center must be 'center' or 'island', found 'islands'"),
        ("center", {"weight": -1}, r"method\.weight must be finite and not negative"),
        ("center", {"center_rate": -1}, r"method\.center_rate must be in \[0, 1\].*found -1"),
        ("center", {"form": "island", "center_rate": 1.01}, r"method\.center_rate must be in \[0, 1\].*found 1\.01"),
        ("center", {"form": "island", "island_weight": -1}, r"method\.island_weight must be finite"),
        (
            "center",
            {"island_weight": 5},
            r"island_weight acts in the island form alone, found 5 with method\.form=center",
        ),
        ("circle", {"form": "round"}, r"method\.form of circle must be 'batch' or 'original'"),
        ("circle", {"gamma": 0}, r"method\.gamma must be finite and above 0, found 0"),
        ("circle", {"relaxation": -0.1}, r"method\.relaxation must be finite and not negative"),
        ("arcface", {"scale": 0}, r"method\.scale must be finite and above 0, found 0"),
        ("arcface", {"form": "both"}, r"method\.form of arcface must be 'additive' or 'combined'"),
        ("arcface", {"margins": [0.5, 0.2]}, r"margins must list 1 for the form additive, found 2: \[0\.5, 0\.2\]"),
        ("arcface", {"form": "combined", "margins": [0.5]}, r"margins must list 3 for the form combined, found 1"),
        ("arcface", {"margins": [-0.5]}, r"method\.margins must lie in \[0, pi\], found \[-0\.5\]"),
        ("arcface", {"dropout": 1.0}, r"method\.dropout must be in \[0, 1\)"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(MethodError, match=message):
        make_method(name, options)
