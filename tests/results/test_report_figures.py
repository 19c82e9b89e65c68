import re

import pytest

from results.page import page
from results.page.curves import band
from results.page.found import Found
from results.page.importances import importances
from results.page.svg import Scale, bounds
from results.stats import mean_interval
from tests.results.fakes import START, fake_ablation, fake_trial
from tests.results.outline import Outline, section


def fake_thresholds(store, study="tau"):
    """Three arms of one threshold, in two forms, arms of 1, 4 and 7 slices, and a baseline with neither."""
    arms = {"softmax": ("softmax", None, [], 1)}
    arms |= {
        f"{form}-{tau}": ("triplet", form, [tau], 1) for form in ("dual", "conventional") for tau in (0.15, 0.45, 0.75)
    }
    arms |= {f"mul_dml-{k}": ("mul_dml", "dual", [0.1 * (i + 1) for i in range(k)], k) for k in (4, 7)}
    members = []
    for place, (arm, (method, form, thresholds, slices)) in enumerate(arms.items()):
        for fold in range(3):
            key = f"{study}-{place}-{fold}"
            changes = {"method": method, "form": form, "thresholds": thresholds, "slices": slices}
            trial = fake_trial(key, study=study, arm=arm, fold=fold, accuracy=0.6 + place / 40 + fold / 99, **changes)
            store.commit(key, trial)
            members.append(
                {"study": study, "arm": arm, "index": len(members), "fold": fold, "seed": 0, "trial_key": key}
            )
    store.write("members", study, members)
    row = {
        "study": study,
        "kind": "ablation",
        "ablation": "thresholds",
        "baseline": "softmax",
        "metric": "test_accuracy",
    }
    store.write("studies", study, [row | {"config": "{}", "overrides": [], "created_at": START}])


def test_arms_are_drawn_along_their_threshold_and_their_slices(store):
    fake_thresholds(store)
    text = page(store, "tau")
    threshold, slices = (
        Outline(re.search(f'<section id="{name}".*?</section>', text, re.DOTALL)[0]) for name in ("threshold", "slices")
    )
    assert "triplet, dual" in threshold.text
    assert "softmax (its mean)" in threshold.text
    assert "mul_dml-7 (its mean)" in threshold.text
    # Three thresholds in each of two forms, each with its mean in words.
    assert (
        len(
            [
                a
                for a in threshold.of("path")
                if a["class"].startswith("dot") and a["d"].startswith("M") and "aria" not in a
            ]
        )
        >= 6
    )
    assert "conventional-0.75: 0.760 [" in threshold.text
    # One slice of 64 dimensions, and 4 and 7 of them, in one line.
    assert "dual, 64 dimensions a slice" in slices.text
    assert "mul_dml-4" in slices.text


def test_the_band_of_the_curves_is_the_interval_of_the_table(store):
    fake_ablation(store)
    found = Found.read(store, "demo")
    curves = [((fold, seed), [(1, 0.1 * fold + 0.02 * seed)]) for fold in range(3) for seed in range(2)]
    [(epoch, *interval)] = band(found, curves)
    # Seeds are averaged first: 0.01, 0.11 and 0.21, with 50 test images and 160 training images.
    assert (epoch, interval) == (1, pytest.approx(mean_interval([0.01, 0.11, 0.21], 50 / 160)))


def test_what_shows_no_spread_has_no_band(store):
    """One trial, or trials that agree, do not say that nothing varies."""
    fake_ablation(store)
    found = Found.read(store, "demo")
    assert band(found, [((0, 0), [(1, 0.5)])]) == [(1, 0.5, None, None)]
    assert band(found, [((fold, 0), [(1, 0.25)]) for fold in range(3)]) == [(1, 0.25, None, None)]
    assert "no band where" not in page(store, "demo")
    fake_ablation(store, "one", folds=1, seeds=1)
    assert "no band where one trial (n = 1), or equal ones, show no spread" in section(page(store, "one"), "curves")
    assert 'class="band' not in re.search('<section id="curves".*?</section>', page(store, "one"), re.DOTALL)[0]


def test_confusion_is_added_up_and_shared_out_by_row(store):
    fake_ablation(store, folds=2, seeds=2)
    text = section(page(store, "demo"), "confusion")
    # 4 trials of 10 right and 3 + 3 wrong of each class.
    assert "62% 40" in text
    assert "19% 12" in text
    assert "test images of 4 trials" in text


def test_importances_find_what_mattered_and_are_the_same_each_time():
    parameters = [{"rate": i / 40, "form": "ab"[i % 2], "noise": (i * 7) % 40} for i in range(40)]
    values = [one["rate"] ** 2 + 0.1 * (one["form"] == "a") for one in parameters]
    found = importances(parameters, values)
    assert found == importances(parameters, values)
    shares = {name: mean for name, mean, _ in found.shares}
    assert next(iter(shares)) == "rate"
    assert shares["rate"] > 0.5
    assert abs(shares["noise"]) < 0.1
    assert found.r2 > 0.7
    assert importances([{"a": 1}] * 12, list(range(12))).shares == []


def test_scales():
    assert Scale(0, 1, 10, 110)(0.25) == 35
    assert Scale(0, 1, 10, 110)(7) == 110
    assert Scale(0.001, 0.1, 0, 2, log=True)(0.01) == pytest.approx(1)
    assert Scale(0, 1, 0, 1).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(0.0003, 0.003, 0, 1, log=True).ticks() == [0.0003, 0.001, 0.003]
    assert Scale(3, 3, 0, 1).ticks() == [3]
    assert bounds([0.1, 0.99], fraction=True)[1] == 1.0
    assert bounds([]) == (-0.06, 1.06)
    assert bounds([2.0, 2.0]) == (1.9, 2.1)
