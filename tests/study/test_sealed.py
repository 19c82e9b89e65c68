"""The protocol `sealed`, seen from the test fold: whatever stands there, no method learns from it or is chosen by it."""

import gc
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdml.methods import method_names
from study import plan
from study.faces import Faces
from study.trial import Trial, use_device
from tests.study import working

pytestmark = pytest.mark.usefixtures("torch_settings")
# A generator that has hardly learnt, and a second level of sub-classes.
OPTIONS = {"idferm": ["method.hng_epochs=1", "method.hng_width=4"], "dgms": ["epochs=2"]}


def spoiled(faces, test):
    """The same faces, but noise for pixels and wrong labels in the test fold; they pass for the set that was planned."""
    generator, images, labels = np.random.default_rng(0), faces.images.copy(), faces.labels.copy()
    images[test] = generator.integers(0, 256, images[test].shape, np.uint8)
    labels[test] = (labels[test] + generator.integers(1, len(faces.classes), len(test))) % len(faces.classes)
    return replace(faces, images=images, labels=labels)


def run(spec, faces):
    """A trial that is done, its epoch records, and its rows by table."""
    trial = working.trial(spec, faces)
    records = [repeatable(record) for record in trial.run()]
    return trial, records, {name: [repeatable(row) for row in rows] for name, rows in trial.finish().items()}


def repeatable(row):
    """What a repetition gives bit for bit, as text, in which a number that is none equals itself."""
    return {name: repr(value) for name, value in row.items() if name not in working.MEASURED}


@pytest.mark.parametrize("name", method_names())
def test_nothing_but_the_test_rows_depends_on_the_test_fold(name, tiny_config):
    overrides = ["epochs=1", "dataset.per_class=2", "batch_size=28", *OPTIONS.get(name, [])]
    config = tiny_config(f"method={name}", *overrides)
    faces = plan.open_faces(config)
    spec = working.spec_of(config)
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


def hidden(trial, arrays, source):
    """Whether no array says what an image of the test fold shows, or all labels of the test fold."""
    test, count = trial.split.test, len(source)
    pixels = source.images[test]
    tall = [
        np.asarray(array)
        for array in arrays
        if array.ndim in (1, 4) and len(array) == count and str(array.dtype).endswith(("uint8", "int64"))
    ]
    images = [
        array if array.shape[1:] == source.images.shape[1:] else array.transpose(0, 2, 3, 1)
        for array in tall
        if array.ndim == 4
    ]
    labels = [array for array in tall if array.ndim == 1]
    assert images, "no images were found"
    assert labels, "no labels were found"
    return not any((array[test] == pixels).all((1, 2, 3)).any() for array in images) and not any(
        np.array_equal(array[test], source.labels[test]) for array in labels
    )


def reachable(root, closed):
    """Every array and tensor that can be reached from `root` by attributes, items, closures and frames, but not through `closed`."""
    arrays, seen, left = [], {id(one) for one in closed}, [root]
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType, str, bytes)):
            continue
        seen.add(id(thing))
        if isinstance(thing, (np.ndarray, torch.Tensor)):
            arrays.append(thing)
        elif isinstance(thing, types.FunctionType):
            # Not its globals, which reach all that the process ever imported.
            left += [cell.cell_contents for cell in thing.__closure__ or ()]
        else:
            left += gc.get_referents(thing)
    return arrays


@pytest.mark.parametrize("name", ["mul_dml", "rml", "dgms"])
def test_no_way_leads_to_the_test_fold_before_its_audit_row(name, tiny_config):
    config = tiny_config(f"method={name}", "epochs=2", "dataset.per_class=2", "batch_size=28")
    source = plan.open_faces(config)
    spec = working.spec_of(config)
    audited = []

    def audit(row):
        audited.append(hidden(trial, reachable([trial, records], [source]), source))

    faces = Faces(source, use_device(1, cuda=False))
    trial = Trial(spec, faces, working.CODE, audit)
    records = trial.run()
    for _ in records:
        assert hidden(trial, reachable([trial, records], [source]), source)
    assert not audited
    trial.finish()
    assert audited == [True]
    assert not hidden(trial, [faces.images, faces.labels], source)
    np.testing.assert_array_equal(faces.set.images, source.images)
    np.testing.assert_array_equal(faces.set.labels, source.labels)
    np.testing.assert_array_equal(faces.labels, source.labels)


def test_a_search_never_opens_the_test_fold(tiny_config):
    config = tiny_config("method=softmax", "epochs=1")
    source = plan.open_faces(config)
    trial = working.trial(working.spec_of(config, search="s"), source, lambda row: pytest.fail("it was opened"))
    list(trial.run())
    trial.finish()
    assert hidden(trial, reachable([trial], [source]), source)


def test_the_next_trial_seals_its_own_fold(tiny_config):
    config = tiny_config("method=softmax", "epochs=1")
    source = plan.open_faces(config)
    specs = [member.spec for member in plan.members(config, source, "s")]
    faces = Faces(source, use_device(1, cuda=False))
    first, second = (Trial(spec, faces, working.CODE, lambda row: None) for spec in specs[:2])
    assert first.split.test.tolist() != second.split.test.tolist()
    sealed = np.flatnonzero(faces.set.labels == -1)
    np.testing.assert_array_equal(sealed, second.split.test)
    np.testing.assert_array_equal(faces.set.images[first.split.test], source.images[first.split.test])
