"""A trial without Ray."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from results import Store
from study import plan
from study.errors import StudyError
from tests.study import working

pytestmark = pytest.mark.usefixtures("torch_settings")


@pytest.fixture
def begin(tiny_config):
    """A trial of a configuration, with the audit rows that it writes."""

    def make(*overrides, search=None, **changes):
        config, audits = tiny_config(*overrides), []
        spec = working.spec_of(config, search=search, **changes)
        return working.trial(spec, plan.open_faces(config), audits.append), audits

    return make


def test_the_rows_of_a_done_trial_agree_with_each_other(begin):
    trial, audits = begin("method=mul_dml", "method.slices=4")
    records = list(trial.run())
    assert audits == [], "the test fold was opened before the training was over"
    tables = trial.finish()
    row = tables["trials"][0]
    assert len(audits) == 1
    assert (row["status"], row["epochs"], row["slices"], row["embedding_dim"]) == ("done", 2, 4, 1024)
    assert row["thresholds"] == [0.15, 0.35, 0.55, 0.75]
    right = [prediction["predicted"] == prediction["label"] for prediction in tables["predictions"]]
    assert row["test_accuracy"] == pytest.approx(sum(right) / len(right))
    assert len(right) == row["test_images"] == len(trial.split.test)
    diagonal = sum(
        cell["count"] for cell in tables["confusion"] if cell["split"] == "test" and cell["truth"] == cell["predicted"]
    )
    assert diagonal == sum(right)
    assert {prediction["subject"] for prediction in tables["predictions"]}.isdisjoint(
        trial.faces.set.subjects[trial.split.train].tolist() + trial.faces.set.subjects[trial.split.validation].tolist()
    )
    assert [epoch["train_loss"] for epoch in tables["epochs"]] == [record["train_loss"] for record in records]
    assert len(tables["slices"]) == 2 * 4
    assert ["knn_accuracy" in slice_ for slice_ in tables["slices"]] == [False] * 4 + [True] * 4


def test_a_trial_of_a_search_never_opens_the_test_fold(begin):
    trial, audits = begin(search="s")
    list(trial.run())
    tables = trial.finish()
    assert audits == []
    assert not any(name.startswith("test_") and name != "test_images" for name in tables["trials"][0])
    assert not set(tables) & {"predictions", "embedding", "probe", "transfers"}
    for table in ("confusion", "classes", "neighbours"):
        assert {row["split"] for row in tables[table]} == {"validation"}
    assert {row["split"] for row in tables["distances"]} == {"train", "validation"}


def test_the_protocol_paper_keeps_the_best_epoch_on_the_test_fold(begin):
    trial, audits = begin("protocol=paper", "epochs=4", "learning_rate=0.01")
    records = trial.run()
    first = next(records)
    assert len(audits) == 1, "the audit comes before the first look"
    accuracies = [record["test_accuracy"] for record in [first, *records]]
    tables = trial.finish()
    row = tables["trials"][0]
    assert row["test_accuracy"] == max(accuracies)
    assert row["best_epoch"] == max(epoch for epoch, value in enumerate(accuracies, 1) if value == max(accuracies))
    assert [epoch["test_accuracy"] for epoch in tables["epochs"]] == accuracies
    assert row["validation_images"] == 0


def test_a_data_set_that_changed_is_refused(begin, tiny_config):
    config = tiny_config()
    spec = working.spec_of(config, fingerprint="0" * 64)
    with pytest.raises(StudyError, match="has changed since the study was planned"):
        working.trial(spec, plan.open_faces(config), print)


_FRESH = """
import json, sys, warnings
sys.path.insert(0, {root!r})
from study.worker import Worker
worker = Worker.__new__(Worker)
config, context = json.loads(sys.stdin.read())
worker.setup(config, context)
while not worker.step().get("done"):
    pass
"""


def test_a_trial_run_second_in_a_warm_worker_equals_the_same_run_first_in_a_fresh_one(tiny_config, tmp_path):
    config = tiny_config("method=mul_dml", "method.slices=3")
    member = plan.members(config, plan.open_faces(config), "s")[0]
    other = replace(member.spec, method="softmax", options={}, seed=3, learning_rate=0.01)
    warm = working.worker(other, config, tmp_path / "warm")
    working.results(warm)
    assert warm.reset_config(working.asked(member.spec))
    working.results(warm)

    root = str(Path(__file__).resolve().parents[2])
    message = json.dumps([working.asked(member.spec), working.context(config, tmp_path / "fresh")])
    subprocess.run([sys.executable, "-c", _FRESH.format(root=root)], input=message, text=True, check=True, timeout=120)

    assert numbers(tmp_path / "warm", member.spec.key) == numbers(tmp_path / "fresh", member.spec.key)


def numbers(root, key):
    """Every number of a trial that is no time, place or memory."""
    store = Store(root)
    volatile = {"seconds", "setup_seconds", "images_per_second", "peak_memory_bytes", "started_at", "ended_at"}
    rows = {}
    for table in ("trials", "epochs", "slices", "confusion", "predictions"):
        found = [row for row in store.read(table).to_pylist() if row["trial_key"] == key]
        assert found
        rows[table] = sorted(
            json.dumps({name: row[name] for name in row if name not in volatile}, default=str) for row in found
        )
    return rows


def test_an_error_of_the_trial_is_a_failed_row_and_the_worker_goes_on(tiny_config, tmp_path):
    config = tiny_config("method=triplet")
    spec = working.spec_of(config)
    broken = replace(spec, learning_rate=1e30)
    worker = working.worker(broken, config, tmp_path)
    assert working.results(worker)[-1]["committed"] == "failed"
    worker.reset_config(working.asked(spec))
    working.results(worker)
    rows = {row["trial_key"]: row for row in Store(tmp_path).read("trials").to_pylist()}
    assert rows[broken.key]["status"] == "failed"
    assert "not finite" in rows[broken.key]["error"]
    assert rows[spec.key]["status"] == "done"
