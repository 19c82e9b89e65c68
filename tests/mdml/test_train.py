"""The training loop: its records, its reproducibility, and what it refuses."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, recall_score
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mdml import MethodError
from mdml.augmentation import augmentation
from mdml.diagnostics import RATES, class_distances, spread
from mdml.evaluation import embed
from mdml.sampling import batches
from mdml.train import Recipe, Training, TrainingError, derived_seed
from tests.mdml import toy

RECIPE = Recipe(epochs=2, batch_size=6, learning_rate=1e-3)
TRAIN, VALIDATION, OTHER = torch.arange(14), torch.arange(14, 18), torch.tensor([19, 18, 2])
HEAD = {
    "epoch",
    "train_loss",
    "classification_loss",
    "metric_loss",
    "train_accuracy",
    "slices",
    "training_seconds",
    "seconds",
}


def run(method, recipe=RECIPE, seed=0, watch=None, index=TRAIN, network=None, images=None, labels=None):
    """Records without the clock's, and the network."""
    network = toy.network(method, seed) if network is None else network
    images, labels = toy.images() if images is None else images, toy.labels() if labels is None else labels
    watch = {"val": VALIDATION} if watch is None else watch
    records = list(Training(network, method, recipe, images, labels, index, watch, seed))
    assert all(record.pop("seconds") >= record.pop("training_seconds") > 0 for record in records)
    return records, network


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("name", "options"), [("softmax", {}), ("triplet", {}), ("mul_dml", {"slices": 3})])
def test_the_keys_of_a_record(name, options):
    method = toy.made(name, **options)
    watch = {"val": VALIDATION, "test": OTHER}
    records = list(Training(toy.network(method), method, RECIPE, toy.images(), toy.labels(), TRAIN, watch, 0))
    scores = {f"{where}_{what}" for where in watch for what in ("loss", "accuracy", "balanced_accuracy")}
    row = {"epoch", "slice", "spread", "inter_distance", "intra_distance"}
    metric = {"threshold", "metric_loss", *RATES} if method.layout.thresholds else set()
    assert [record["epoch"] for record in records] == [1, 2]
    for record in records:
        assert set(record) == HEAD | scores
        assert (record["metric_loss"] is None) == (name == "softmax")
        assert [set(part) for part in record["slices"]] == [row | metric] * method.layout.slices
        assert [part["slice"] for part in record["slices"]] == list(range(method.layout.slices))
        assert {part["epoch"] for part in record["slices"]} == {record["epoch"]}
        if metric:
            assert [part["threshold"] for part in record["slices"]] == list(method.layout.thresholds)
            assert all(0 <= part["incomplete_rate"] <= part["flip_rate"] <= 1 for part in record["slices"])


def by_hand(method, recipe, seed, index):
    """The same training, spelled out step by step with the plain form of Adam."""
    network, view = toy.network(method, seed), augmentation(recipe.augmentation)
    order, warps = (torch.Generator().manual_seed(derived_seed(part, seed)) for part in ("order", "augmentation"))
    torch.manual_seed(derived_seed("dropout", seed))
    images, labels = toy.images(), toy.labels()
    optimizer = torch.optim.Adam(
        network.parameters(), recipe.learning_rate, betas=(0.9, 0.999), eps=1e-8, foreach=False
    )
    records = []
    for _ in range(recipe.epochs):
        network.train()
        steps = []
        for batch in batches(labels[index], recipe.batch_size, recipe.sampler, order):
            truth = labels[index[batch]]
            output = network(view.train(images[index[batch]], warps))
            loss = method.loss(output, truth)
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            right = int((output.logits.argmax(1) == truth).sum())
            steps.append((len(batch), loss, right, spread(output.slices)))
        images_seen = sum(size for size, *_ in steps)
        records.append(
            {
                "train_loss": sum(size * loss.total.item() for size, loss, *_ in steps) / images_seen,
                "classification_loss": sum(size * loss.classification.item() for size, loss, *_ in steps) / images_seen,
                "train_accuracy": sum(right for _, _, right, _ in steps) / images_seen,
                "spread": sum(size * spreads for size, _, _, spreads in steps) / images_seen,
                "metric": sum(size * loss.metric for size, loss, *_ in steps) / images_seen
                if loss.metric is not None
                else None,
                "rates": sum(loss.rates for _, loss, *_ in steps) if loss.rates is not None else None,
            }
        )
    return records, network


