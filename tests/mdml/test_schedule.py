"""Schedules of the learning rate: the rates they give, and what halving restores."""

import pytest
import torch

from mdml.schedule import Schedule


def made(name, steps=4):
    network = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.8)
    return network, optimizer, Schedule(name, network, optimizer, steps)


def rate(optimizer):
    return optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("name", "rates"), [("constant", [0.8] * 4), ("cosine", [0.682843, 0.4, 0.117157, 0.0]), ("halving", [0.8] * 4)]
)
def test_rates_after_each_step(name, rates):
    """Cosine: 0.4 (1 + cos(pi i / 4)) after step i."""
    _, optimizer, schedule = made(name)
    found = []
    for _ in rates:
        optimizer.step()
        schedule.after_step()
        found.append(rate(optimizer))
    assert found == pytest.approx(rates, abs=1e-6)


def play(curve):
    """Play (validation accuracy, loss) of epochs 1, 2, ...; the weight of epoch e is e."""
    network, optimizer, schedule = made("halving")
    rates, weights = [], []
    for epoch, (accuracy, loss) in enumerate(curve, 1):
        with torch.no_grad():
            network.weight.fill_(epoch)
        schedule.after_epoch(
            {"epoch": epoch, "train_loss": loss} | ({} if accuracy is None else {"val_accuracy": accuracy})
        )
        rates.append(rate(optimizer))
        weights.append(network.weight.item())
    return rates, weights


def test_a_loss_that_rises_by_more_than_a_quarter_halves_the_rate_and_restores_the_best_weights():
    rates, weights = play([(0.5, 1.0), (0.4, 0.8), (0.4, 1.0), (0.6, 1.26), (0.6, 9.0), (0.6, 0.1)])
    assert rates == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4]
    assert weights == [1, 2, 3, 4, 5, 6], "the best weights were those of epoch 4 itself"
    rates, weights = play([(0.5, 1.0), (0.4, 0.8), (0.4, 1.01)])
    assert (rates, weights) == ([0.8, 0.8, 0.4], [1, 2, 1])


def test_ten_epochs_without_gain_halve_the_rate_again_and_again():
    rates, weights = play([(0.5, 1.0)] + [(0.5, 1.0)] * 20)
    assert rates == [0.8] * 10 + [0.4] * 10 + [0.2]
    assert weights == [*range(1, 11), 1, *range(12, 21), 1]


def test_without_a_validation_set_the_loss_is_what_is_gained_on():
    rates, weights = play([(None, 1.0), (None, 0.9)] + [(None, 0.95)] * 10)
    assert rates == [0.8] * 11 + [0.4]
    assert weights == [*range(1, 12), 2]


def test_the_other_schedules_restore_nothing():
    network, _, schedule = made("constant")
    for epoch in range(1, 30):
        with torch.no_grad():
            network.weight.fill_(epoch)
        schedule.after_epoch({"epoch": epoch, "train_loss": float(epoch**2)})
    assert network.weight.item() == 29
    assert not schedule.weights
