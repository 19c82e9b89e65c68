"""Limits of a study: what they mean, when a trial may start, whose turn it is; and (slow) on the command line."""

import json
import re
from collections import Counter
from datetime import UTC, datetime

import pytest

from results import Store
from study import conduct
from study.budget import Budget, Limits, limits_of, moment
from study.config import load
from study.errors import StudyError
from study.metered import Metered
from study.prices import price_of
from study.trial_row import device_name


def test_gpus_are_paid_for_while_they_are_held():
    budget = Budget(Limits(gpu_hours=10, price=2.0), earlier=3600)
    budget.hold(0, 4)
    budget.hold(1800, 1)
    spent = 1 + 4 * 0.5 + 1
    for limit, over in ((spent + 0.01, None), (spent, f"budget.gpu_hours={spent:g} is spent")):
        budget.limits = Limits(gpu_hours=limit, price=2.0)
        assert budget.must_stop(5400) == over
    # A clock that was turned back takes nothing away.
    budget.limits = Limits(gpu_hours=3)
    assert budget.must_stop(0) == "budget.gpu_hours=3 is spent"


def test_no_trial_starts_that_would_end_beyond_a_limit():
    budget = Budget(Limits(gpu_hours=1, deadline=5000))
    budget.hold(0, 1)
    assert budget.may_start(0, expected=3600) is None
    assert budget.may_start(0, expected=3601) == "another trial would exceed budget.gpu_hours=1"
    budget.started("a", 0, expected=3000)
    assert budget.may_start(1000, expected=100) is None
    assert (
        Budget(Limits(deadline=5000))
        .may_start(4000, expected=1001)
        .startswith("another trial would end after budget.deadline=1970")
    )
    assert budget.must_stop(3599) is None
    assert budget.must_stop(3600) == "budget.gpu_hours=1 is spent"
    assert budget.may_start(3600) == "budget.gpu_hours=1 is spent"
    assert Budget(Limits(money=4, price=2.0), earlier=7200).must_stop(0) == "budget.money=4 is spent"
    assert Budget(Limits(deadline=5000)).must_stop(5000) == "budget.deadline=1970-01-01T01:23:20Z has come"
    assert Budget(Limits()).may_start(1e12, 1e12) is None


def test_the_stricter_of_hours_and_money_counts():
    assert Limits(gpu_hours=10, money=4, price=2.0).hours == 2
    assert Limits(gpu_hours=1, money=4, price=2.0).hours == 1
    assert Limits(money=4).hours is None


@pytest.mark.parametrize("workers", [1, 3])
def test_equal_budgets_differ_by_no_more_than_a_round_of_trials(workers):
    """Trials of a cost 10, of b 1 and of c 5 seconds."""
    took, total, budget, now, running = (
        {"a": 10.0, "b": 1.0, "c": 5.0},
        dict.fromkeys("abc", 0.0),
        Budget(Limits()),
        0.0,
        [],
    )
    for i in range(600):
        if len(running) == workers:
            running.sort()
            now, name = running.pop(0)
            budget.ended(name, now)
        method = budget.method(["a", "b", "c"], now)
        budget.started(str(i), now, method)
        total[method] += took[method]
        running.append((now + took[method], str(i)))
    assert max(total.values()) - min(total.values()) <= 10 * workers


def config_of(*overrides, kind="search"):
    return load(list(overrides)) | {"kind": kind}


def test_limits_come_out_of_the_configuration():
    config = config_of("budget.money=10", "budget.instance=g5.xlarge", "budget.deadline=2h", "budget.gpu_hours=3")
    price = price_of("g5.xlarge", None).on_demand
    assert limits_of(config, 100.0) == Limits(3, 10, 7300.0, price)
    assert limits_of(config_of(), 0.0).none
    assert limits_of(config_of("budget.instance=g5.xlarge", "budget.spot=true"), 0.0).price < price
    assert limits_of(config_of("budget.instance=m6i.large"), 0.0).price == pytest.approx(
        0.096 / 2
    )  # of each of two workers


def test_wrong_limits_are_said_together():
    with pytest.raises(StudyError) as error:
        limits_of(
            config_of(
                "budget.gpu_hours=0", "budget.money=1", "budget.deadline=soon", "budget.equal=true", kind="method"
            ),
            0.0,
        )
    assert str(error.value).splitlines() == [
        "Expected budget.gpu_hours to be positive, found 0.",
        "Expected budget.deadline to be a UTC time such as 2026-11-24T08:00 or a duration such as 8h, found 'soon'.",
        "budget.money needs a price: add budget.price=USD, or budget.instance=TYPE.",
        "budget.equal divides the time of a search among its methods: leave it out.",
    ]
    with pytest.raises(StudyError, match=r"Expected an instance type of prices.csv, .* Did you mean g5.xlarge"):
        limits_of(config_of("budget.instance=g5.xlarg"), 0.0)
    with pytest.raises(StudyError, match=r"Expected budget.deadline to be later than now"):
        moment("1999-01-01", 1e9)
    assert moment("1970-01-01T01:00Z", 0.0) == moment("1970-01-01T02:00+01:00", 0.0) == moment("1h", 0.0) == 3600