@pytest.mark.parametrize(
    ("name", "options", "recipe"),
    [
        ("softmax", {}, RECIPE),
        ("mul_dml", {"slices": 2}, RECIPE),
        ("triplet", {"form": "dual"}, Recipe(2, 5, 1e-3, sampler="balanced", augmentation="paper")),
    ],
)
def test_equals_the_training_spelled_out(name, options, recipe):
    """14 images by 6 leave a batch of two; the numbers of images, steps and valid anchors all differ."""
    method = toy.made(name, **options)
    index = torch.tensor([3, 19, 0, 1, 2, 5, 4, 7, 8, 11, 10, 9, 15, 13])
    found, network = run(method, recipe, seed=5, index=index)
    expected, reference = by_hand(method, recipe, 5, index)
    for ours, theirs in zip(found, expected, strict=True):
        for key in ("train_loss", "classification_loss", "train_accuracy"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5), key
        assert [row["spread"] for row in ours["slices"]] == pytest.approx(theirs["spread"].tolist(), rel=1e-5)
        if theirs["metric"] is None:
            continue
        assert [row["metric_loss"] for row in ours["slices"]] == pytest.approx(theirs["metric"].tolist(), rel=1e-5)
        assert ours["metric_loss"] == pytest.approx(theirs["metric"].mean().item(), rel=1e-5)
        for rate, sums in zip(RATES, theirs["rates"], strict=False):
            shares = (sums / theirs["rates"][-1]).tolist()
            assert [row[rate] for row in ours["slices"]] == pytest.approx(shares, rel=1e-5, abs=1e-6), rate
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_a_schedule_that_goes_back_does_so_after_the_judged_network_was_handed_out(monkeypatch):
    """RISE 0: every epoch but the last ends with a return to the best weights."""
    monkeypatch.setattr("mdml.schedule.Schedule.RISE", 0.0)
    method, recipe = toy.made("softmax"), replace(RECIPE, epochs=4, schedule="halving", learning_rate=0.05)
    network, images, labels, losses = toy.network(method), toy.images(), toy.labels(), []
    for record in Training(network, method, recipe, images, labels, TRAIN, {"val": VALIDATION}, 0):
        seen = embed(network, method, images, labels, VALIDATION, augmentation(recipe.augmentation))
        assert record["val_loss"] == F.cross_entropy(seen.logits, seen.labels).item()
        losses.append(record["val_loss"])
    assert len(set(losses)) == 4


def test_watched_scores_are_those_of_the_network_after_the_epoch():
    method = toy.made("mul_dml", slices=2)
    network, images, labels = toy.network(method), toy.images(), toy.labels()
    members = torch.tensor([17, 2, 14, 15, 19, 8])
    for record in Training(network, method, RECIPE, images, labels, TRAIN, {"val": members}, 0):
        seen = embed(network, method, images, labels, members, augmentation(RECIPE.augmentation))
        predicted = seen.logits.argmax(1)
        assert record["val_loss"] == pytest.approx(F.cross_entropy(seen.logits, labels[members]).item())
        assert record["val_accuracy"] == pytest.approx(accuracy_score(labels[members], predicted))
        occurring = labels[members].unique().tolist()
        recall = recall_score(labels[members], predicted, labels=occurring, average="macro", zero_division=0)
        assert record["val_balanced_accuracy"] == pytest.approx(recall)
        inter, intra = class_distances(seen.slices, labels[members])
        assert [row["inter_distance"] for row in record["slices"]] == inter.tolist()
        assert [row["intra_distance"] for row in record["slices"]] == intra.tolist()


