import hashlib
from dataclasses import asdict, fields, replace

import pytest

from study.errors import StudyError
from study.spec import TrialSpec, numerics_version, option_files, resolved_options, weights_digest

SPEC = TrialSpec(
    study="a-study",
    arm="an-arm",
    method="triplet",
    options=resolved_options("triplet", {"thresholds": [0.45]}),
    dataset={"name": "folder", "root": "/faces"},
    fingerprint="f" * 64,
    image_size=64,
    channels=3,
    fold=0,
    folds=5,
    fold_rule="contiguous",
    validation_fraction=0.1,
    seed=0,
    protocol="sealed",
    search=None,
    epochs=25,
    batch_size=32,
    learning_rate=0.001,
    schedule="cosine",
    sampler="shuffle",
    augmentation="light",
    backbone="resnet18",
    weights=None,
    weights_digest=None,
    numerics="1.1",
)
OTHER = {
    "method": "softmax", "options": {"thresholds": [0.5]}, "fingerprint": "0", "image_size": 48, "channels": 1, "fold": 1, "folds": 4,
    "fold_rule": "balanced", "validation_fraction": 0.2, "seed": 1, "protocol": "paper", "search": "s", "epochs": 26, "batch_size": 16,
    "learning_rate": 0.002, "schedule": "constant", "sampler": "balanced", "augmentation": "paper", "backbone": "other",
    "weights_digest": "1", "numerics": "1.2", "optimizer": "sgd", "evaluation": {"tsne": True},
    "option_files": {"vgg_weights": "1"},
}  # fmt: skip
OUTSIDE = {"study": "b", "arm": "b", "dataset": {"name": "folder", "root": "/elsewhere"}, "weights": "/moved.pt"}


def test_the_key_is_that_of_the_first_release():
    """A changed key would train every stored trial again: it may change only on purpose."""
    assert SPEC.key == "77b6807eadb8257f1aceeb4320c2526c"


def test_what_later_versions_added_changes_the_key_only_where_it_is_used():
    assert SPEC.options["linear_classifier"] is False
    earlier = {name: value for name, value in SPEC.options.items() if name != "linear_classifier"}
    assert replace(SPEC, options=earlier).key == SPEC.key
    assert replace(SPEC, options=earlier | {"linear_classifier": True}).key != SPEC.key


def test_another_data_set_counts_by_its_content_not_by_its_place():
    here, moved, changed = (
        replace(
            SPEC, evaluation={"transfer": [{"dataset": {"name": "folder", "root": root}, "fingerprint": digits}]}
        ).key
        for root, digits in (("/here", "1"), ("/moved", "1"), ("/here", "2"))
    )
    assert here == moved
    assert len({SPEC.key, here, changed}) == 3


def test_json_round_trip():
    assert TrialSpec.parse(SPEC.json()) == SPEC


def test_every_field_is_either_content_or_not():
    assert {field.name for field in fields(TrialSpec)} == set(OTHER) | set(OUTSIDE)


@pytest.mark.parametrize("name", OTHER)
def test_content_changes_the_key(name):
    assert replace(SPEC, **{name: OTHER[name]}).key != SPEC.key


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_and_places_do_not_change_the_key(name):
    assert replace(SPEC, **{name: OUTSIDE[name]}).key == SPEC.key


def test_the_order_of_options_does_not_change_the_key():
    turned = replace(SPEC, options=dict(reversed(SPEC.options.items())))
    assert list(turned.options) != list(SPEC.options)
    assert turned.key == SPEC.key


def test_evenly_spaced_thresholds_are_written_out():
    even = resolved_options("mul_dml", {"slices": 4})
    assert even["thresholds"] == [0.15, 0.35, 0.55, 0.75]
    assert even == resolved_options("mul_dml", {"slices": 4, "thresholds": [0.15, 0.35, 0.55, 0.75]})


def test_the_recipe_is_read_from_the_spec():
    assert asdict(SPEC.recipe()).items() <= asdict(SPEC).items()


def test_numerics_name_the_loop_and_the_method():
    assert numerics_version("mul_dml").count(".") == 1


def test_weights_count_by_content(tmp_path):
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    assert weights_digest(str(first)) == weights_digest(str(second))
    second.write_bytes(b"others")
    assert weights_digest(str(first)) != weights_digest(str(second))


def test_files_that_options_name_count_by_content(tmp_path):
    file = tmp_path / "vgg.pt"
    digests = []
    for content in (b"weights", b"others!!"):
        file.write_bytes(content)
        digests.append(option_files(resolved_options("idferm", {"vgg_weights": str(file)}))["vgg_weights"])
    assert digests == [hashlib.sha256(content).hexdigest() for content in (b"weights", b"others!!")]
    assert option_files(resolved_options("idferm", {})) == {}
    with pytest.raises(StudyError, match=r"method\.vgg_weights"):
        resolved_options("idferm", {"vgg_weights": str(tmp_path / "none.pt")})