def test_a_budget_is_no_part_of_a_study(tiny_config, tmp_path):
    """The same command with a budget finds the same study."""
    names = [conduct.prepare(tiny_config(*given), Store(tmp_path)).name for given in ([], ["budget.gpu_hours=5"])]
    assert names[0] == names[1]


def test_what_is_metered_counts_from_suggestion_to_end():
    class Source:
        told, ahead = (), ({"index": 0},)

        def suggest(self, trial_id):
            return {"trial": {"spec": '{"method": "softmax"}'}}

        def on_trial_complete(self, trial_id, result=None, error=False):
            self.told = trial_id, result, error

    now, source = [0.0], Source()
    metered = Metered(source, Budget(Limits(gpu_hours=1)), lambda: 2, expected=10, share=0.5, clock=lambda: now[0])
    assert metered.ahead == source.ahead, "so that a budget takes no demand from a cluster that scales by it"
    assert metered.over() is None
    metered.suggest("a")
    now[0] = 100.0
    metered.on_trial_complete("a", {})
    assert source.told == ("a", {}, False)
    assert metered.budget.method(["softmax", "triplet"], now[0]) == "triplet"
    assert metered.budget._by_method == {"softmax": 50.0}
    metered.suggest("b")
    metered.on_trial_complete("b", {"row/seconds": 4.0, "row/gpu_share": 0.25})
    assert metered.budget._by_method == {"softmax": 51.0}, "what it says itself, without its worker's start"
    now[0] = 1791.0
    assert metered.over() == "another trial would exceed budget.gpu_hours=1"
    assert metered.must_stop() is None
    now[0] = 1800.0
    assert metered.must_stop() == "budget.gpu_hours=1 is spent"


@pytest.mark.slow
def test_a_budget_refuses_shrinks_and_divides(project):
    tiny = ["method=softmax", "study=b", "cluster.workers=1", *project.tiny]
    refused = project.run(*tiny, "seeds=4", "budget.gpu_hours=0.0001", status=2)
    assert (
        "which exceeds budget.gpu_hours=0.0001: not even one of its 4 seeds would fit; raise the budget." in refused.err
    )
    assert not project.tables.exists()
    cut = project.run("--dry-run", *tiny, "seeds=400", "budget.deadline=60s", "budget.shrink=true")
    assert "budget.shrink cut the study from 400 to " in cut.out
    equal = ["--search", "study=e", "search.trials=9", "cluster.workers=1", "budget.equal=true", "budget.gpu_hours=1"]
    assert "study e: 9 trials, 9 new" in project.run(*equal, *project.tiny).out
    took, rows = Counter(), project.read("trials")
    for row in rows:
        took[row["method"]] += row["seconds"]
    assert set(took) == {"softmax", "triplet", "mul_dml"}
    assert max(took.values()) - min(took.values()) <= max(row["seconds"] for row in rows)


@pytest.mark.slow
def test_a_study_that_its_budget_ends_says_what_is_left_and_is_resumed_with_a_larger_one(project):
    """The forecast is far too low, since the like trial that it knows took next to no time."""
    times = {"seconds": 0.0011, "setup_seconds": 0.001, "epochs": 1, "epochs_planned": 1, "train_images": 14}
    like = {"method": "triplet", "image_size": 16, "batch_size": 32, "device": device_name("cpu"), "threads": 1}
    config = json.dumps({"backbone": "resnet18"})
    known = {"trial_key": "k", "status": "done", "config": config, "ended_at": datetime.now(UTC)}
    Store(project.tables).commit("k", {"trials": [known | like | times]})
    study = ["method=triplet", "seeds=4", "study=b", "cluster.workers=1", *project.tiny, "epochs=20"]
    out = project.run(*study, "budget.gpu_hours=0.0037", status=1).out
    done = {row["trial_key"] for row in project.read("trials")} - {"k"}
    assert len(done) < 8, "the budget did not end it"
    reason = r"(budget.gpu_hours=0.0037 is spent|another trial would exceed budget.gpu_hours=0.0037)"
    assert re.search(f"left    {8 - len(done)} of 8 trials: {reason}. Go on with a larger budget: .* --resume b", out)
    assert out.strip().endswith(f"study b: 8 trials, {len(done)} new, best {out.split()[-1]}")
    assert all(row["status"] == "done" for row in project.read("trials")), "what is cut off is not committed"
    again = project.run("--resume", "b", *project.places, status=2).err
    assert "which exceeds budget.gpu_hours=0.0037: the seeds of a stored study are fixed; raise the budget" in again
    resumed = project.run("--resume", "b", *project.places, "budget.gpu_hours=1").out
    assert f"study b: 8 trials, {8 - len(done)} new" in resumed
    assert "left" not in resumed
