"""What is prepared before a study runs."""

import json

import pytest

from results import Store
from study import conduct, plan
from study.config import completed


@pytest.mark.parametrize("kind", ["method", "search"])
def test_what_all_trials_share_is_found_once(kind, tiny_config, tmp_path, monkeypatch):
    """It opens every data set that the networks are judged on."""
    asked = []
    fields = plan.shared_fields
    monkeypatch.setattr(plan, "shared_fields", lambda *given: asked.append(given) or fields(*given))
    study = conduct.prepare(tiny_config(kind=kind), Store(tmp_path))
    assert len(asked) == 1
    assert study.size == (study.config["search"]["trials"] if kind == "search" else 2)


def test_a_study_that_is_gone_on_with_has_its_arms_in_their_order(tiny_config, tmp_path):
    """The order of its rows in the table, where the baseline comes first."""
    store = Store(tmp_path)
    study = conduct.prepare(tiny_config(kind="ablation", ablation="loss_form"), store)
    conduct.register(study)
    [row] = store.read("studies").to_pylist()
    again = conduct.prepare(completed(json.loads(row["config"])), store)
    assert [member.spec.arm for member in again.members] == [member.spec.arm for member in study.members]
    assert again.members == study.members
