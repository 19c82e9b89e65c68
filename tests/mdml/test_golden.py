"""Numbers change only together with their version."""

import pytest

from mdml.methods import method_names
from tests.mdml import golden

DO = "then run `python -m tests.mdml.golden`"


def test_every_method_has_its_golden_trial_and_no_other():
    assert sorted(golden.read()) == method_names(), f"A method came or went: {DO[5:]}."


@pytest.mark.parametrize("name", method_names())
def test_numbers_change_only_together_with_their_version(name):
    kept = golden.read()[name]
    assert kept["versions"] == golden.versions(name), f"golden.json is of other versions of {name}: {DO[5:]}."
    found = golden.trial(name)
    names = golden.moved(kept["metrics"], found, golden.WIDER.get(name, golden.TOLERANCE))
    moved = {key: (kept["metrics"].get(key), found.get(key)) for key in names}
    assert not moved, (
        f"The numbers of {name} changed. If that is meant, raise `numerics` of the method, or mdml.train.NUMERICS "
        f"where all methods changed, so that older results are not reused, {DO}."
    )


def test_what_counts_as_moved():
    kept = {"a": 1.0, "b": None, "c": 0.0}
    assert golden.moved(kept, {"a": 1.00009, "b": None, "c": 1e-7}) == []
    assert golden.moved(kept, {"a": 1.0002, "b": 0.0, "c": 1e-5}) == ["a", "b", "c"]
    assert golden.moved(kept, {"a": 1.0, "b": None, "d": 0.0}) == ["c", "d"]


def test_regeneration_refuses_numbers_that_moved_under_their_version(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "FILE", tmp_path / "golden.json")
    numbers = {"loss": 1.0}
    monkeypatch.setattr(golden, "trial", lambda name: dict(numbers))
    assert golden.main() == 0
    written = golden.FILE.read_text()
    numbers["score"] = 0.5
    assert golden.main() == 0, "a new score is no change of the old ones"
    written = golden.FILE.read_text()
    numbers["loss"] = 1.1
    assert "raise its `numerics`" in str(golden.main())
    assert golden.FILE.read_text() == written
    monkeypatch.setattr(golden, "versions", lambda name: {"numerics": 2, "NUMERICS": 1})
    assert golden.main() == 0
    assert golden.read()["softmax"] == {
        "versions": {"numerics": 2, "NUMERICS": 1},
        "metrics": {"loss": 1.1, "score": 0.5},
    }