@pytest.mark.parametrize("name", ["softmax", "mul_dml"])
def test_one_seed_gives_one_training_bit_for_bit_and_another_seed_another(name):
    method = toy.made(name)
    first, network = run(method, seed=3)
    torch.rand(5)
    again, twin = run(method, seed=3)
    other, stranger = run(method, seed=4)
    assert again == first
    assert same(network, twin)
    assert other != first
    assert not same(network, stranger)


@pytest.mark.parametrize("part", ["order", "augmentation", "dropout"])
def test_every_random_part_depends_on_the_seed(part, monkeypatch):
    """All else held: the start of the network, and the other two streams."""
    method = toy.made("softmax")
    recipe = Recipe(1, 5, 1e-3, augmentation="none" if part == "order" else "light")
    start = toy.network(method).state_dict()
    results = []
    for seed in (0, 0, 1):
        network = toy.network(method)
        network.load_state_dict(start)
        monkeypatch.setattr("mdml.train.derived_seed", lambda what, seed: seed if what == part else 7)
        results.append(run(method, recipe, seed=seed, network=network)[1])
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_a_training_after_another_method_equals_the_first_of_a_process():
    """On ResNet-18, whose start is kept from one training to the next."""
    method, before = toy.made("triplet", form="dual"), toy.made("mul_dml", slices=4)
    first, network = run(method, seed=1, network=toy.resnet(method, seed=1))
    run(before, Recipe(1, 4, 1e-2, "cosine", "balanced", "paper"), seed=1, network=toy.resnet(before, seed=1))
    second, twin = run(method, seed=1, network=toy.resnet(method, seed=1))
    assert second == first
    assert same(network, twin)


def test_watching_changes_nothing():
    method = toy.made("mul_dml", slices=2)
    blind, network = run(method, watch={})
    watched, twin = run(method, watch={"val": VALIDATION, "test": OTHER})
    assert same(network, twin)
    for ours, theirs in zip(blind, watched, strict=True):
        assert {key: theirs[key] for key in ours if key != "slices"} == {k: v for k, v in ours.items() if k != "slices"}


def test_nothing_is_learnt_from_images_outside_the_index():
    method = toy.made("triplet")
    images = toy.images()
    images[14:] = 255 - images[14:]
    assert same(run(method, watch={})[1], run(method, watch={}, images=images)[1])


def test_an_abandoned_training_leaves_the_next_alone():
    """A scheduler stops trials between epochs: the generator is dropped in the middle."""
    method = toy.made("softmax")
    expected, _ = run(method)
    stopped = iter(Training(toy.network(method), method, RECIPE, toy.images(), toy.labels(), TRAIN, {}, 0))
    next(stopped)
    del stopped
    assert run(method)[0] == expected


@pytest.mark.parametrize("name", ["softmax", "triplet", "mul_dml"])
def test_learning_separates_what_is_separable(name):
    """Bright left halves against bright right halves; seen upright."""
    images = torch.zeros(16, 1, 16, 16, dtype=torch.uint8)
    labels = torch.arange(16) % 2
    for i in range(16):
        images[i, 0, :, 8 * (i % 2) : 8 * (i % 2) + 8] = 100 + 9 * i
        images[i, 0, i] += 20
    recipe = Recipe(epochs=8, batch_size=6, learning_rate=1e-2, augmentation="none")
    method = toy.made(name, dropout=0.0)
    records, _ = run(
        method, recipe, index=torch.arange(12), watch={"val": torch.arange(12, 16)}, images=images, labels=labels
    )
    assert records[-1]["train_loss"] < 0.3 * records[0]["train_loss"]
    assert records[-1]["train_accuracy"] == 1
    assert records[-1]["val_accuracy"] == 1


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_the_learning_rate_is_constant_or_falls_as_a_cosine_over_all_steps(sampler):
    """13 images by 4: 3 steps an epoch (the last image is dropped), 6 in all; step k at lr (1 + cos(pi k / 6)) / 2."""
    for schedule, expected in (
        ("constant", [1e-3] * 6),
        ("cosine", [5e-4 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]),
    ):
        recipe = Recipe(2, 4, 1e-3, schedule, sampler)
        seen: list[float] = []
        handle = register_optimizer_step_pre_hook(
            lambda optimizer, *_, seen=seen: seen.append(optimizer.param_groups[0]["lr"])
        )
        run(toy.made("softmax"), recipe, index=torch.arange(13))
        handle.remove()
        assert seen == pytest.approx(expected, rel=1e-9)


