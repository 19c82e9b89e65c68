"""The protocol `sealed`, seen from the test fold: whatever stands there, no method learns from it or is chosen by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mdml.methods import method_names
from study import plan
from study.trial import Faces, Trial, use_device

CODE = {"git_commit": "c", "git_dirty": False}
# A generator that has hardly learnt, and a second level of sub-classes.
OPTIONS = {"idferm": ["method.hng_epochs=1", "method.hng_width=4"], "dgms": ["epochs=2"]}
# What the clock and the machine say.
VOLATILE = {
    *("seconds", "training_seconds", "setup_seconds", "images_per_second", "started_at", "ended_at"),
    "peak_memory_bytes",
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def spoiled(faces, test):
    """The same faces, but noise for pixels and wrong labels in the test fold; they pass for the set that was planned."""
    generator, images, labels = np.random.default_rng(0), faces.images.copy(), faces.labels.copy()
    images[test] = generator.integers(0, 256, images[test].shape, np.uint8)
    labels[test] = (labels[test] + generator.integers(1, len(faces.classes), len(test))) % len(faces.classes)
    return replace(faces, images=images, labels=labels)


def run(spec, faces):
    """A trial that is done, its epoch records, and its rows by table."""
    trial = Trial(spec, Faces(faces, use_device(1, cuda=False)), CODE, lambda row: None)
    records = [repeatable(record) for record in trial.run()]
    return trial, records, {name: [repeatable(row) for row in rows] for name, rows in trial.finish().items()}


def repeatable(row):
    """What a repetition gives bit for bit, as text, in which a number that is none equals itself."""
    return {name: repr(value) for name, value in row.items() if name not in VOLATILE}


@pytest.mark.parametrize("name", method_names())
def test_nothing_but_the_test_rows_depends_on_the_test_fold(name, tiny_config):
    overrides = ["epochs=1", "dataset.per_class=2", "batch_size=28", *OPTIONS.get(name, [])]
    config = tiny_config(f"method={name}", *overrides)
    faces = plan.open_faces(config)
    spec = plan.members(config, faces, "s")[0].spec
    trial, records, tables = run(spec, faces)
    again, spoiled_records, spoiled_tables = run(spec, spoiled(faces, trial.split.test))

    assert (spec.protocol, len(trial.split.validation) > 0) == ("sealed", True)
    assert records == spoiled_records
    learnt = again.network.state_dict()
    assert all(torch.equal(part, learnt[of]) for of, part in trial.network.state_dict().items())
    (row,), (spoiled_row,) = tables.pop("trials"), spoiled_tables.pop("trials")
    changed = {column for column in row if row[column] != spoiled_row[column]}
    assert changed, "noise under wrong labels is judged as the faces are"
    assert all(column.startswith("test_") for column in changed)
    assert tables.pop("predictions") != spoiled_tables.pop("predictions")
    for found in (tables, spoiled_tables):
        for rows in found.values():
            rows[:] = [row for row in rows if row.get("split") != "'test'"]
    assert {"epochs", "confusion", "neighbours", "distances"} <= {table for table, rows in tables.items() if rows}
    assert tables == spoiled_tables
