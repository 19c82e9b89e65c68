"""The ablations that come with the project say what their names promise."""

import re
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
    assert len({(arm.method, str(sorted(arm.options.items())), str(sorted(arm.own.items()))) for arm in found}) == len(
        found
    )


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
    """By the small generator in the head of method/idferm.yaml; the arms list its options only so that they can be given."""
    head = (CONF / "method" / "idferm.yaml").read_text().partition("\nname:")[0]
    recipe = dict(re.findall(r"method\.(\w+)=([\d.]+)", head))
    assert {"hng_width", "hng_epochs"} < set(recipe)
    smaller = [
        f"ablation.arms.idferm-{form}.{option}={value}"
        for form in ("adaptive", "fixed")
        for option, value in recipe.items()
    ]
    found = plan.arms(load(smaller, "all_methods") | {"kind": "ablation"})
    options = [arm.options for arm in found if arm.method == "idferm"]
    assert [{option: arm[option] for option in recipe} for arm in options] == [
        {option: float(value) for option, value in recipe.items()}
    ] * 2
