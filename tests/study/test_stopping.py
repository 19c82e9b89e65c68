"""The rules that stop trainings, beside Tune's own ASHA and by hand."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import ASHAScheduler

from study.stopping import Stopping, StoppingScheduler, collapsed, part_of, quantile


def tune_decisions(epochs, grace, reduction, shown):
    """What Tune's ASHA with one bracket decides on (name, epoch, value) in this order; what it stopped is not shown again."""
    scheduler, stopped, decisions = (
        ASHAScheduler("epoch", "value", "max", max_t=epochs, grace_period=grace, reduction_factor=reduction),
        set(),
        [],
    )
    trials = {name: SimpleNamespace(trial_id=name) for name, _, _ in shown}
    for trial in trials.values():
        scheduler.on_trial_add(None, trial)
    for name, epoch, value in shown:
        if name not in stopped and epoch < epochs:
            decisions.append(scheduler.on_trial_result(None, trials[name], {"epoch": epoch, "value": value}) == "STOP")
            stopped |= {name} if decisions[-1] else set()
    return decisions


def our_decisions(rules, epochs, shown):
    stopped, decisions = set(), []
    for name, epoch, value in shown:
        if name not in stopped and epoch < epochs:
            reason = rules.look(name, 0, {"epoch": epoch, "val_accuracy": value})
            decisions.append(reason == "asha")
            stopped |= {name} if reason else set()
    return decisions


@pytest.mark.parametrize(("epochs", "grace", "reduction"), [(10, 2, 3), (9, 1, 3), (27, 1, 2), (5, 5, 3), (100, 3, 4)])
def test_asha_decides_as_tune_does(epochs, grace, reduction):
    rng = random.Random(epochs * 31 + reduction)
    for _ in range(5):
        # Accuracies of few images tie often.
        left = {f"t{i}": [round(rng.random(), rng.choice((1, 3))) for _ in range(epochs)] for i in range(40)}
        shown, place = [], dict.fromkeys(left, 0)
        while place:
            name = rng.choice(list(place))
            shown.append((name, place[name] + 1, left[name][place[name]]))
            place[name] += 1
            if place[name] == epochs:
                del place[name]
        ours = our_decisions(Stopping(epochs, grace, reduction), epochs, shown)
        assert ours == tune_decisions(epochs, grace, reduction, shown)
        assert any(ours) == (grace < epochs)


def test_the_quantile_is_numpys_to_the_last_bit():
    rng = random.Random(0)
    for reduction in (2, 3, 4, 7):
        for length in range(1, 40):
            values = sorted(rng.random() for _ in range(length))
            share = 1 - 1 / reduction
            assert quantile(values, share) == np.nanpercentile(values, share * 100)


def test_rungs_filled_from_the_store_decide_as_those_that_saw_the_trials():
    curves = {f"{i}": [(epoch, 0.1 * i + 0.01 * epoch) for epoch in range(1, 5)] for i in range(5)}
    live = Stopping(9, 1, 3, brackets=2)
    seen = [(key, {"epoch": epoch, "val_accuracy": value}) for key, curve in curves.items() for epoch, value in curve]
    for key, record in seen:
        live.look(key, live.bracket(key), record)
    again = StoppingScheduler(Stopping(9, 1, 3, brackets=2), reversed(seen)).stopping
    for bracket in (0, 1):
        for value in (0.05, 0.2, 0.35, 0.6):
            for epoch in (1, 2, 3, 4):
                record, name = {"epoch": epoch, "val_accuracy": value}, f"new-{value}"
                assert again.look(name, bracket, record) == live.look(name, bracket, record)


def test_a_trial_that_begins_again_is_not_judged_again_nor_counted_twice():
    rules = Stopping(9, 1, 3)
    for name, value in (("a", 0.5), ("a", 0.5), ("a", 0.5), ("b", 0.6)):
        assert rules.look(name, 0, {"epoch": 1, "val_accuracy": value}) is None
    assert rules.look("c", 0, {"epoch": 1, "val_accuracy": 0.55}) == "asha"  # below 0.5667 of [0.5, 0.6]
    assert rules.look("c", 0, {"epoch": 1, "val_accuracy": 0.55}) is None


def test_a_later_bracket_begins_later_and_hashes_deal_as_hyperband_does():
    rules = Stopping(27, 1, 3, brackets=3)
    counts = np.bincount([rules.bracket(f"{i:032x}") for i in range(2000)])
    # ceil(3 * 9 / 3), ceil(3 * 3 / 2), ceil(3 * 1 / 1)
    assert np.allclose(counts / 2000, np.array([9, 5, 3]) / 17, atol=0.03)
    assert Stopping(27, 1, 3).bracket("anything") == 0
    for bracket, first in enumerate((1, 3, 9)):
        rules = Stopping(27, 1, 3, brackets=3)
        rules.look("good", bracket, {"epoch": first, "val_accuracy": 0.9})
        for epoch in range(1, first):
            assert rules.look("bad", bracket, {"epoch": epoch, "val_accuracy": 0.0}) is None
        assert rules.look("bad", bracket, {"epoch": first, "val_accuracy": 0.0}) == "asha"


POINT = {"spread": 0.001, "threshold": 0.3, "metric_loss": 0.3005}


def test_collapse_is_a_point_whose_loss_is_its_threshold():
    assert collapsed([POINT, POINT | {"threshold": 0.6, "metric_loss": 0.59}])
    assert collapsed([{"spread": 0.001}])
    assert not collapsed([])
    assert not collapsed([POINT, POINT | {"spread": 0.4}])
    assert not collapsed([POINT | {"metric_loss": 0.2}])


def test_collapse_stops_after_so_many_epochs_in_a_row():
    def look(rules, epoch, *slices):
        return rules.look("k", 0, {"epoch": epoch, "val_accuracy": 0.5, "slices": list(slices)})

    rules = Stopping(100, 100, 3, collapse=3)
    fine = POINT | {"spread": 1.0}
    shown = [(1, POINT), (2, POINT), (3, fine), (4, POINT), (5, POINT)]
    assert [look(rules, epoch, row) for epoch, row in shown] == [None] * 5
    # Its worker died, and it begins again with the same numbers.
    assert [look(rules, epoch, row) for epoch, row in shown] == [None] * 5
    assert look(rules, 6, POINT) == "collapse"
    assert look(Stopping(100, 100, 3), 6, POINT) is None


def test_a_metric_that_is_no_number_stops_and_one_that_is_absent_does_not():
    rules = Stopping(9, 1, 3)
    assert rules.look("a", 0, {"epoch": 1, "val_accuracy": float("nan")}) == "nan"
    assert rules.look("a", 0, {"epoch": 1, "val_accuracy": None}) is None


def test_tune_hands_on_records_with_flat_names():
    record = {"epoch": 3, "val_accuracy": 0.5, "slices": [{"spread": 1.0}]}
    assert part_of({"metric": 1} | {f"record/{name}": value for name, value in record.items()}, "record") == record
    assert part_of({"record": record}, "record") == record
    assert part_of({"committed": "failed"}, "record") == {}
