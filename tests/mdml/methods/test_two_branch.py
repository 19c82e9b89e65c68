"""2B(N+M) and RML: how a batch of queries and companions becomes their losses, and their options."""

import pytest
import torch
import torch.nn.functional as F

from mdml import MethodError
from mdml.companions import IdentityTuplets, MinedReferences
from mdml.losses import radial_loss, tuplet_clusters
from mdml.losses.radial import FixedRadius, RadialMetric
from mdml.losses.triplet import normalize_slices
from mdml.methods import make_method
from mdml.methods.rml import RML
from mdml.methods.tuplet_clusters import TupletClusters
from mdml.session import TrainingSet

CLASSES, WIDTH = 4, 6
both = pytest.mark.parametrize("name", ["tuplet_clusters", "rml"])


def made(name, **options):
    method = make_method(name, {"slice_dim": WIDTH, "dropout": 0.0, **options})
    torch.manual_seed(0)
    return method, method.head(12, CLASSES)


def draw(queries, company, head, seed=0):
    """Output of a head for K queries and K x T companions, and labels: a companion's is its query's plus its place."""
    generator = torch.Generator().manual_seed(seed)
    output = head(torch.randn(queries * (1 + company), 12, generator=generator))
    points = 2 * torch.randn(1, queries * (1 + company), WIDTH, generator=generator)
    labels = torch.arange(queries) % CLASSES
    others = (labels[:, None] + torch.arange(company)).flatten() % CLASSES
    return output._replace(slices=points), torch.cat([labels, others])