def test_the_schedule_matters():
    method = toy.made("softmax")
    constant, cosine = (run(method, Recipe(2, 6, 1e-3, schedule)) for schedule in ("constant", "cosine"))
    assert constant[0] != cosine[0]


@pytest.mark.parametrize("name", ["softmax", "mul_dml"])
def test_a_loss_that_is_not_finite_ends_the_training(name):
    method = toy.made(name)
    network = toy.network(method)
    with torch.no_grad():
        network.get_parameter("head.classify.bias")[0] = torch.nan
    with pytest.raises(TrainingError, match=r"not finite in epoch 1"):
        run(method, network=network)


def test_a_metric_loss_without_end_ends_the_training_though_the_cross_entropy_is_finite():
    """In a single step, before the weights take it up."""
    with pytest.raises(TrainingError, match=r"not finite in epoch 1"):
        run(toy.made("triplet", weight=1e39), Recipe(1, 14, 1e-3))


def test_batches_without_a_valid_anchor_leave_their_rates_open():
    """One class only: no triplet is valid in the whole epoch."""
    records, _ = run(toy.made("triplet"), labels=torch.zeros(20, dtype=torch.int64), watch={})
    row = records[0]["slices"][0]
    assert row["metric_loss"] == 0
    assert all(row[rate] is None for rate in RATES)


def test_fewer_than_two_images_are_refused():
    with pytest.raises((MethodError, TrainingError)):
        run(toy.made("softmax"), index=torch.tensor([3]))


def test_the_losses_of_a_record_add_up():
    records, _ = run(toy.made("triplet"))
    for record in records:
        assert record["train_loss"] == pytest.approx(
            record["classification_loss"] + 0.5 * record["metric_loss"], rel=1e-5
        )


def test_the_losses_of_a_record_add_up_in_equal_batches():
    records, _ = run(toy.made("triplet"), Recipe(2, 7, 1e-3))
    for record in records:
        assert record["train_loss"] == pytest.approx(
            record["classification_loss"] + 0.5 * record["metric_loss"], rel=1e-5
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"epochs must be at least 1, found 0"),
        ({"batch_size": 1}, r"batch_size must be at least 2, found 1"),
        ({"learning_rate": 0.0}, r"learning_rate must be positive and finite, found 0\.0"),
        ({"learning_rate": -1e-3}, r"learning_rate must be positive and finite, found -0\.001"),
        ({"learning_rate": math.nan}, r"learning_rate must be positive and finite, found nan"),
        ({"schedule": "linear"}, r"schedule must be constant or cosine or halving, found linear"),
        ({"sampler": "weighted"}, r"sampler must be shuffle or balanced, found weighted"),
        ({"augmentation": "heavy"}, r"out of none, paper, light, .*, found augmentation\.name=heavy"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(MethodError, match=message):
        Recipe(**{"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, **change})


def test_derived_seeds():
    """The first 8 bytes of sha256("('order', 0)") are e48291a443e5e5ae; a seed is half of that number."""
    assert derived_seed("order", 0) == 0x724148D221F2F2D7
    seeds = {derived_seed(part, seed) for part in ("order", "augmentation", "dropout", "head") for seed in range(500)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
