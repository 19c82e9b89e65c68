"""A probe against loops over the batch-hard triplets of every step."""

import pytest
import torch

from mdml.methods import Layout
from mdml.models import Output
from mdml.probe import Probe
from mdml.train import Recipe, Training
from tests.mdml import toy
from tests.mdml.losses import brute
from tests.mdml.test_cycles import by_loop

TAUS = (0.15, 0.45)


class Steps(torch.nn.Module):
    """Gives the slices of one step after the other, whatever it is shown."""

    def __init__(self, steps):
        super().__init__()
        self.steps = iter(steps)

    def forward(self, images):
        assert not self.training
        return Output(next(self.steps), None)


def looked(steps, labels, layout):
    probe = Probe(Steps(steps), torch.zeros(len(labels), 1, 2, 2), labels, layout)
    for _ in steps:
        probe.look()
        assert probe.network.training
    return probe.rows()


def with_cycles(count):
    """Two slices of points on a circle. In the first, a negative often jumps from beyond B (60 degrees) to beyond A (0 degrees)."""
    generator = torch.Generator().manual_seed(0)
    at = torch.tensor([[0.0, 60, 100, 210, 230, 170], [0, 30, 75, 150, 200, 300]])
    steps = []
    for _ in range(count):
        angles = at + 5 * torch.randn(2, 6, generator=generator)
        if torch.rand((), generator=generator) < 0.5:
            angles[0, 2] -= 140
        steps.append(torch.stack([angles.deg2rad().cos(), angles.deg2rad().sin()], -1))
    return steps


def test_the_rows_are_those_of_a_loop():
    steps, labels = with_cycles(60), torch.tensor([0, 0, 9, 2, 2, 8])
    summaries, looks = looked(steps, labels, Layout(2, 2, TAUS, "dual"))
    assert [row["slice"] for row in summaries] == [0, 1]
    for index, tau in enumerate(TAUS):
        rows = [row for row in looks if row["slice"] == index]
        assert [row["step"] for row in rows] == list(range(1, 61))
        judged = [brute.judged(step[index].tolist(), labels.tolist(), tau, normalize=True) for step in steps]
        last = None
        for row, triplets in zip(rows, judged, strict=True):
            count = len(triplets)
            means = [sum(getattr(t, name) for t in triplets) / count for name in ("ap", "an", "pn")]
            last = means if last is None else [0.9 * a + 0.1 * b for a, b in zip(last, means, strict=True)]
            found = [row[name] for name in ("positive_distance", "negative_distance", "cross_distance")]
            assert found == pytest.approx(last, rel=1e-4)
            assert row["metric_loss"] == pytest.approx(sum(t.h1 + t.h2 for t in triplets) / 2 / count, rel=1e-4)
            assert row["incomplete_rate"] == pytest.approx(sum(t.incomplete for t in triplets) / count)
        history = []
        for triplets in judged:
            p, n, bad = [0] * 6, [0] * 6, [False] * 6
            for t in triplets:
                p[t.i], n[t.i], bad[t.i] = t.p, t.n, t.incomplete
            history.append((p, n, bad))
        half, whole = by_loop(history)
        assert [row["half_cycles"] for row in rows] == half
        assert [row["cycles"] for row in rows] == whole
        summary = summaries[index]
        assert (summary["half_cycles"], summary["cycles"]) == (sum(half), sum(whole))
        assert summary["cycles_per_100_steps"] == pytest.approx(sum(whole) / 0.6)
        assert (summary["images"], summary["steps"], summary["threshold"]) == (6, 60, tau)
        losses = [row["metric_loss"] for row in rows]
        assert summary["final_loss"] == losses[-1]
        assert summary["relative_loss_area"] == pytest.approx(sum(losses) / 60 / tau)
        assert summary["incomplete_rate"] == pytest.approx(sum(row["incomplete_rate"] for row in rows) / 60)
    assert summaries[0]["half_cycles"] > summaries[0]["cycles"] > 2, "the case must have cycles"


def test_a_collapsed_embedding_has_the_loss_of_its_threshold_throughout():
    summaries, _ = looked([torch.ones(2, 4, 3)] * 3, torch.tensor([0, 0, 1, 1]), Layout(2, 3, TAUS, "conventional"))
    assert [row["relative_loss_area"] for row in summaries] == pytest.approx([1, 1])
    assert [row["final_loss"] for row in summaries] == pytest.approx(TAUS)
    assert [row["cross_step"] for row in summaries] == [None, None]


def test_the_crossing_is_that_of_the_smoothed_curves():
    """Classes apart from the third step on; smoothed d(a,p) = 2 x .9^s falls below d(a,n) = sqrt 2 x (1 - .9^s) + ... in time."""
    mixed = torch.tensor([[[1.0, 0], [-1, 0], [0, 1], [0, -1]]])
    apart = torch.tensor([[[1.0, 0], [1, 0], [-1, 0], [-1, 0]]])
    labels = torch.tensor([0, 0, 1, 1])
    summaries, looks = looked([mixed] * 2 + [apart] * 80, labels, Layout(1, 2))
    smooth = [row["positive_distance"] < min(row["negative_distance"], row["cross_distance"]) for row in looks]
    first = smooth.index(True) + 1
    assert summaries[0]["cross_step"] == first > 3
    assert all(smooth[first - 1 :])


def test_a_method_without_thresholds_has_distances_alone():
    summaries, looks = looked([torch.randn(1, 4, 3)], torch.tensor([0, 0, 1, 1]), Layout(1, 3))
    assert summaries == [{"slice": 0, "images": 4, "steps": 1, "cross_step": None}]
    assert set(looks[0]) == {"slice", "step", "positive_distance", "negative_distance", "cross_distance"}


@pytest.mark.parametrize("name", ["softmax", "mul_dml"])
def test_looking_changes_nothing_of_the_training(name):
    method, recipe = toy.made(name), Recipe(epochs=2, batch_size=6, learning_rate=1e-3)
    networks, records = [toy.network(method), toy.network(method)], []
    probe = Probe(networks[1], toy.images()[:9] / 255.0, toy.labels()[:9], method.layout)
    for network, look in zip(networks, (None, probe.look), strict=True):
        found = Training(network, method, recipe, toy.images(), toy.labels(), torch.arange(14), {}, 0, after_step=look)
        records.append([{k: v for k, v in record.items() if "seconds" not in k} for record in found])
    assert records[0] == records[1]
    ours, theirs = (network.state_dict() for network in networks)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert probe.rows()[0][0]["steps"] == 6
