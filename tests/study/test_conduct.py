"""What is prepared before a study runs."""

import pytest

from results import Store
from study import conduct, plan


@pytest.mark.parametrize("kind", ["method", "search"])
def test_what_all_trials_share_is_found_once(kind, tiny_config, tmp_path, monkeypatch):
    """It opens every data set that the networks are judged on."""
    asked = []
    fields = plan.shared_fields
    monkeypatch.setattr(plan, "shared_fields", lambda *given: asked.append(given) or fields(*given))
    study = conduct.prepare(tiny_config(kind=kind), Store(tmp_path))
    assert len(asked) == 1
    assert study.size == (study.config["search"]["trials"] if kind == "search" else 2)
