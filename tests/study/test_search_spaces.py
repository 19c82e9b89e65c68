"""The default search has a space for every method, and every corner of it can be trained."""

from itertools import product

import pytest

from mdml.methods import make_method, method_names
from study.config import load
from study.space import Space

SPACES = load([])["search"]["space"]


def ends(entry):
    """All choices, or both ends of a range; of a list of ranges, every combination."""
    if isinstance(entry, dict):
        return [entry["low"], entry["high"]]
    if all(isinstance(item, dict) for item in entry):
        return [list(corner) for corner in product(*map(ends, entry))]
    return entry


def test_there_is_a_space_for_every_method_and_for_nothing_else():
    assert set(SPACES) == {"common", *method_names()}


@pytest.mark.parametrize("name", method_names())
def test_every_corner_of_a_space_is_a_configuration(name):
    space = SPACES[name]
    for corner in product(*map(ends, space.values())):
        make_method(name, dict(zip(space, corner, strict=True)))


@pytest.mark.parametrize("name", method_names())
def test_a_method_is_searched_alone_in_its_own_space(name):
    space = Space(load([f"method={name}"]) | {"kind": "search"})
    assert space.methods == [name]
    assert space.open == {name: SPACES[name]}
    assert set(space.common) == {"learning_rate"}


@pytest.mark.parametrize("name", method_names())
def test_a_space_is_about_the_defaults(name):
    """Whoever searches finds what the papers use: the default of an option lies in its range or among its choices."""
    defaults = make_method(name, {})
    for option, entry in SPACES[name].items():
        value = getattr(defaults, option)
        pairs = zip(entry, value, strict=True) if isinstance(value, tuple) else [(entry, value)]
        for part, default in pairs:
            if default is not None:  # decided by another option
                assert part["low"] <= default <= part["high"] if isinstance(part, dict) else default in part, option
