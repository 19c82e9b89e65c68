"""The ablations that come with the project say what their names promise."""

import typing

import pytest

from mdml.methods import method_class, method_names
from study import plan
from study.config import CONF, load
from study.spec import resolved_options

ABLATIONS = sorted(file.stem for file in (CONF / "ablation").glob("*.yaml"))


def arms(name):
    return plan.arms(load([], name) | {"kind": "ablation"})


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_arm_is_a_configuration_of_its_own(name):
    ablation, found = load([], name)["ablation"], arms(name)
    assert ablation["name"] == name
    assert ablation["baseline"] in {arm.name for arm in found}
    assert len({(arm.method, str(sorted(arm.options.items()))) for arm in found}) == len(found)


@pytest.mark.parametrize("name", method_names())
def test_all_methods_compares_every_form_of_every_method_at_its_defaults(name):
    """Arms called light have another weight beside."""
    hint = typing.get_type_hints(method_class(name)).get("form")
    forms = [{}] if hint is None else [{"form": form} for form in typing.get_args(hint)]
    found = [arm.options for arm in arms("all_methods") if arm.method == name and not arm.name.endswith("-light")]
    expected = [resolved_options(name, form) for form in forms]
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert resolved_options(name, {}) in expected


def test_the_generators_of_all_methods_can_be_made_smaller():
    """As the file says; the arms list these options only so that they can be given."""
    smaller = [
        f"ablation.arms.idferm-{form}.{option}"
        for form in ("adaptive", "fixed")
        for option in ("hng_width=24", "hng_epochs=50")
    ]
    found = plan.arms(load(smaller, "all_methods") | {"kind": "ablation"})
    options = [arm.options for arm in found if arm.method == "idferm"]
    assert [(option["hng_width"], option["hng_epochs"]) for option in options] == [(24, 50)] * 2
