"""Methods by name, their options, and the one sentence for what does not fit."""

import pytest

from mdml import MethodError
from mdml.methods import make_method, method_class, method_names
from mdml.methods.mul_dml import MulDML, even_thresholds
from mdml.methods.softmax import Softmax
from mdml.methods.triplet import Triplet


def test_names_and_classes():
    assert {"mul_dml", "softmax", "triplet"} <= set(method_names())
    assert method_names() == sorted(method_names())
    assert "base" not in method_names()
    assert [method_class(name) for name in ("mul_dml", "softmax", "triplet")] == [MulDML, Softmax, Triplet]


def test_defaults_are_the_papers():
    assert make_method("mul_dml", {}).layout == (7, 256, (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75), "dual")
    assert make_method("triplet", {}).layout == (1, 256, (0.45,), "conventional")
    assert make_method("softmax", {}).layout == (1, 256, (), None)
    method = make_method("mul_dml", {})
    assert isinstance(method, MulDML)
    assert (method.weight, method.dropout) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("slices", "thresholds"),
    [
        (2, (0.15, 0.75)),
        (4, (0.15, 0.35, 0.55, 0.75)),
        (7, (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75)),
        (13, (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)),
    ],
)
def test_even_thresholds_are_the_decimals_of_the_paper(slices, thresholds):
    assert even_thresholds(slices) == thresholds
    assert make_method("mul_dml", {"slices": slices}).layout.thresholds == thresholds


def test_listed_thresholds_become_floats_in_a_tuple():
    method = make_method("mul_dml", {"slices": 3, "thresholds": [0, 1, 0.5], "form": "conventional", "slice_dim": 8})
    assert all(type(threshold) is float for threshold in method.layout.thresholds)
    assert method.layout == (3, 8, (0.0, 1.0, 0.5), "conventional")
    assert method == make_method(
        "mul_dml", {"slices": 3, "thresholds": (0, 1, 0.5), "form": "conventional", "slice_dim": 8}
    )


def test_one_threshold_for_all_slices_and_none_for_even_ones():
    assert make_method("mul_dml", {"thresholds": [0.45] * 7}).layout.thresholds == (0.45,) * 7
    assert make_method("mul_dml", {"thresholds": None, "slices": 2}).layout.thresholds == (0.15, 0.75)


@pytest.mark.parametrize(("slices", "total", "width"), [(7, 1792, 256), (4, 256, 64), (1, 256, 256), (13, 13, 1)])
def test_total_dim_is_shared_by_the_slices(slices, total, width):
    thresholds = [0.45] * slices
    layout = make_method("mul_dml", {"slices": slices, "total_dim": total, "thresholds": thresholds}).layout
    assert (layout.slices, layout.width) == (slices, width)


@pytest.mark.parametrize("name", ["softmax", "triplet", "mul_dml"])
def test_methods_are_values(name):
    """Equal options make equal methods, which can be hashed and not changed: an arm is what its options say."""
    method = make_method(name, {"slice_dim": 64})
    assert method == make_method(name, {"slice_dim": 64}) != make_method(name, {"slice_dim": 32})
    assert hash(method) == hash(make_method(name, {"slice_dim": 64}))
    with pytest.raises(AttributeError):
        method.slice_dim = 3  # type: ignore[misc]