def faces():
    index = torch.arange(3 * CLASSES)
    images = torch.randint(256, (len(index), 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return TrainingSet(images, index % CLASSES, index // CLASSES, index, CLASSES, 0, 0)


@pytest.mark.parametrize("weight", [0.0, 1.0, 0.95])
@pytest.mark.parametrize("center", ["batch", "ema"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("form", ["adaptive", "fixed"])
def test_rml_is_cross_entropy_and_radial_loss_of_queries_and_references(form, normalize, center, weight):
    method, head = made("rml", form=form, normalize=normalize, center=center, weight=weight)
    output, labels = draw(8, 1, head)
    loss = method.loss(output, labels)
    points = normalize_slices(output.slices[0]) if normalize else output.slices[0]
    queries, references, truth = points[:8], points[8:], labels[:8]
    centers = None
    if center == "ema":
        centers = torch.stack([queries[truth == label].mean(0) for label in truth])
    metric = head.metric if form == "adaptive" else FixedRadius(2.0, 2.0)
    radial = radial_loss(queries, references, truth, metric, centers)
    entropy = F.cross_entropy(output.logits[:8], truth)
    torch.testing.assert_close(loss.total, entropy + weight * radial)
    torch.testing.assert_close(loss.classification, entropy.detach())
    torch.testing.assert_close(loss.metric, radial.detach()[None])
    assert torch.equal(loss.scores, output.logits[:8])


@pytest.mark.parametrize("reduction", ["violators", "all"])
@pytest.mark.parametrize("form", ["adaptive", "fixed"])
@pytest.mark.parametrize(("positives", "negatives"), [(6, None), (1, None), (2, 5)])
def test_tuplet_clusters_is_cross_entropy_and_the_loss_of_each_query_with_its_own(
    positives, negatives, form, reduction
):
    options = {"positives": positives, "negatives": negatives, "reduction": reduction, "form": form}
    method, head = made("tuplet_clusters", **options)
    count = CLASSES - 1 if negatives is None else negatives
    output, labels = draw(5, positives + count, head)
    loss = method.loss(output, labels)
    points, metric = output.slices[0], head.metric if form == "adaptive" else FixedRadius(2.0, 2.0)
    expected = torch.zeros(())
    for query in range(5):
        own = points[5 + query * (positives + count) :][: positives + count]
        tuplet = points[query][None], own[None, :positives], own[None, positives:]
        expected = expected + tuplet_clusters(*tuplet, metric=metric, reduction=reduction) / 5
    entropy = F.cross_entropy(output.logits[:5], labels[:5])
    torch.testing.assert_close(loss.total, entropy + expected)
    torch.testing.assert_close(loss.metric, expected.detach()[None])
    assert torch.equal(loss.scores, output.logits[:5])


@both
def test_neither_logits_nor_labels_of_companions_matter(name):
    method, head = made(name)
    output, labels = draw(4, 1 if name == "rml" else 6 + CLASSES - 1, head)
    expected = method.loss(output, labels).total
    logits, others = output.logits.clone(), labels.clone()
    logits[4:], others[4:] = 9.0, -1
    torch.testing.assert_close(method.loss(output._replace(logits=logits), others).total, expected)


@both
def test_the_fixed_form_takes_its_threshold_and_margin(name):
    method, _ = made(name, form="fixed", threshold=0.5)
    assert isinstance(method, (RML, TupletClusters))
    assert method.measure(method.learned(CLASSES)) == FixedRadius(0.5, 2.0)
    method, _ = made(name, form="fixed", threshold=0, margin=1)
    assert isinstance(method, (RML, TupletClusters))
    assert method.measure(method.learned(CLASSES)) == FixedRadius(0, 1)


@both
def test_the_adaptive_form_learns_its_metric_in_the_network(name):
    method, head = made(name)
    assert isinstance(head.metric, RadialMetric)
    output, labels = draw(4, 1 if name == "rml" else 6 + CLASSES - 1, head)
    # Near one another, where only the push is at work and does not cancel with the pull.
    total = method.loss(output._replace(slices=0.1 * output.slices), labels).total
    assert all(gradient.any() for gradient in torch.autograd.grad(total, list(head.metric.parameters())))
    assert made(name, form="fixed")[1].metric is None
    assert method.layout == (1, WIDTH, (), "adaptive")


def test_running_centres_are_in_the_network_and_move_in_training_alone():
    method, head = made("rml", center="ema")
    output, labels = draw(8, 1, head)
    method.loss(output, labels)
    moved = head.centers.means.clone()
    assert moved.any()
    head.eval()
    method.loss(output._replace(slices=output.slices + 1), labels)
    assert torch.equal(head.centers.means, moved)
    assert made("rml")[1].centers is None


def test_sessions_draw_tuplets_or_references_and_say_so():
    session = made("tuplet_clusters", positives=2)[0].session(faces())
    assert isinstance(session.companions, IdentityTuplets)
    assert session.companions.per_query == 2 + CLASSES - 1
    assert session.notes["negatives"].startswith("the other expressions of the same subject; 0 of 12 images")
    session = made("rml")[0].session(faces())
    assert isinstance(session.companions, MinedReferences)
    assert session.companions.shares_view
    assert session.notes["references"].startswith("mined: another expression of the same subject; 0 of 12 images")


@both
def test_a_data_set_without_subjects_is_refused(name):
    with pytest.raises(MethodError, match="names no subjects"):
        made(name)[0].session(faces()._replace(subjects=None))


def test_rml_compares_neighbours_as_its_option_says():
    assert (made("rml")[0].normalized, made("rml", normalize=True)[0].normalized) == (False, True)


def test_rml_takes_its_batches_balanced():
    assert (made("rml")[0].sampler, made("tuplet_clusters")[0].sampler) == ("balanced", None)


def test_defaults_are_the_papers():
    options = {"slice_dim": 64, "dropout": 0.5, "form": "adaptive", "threshold": None, "margin": None, "weight": 1.0}
    assert make_method("rml", {}) == RML(**options, center="batch", normalize=False)  # type: ignore[arg-type]
    assert make_method("tuplet_clusters", {}) == TupletClusters(
        **options,  # type: ignore[arg-type]
        positives=6,
        negatives=None,
        reduction="violators",
    )


BAD = {
    "a threshold that would not be used": ({"threshold": 1.0}, r"method\.threshold belongs to method\.form=fixed"),
    "a margin that would not be used": ({"margin": 1.0}, r"method\.margin belongs to method\.form=fixed"),
    "a negative threshold": (
        {"form": "fixed", "threshold": -1.0},
        r"method\.threshold must be .*not negative, found -1",
    ),
    "a margin without end": ({"form": "fixed", "margin": float("inf")}, r"method\.margin must be finite"),
    "a weight that is no number": ({"weight": float("nan")}, r"method\.weight must be finite"),
    "dropping everything": ({"dropout": 1.0}, r"method\.dropout must be in \[0, 1\), found 1\.0"),
    "an unknown form": ({"form": "learned"}, r"must be 'adaptive' or 'fixed', found 'learned'"),
}


@both
@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused(name, options, message):
    with pytest.raises(MethodError, match=message):
        make_method(name, options)


@pytest.mark.parametrize("option", ["positives", "negatives"])
def test_a_tuplet_has_positives_and_negatives(option):
    with pytest.raises(MethodError, match=rf"method\.{option} must be at least 1, found 0"):
        make_method("tuplet_clusters", {option: 0})