BAD = {
    "an unknown method names the nearest": ("tripplet", {}, r"found 'tripplet'\. Did you mean triplet\?"),
    "an unknown method lists all": (
        "zzz",
        {},
        r"Expected a method out of .*mul_dml.*softmax.*triplet.*, found 'zzz'\.$",
    ),
    "the base is no method": ("base", {}, r"found 'base'"),
    "no path": ("../methods/softmax", {}, r"found '\.\./methods/softmax'"),
    "an unknown option names the nearest": (
        "triplet",
        {"treshold": 1},
        r"no option 'treshold': .* Did you mean thresholds\?",
    ),
    "an option of another method": (
        "softmax",
        {"slices": 7},
        r"method softmax has no option 'slices': it has dropout, linear_classifier, slice_dim\.",
    ),
    "numerics is no option": ("softmax", {"numerics": 7}, r"no option 'numerics'"),
    "a word for a number": (
        "softmax",
        {"dropout": "half"},
        r"method\.dropout of softmax must be a number, found 'half'",
    ),
    "a fraction of a width": (
        "softmax",
        {"slice_dim": 25.5},
        r"method\.slice_dim of softmax must be an integer, found 25\.5",
    ),
    "null for a number": ("softmax", {"slice_dim": None}, r"must be an integer, found None"),
    "true for a number": ("softmax", {"dropout": True}, r"must be a number, found True"),
    "one number for a list": ("triplet", {"thresholds": 0.45}, r"must be a list of numbers or null, found 0\.45"),
    "words in a list": ("triplet", {"thresholds": ["a"]}, r"must be a list of numbers or null, found \['a'\]"),
    "true in a list": ("triplet", {"thresholds": [True]}, r"must be a list of numbers or null, found \[True\]"),
    "an unknown form": (
        "triplet",
        {"form": "duel"},
        r"method\.form of triplet must be 'conventional' or 'dual', found 'duel'",
    ),
    "too few thresholds": (
        "mul_dml",
        {"thresholds": [0.1, 0.2]},
        r"one threshold for each slice, that is 7, found 2: \[0\.1, 0\.2\]",
    ),
    "too many thresholds": ("triplet", {"thresholds": [0.1, 0.2]}, r"one threshold for each slice, that is 1, found 2"),
    "no thresholds": ("mul_dml", {"thresholds": []}, r"that is 7, found 0"),
    "triplet without a threshold": ("triplet", {"thresholds": None}, r"that is 1, found 0"),
    "one slice without a threshold": ("mul_dml", {"slices": 1}, r"One slice needs a threshold of its own"),
    "no slices": ("mul_dml", {"slices": 0}, r"method\.slices must be at least 1, found 0"),
    "a negative threshold": ("triplet", {"thresholds": [-0.1]}, r"must lie in \[0, 2\], .* found \[-0\.1\]"),
    "a threshold beyond 2": ("mul_dml", {"slices": 2, "thresholds": [0.1, 2.1]}, r"must lie in \[0, 2\]"),
    "a threshold that is no number": ("triplet", {"thresholds": [float("nan")]}, r"must lie in \[0, 2\]"),
    "a negative weight": ("triplet", {"weight": -1}, r"method\.weight must .*not .*negative, found -1"),
    "no width": ("softmax", {"slice_dim": 0}, r"method\.slice_dim must be at least 1, found 0"),
    "dropping everything": ("softmax", {"dropout": 1.0}, r"method\.dropout must be in \[0, 1\), found 1\.0"),
    "a dropout that is no number": ("softmax", {"dropout": float("nan")}, r"method\.dropout must be in \[0, 1\)"),
    "a total that the slices do not share": (
        "mul_dml",
        {"total_dim": 256},
        r"multiple of the 7 slices, found 256; 259 is one",
    ),
    "a total below the slices": ("mul_dml", {"total_dim": 3}, r"multiple of the 7 slices, found 3; 7 is one"),
    "a total of nothing": ("mul_dml", {"total_dim": 0}, r"multiple of the 7 slices, found 0; 7 is one"),
}
# Accepted without a word; each is to be refused.
GAPS = {
    "true for an integer": ("softmax", {"slice_dim": True}, r"must be an integer, found True"),
    "a weight that is no number": ("triplet", {"weight": float("nan")}, r"method\.weight"),
    "a weight without end": ("triplet", {"weight": float("inf")}, r"method\.weight"),
}


@pytest.mark.parametrize(("name", "options", "message"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused(name, options, message):
    with pytest.raises(MethodError, match=message):
        make_method(name, options)


@pytest.mark.parametrize(("name", "options", "message"), GAPS.values(), ids=GAPS)
def test_gaps(name, options, message):
    with pytest.raises(MethodError, match=message):
        make_method(name, options)
