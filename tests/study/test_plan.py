import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from datasets import DatasetError
from mdml import MethodError
from study import plan
from study.config import ADDED_SETTINGS, load
from study.errors import StudyError
from tests.datasets.miniatures import fer2013


def test_complete_replications_come_first(tiny_config):
    config = tiny_config("seeds=2", kind="ablation", ablation="loss_form")
    members = plan.members(config, plan.open_faces(config), "s")
    arms = list(config["ablation"]["arms"])
    assert [member.index for member in members] == list(range(10 * 2 * 2))
    assert [member.spec.arm for member in members] == arms * 4
    assert [(member.spec.seed, member.spec.fold) for member in members[:: len(arms)]] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]


def test_the_arms_of_loss_form(tiny_config):
    arms = {arm.name: arm for arm in plan.arms(tiny_config(kind="ablation", ablation="loss_form"))}
    assert arms["triplet-0.75-dual"].options["thresholds"] == [0.75]
    assert arms["triplet-0.75-dual"].options["form"] == "dual"
    assert arms["mul_dml-7-dual"].options["thresholds"] == [0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75]
    assert arms["same-0.45-7-dual"].options["thresholds"] == [0.45] * 7
    assert {arm.options["slice_dim"] for arm in arms.values()} == {256}


def test_what_is_committed_or_planned_twice_is_not_missing(tiny_config):
    config = tiny_config()
    members = plan.members(config, plan.open_faces(config), "s")
    assert plan.missing([*members, *members], {members[0].spec.key}) == members[1:]


def test_the_same_configuration_finds_the_same_study(tiny_config):
    faces = plan.open_faces(tiny_config())
    name = plan.study_name(tiny_config(), faces)
    assert plan.study_name(tiny_config("cluster.workers=1", "storage.root=elsewhere"), faces) == name
    assert plan.study_name(tiny_config("epochs=3"), faces) != name
    assert plan.study_name(tiny_config("study=mine"), faces) == "mine"


def test_a_longer_search_is_the_same_search_and_a_fixed_option_another(tiny_config):
    faces = plan.open_faces(tiny_config())
    name = plan.study_name(tiny_config(kind="search"), faces)
    assert plan.study_name(tiny_config("search.trials=50", kind="search"), faces) == name
    assert plan.study_name(tiny_config("search.seed=1", kind="search"), faces) != name
    assert plan.study_name(tiny_config("method.slices=7", kind="search"), faces) != name


def test_arms_that_do_not_fit_are_all_named(tiny_config):
    config = tiny_config(kind="ablation", ablation="loss_form")
    config["ablation"]["arms"] = {
        "a": {"method": "triplt"},
        "b": {"method": "triplet", "slices": 3},
        "c": {"method": "softmax"},
    }
    with pytest.raises(StudyError) as caught:
        plan.arms(config)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["Arm a", "Arm b"]


def test_a_search_is_sealed(tiny_config):
    with pytest.raises(StudyError, match="always sealed"):
        plan.check(tiny_config("protocol=paper", kind="search"))
    with pytest.raises(StudyError, match="validation subjects"):
        plan.check(tiny_config("protocol.validation_fraction=0", kind="search"))


@pytest.mark.parametrize(
    "override", ["folds=1", "seeds=0", "cluster.workers=0", "cluster.cpus_per_trial=0", "cluster.gpus_per_trial=-1"]
)
def test_impossible_counts(tiny_config, override):
    with pytest.raises(StudyError, match=override.partition("=")[0]):
        plan.check(tiny_config(override))


@pytest.mark.parametrize(
    ("kind", "override"),
    [("search", "seeds=2"), ("ablation", "method.slices=3"), ("ablation", "search.trials=3"), ("method", "search=default"),
     ("method", "ablation=loss_form")],
)  # fmt: skip
def test_a_setting_without_effect_is_refused(tiny_config, kind, override):
    with pytest.raises(StudyError):
        plan.check(tiny_config(override, kind=kind, ablation="loss_form" if kind == "ablation" else None))


def test_a_fold_that_cannot_be(tiny_config):
    config = tiny_config("folds=9")
    with pytest.raises(DatasetError, match="9 folds"):
        plan.check_splits(config, plan.open_faces(config))
    with pytest.raises(StudyError, match=r"Expected fold_rule to be contiguous or .*, found 'random'"):
        plan.check(tiny_config("fold_rule=random"))
    with pytest.raises(DatasetError, match=r"4 folds, one for each subject.*found 2; leave folds out"):
        plan.check_splits(tiny_config("fold_rule=leave_one_out"), plan.open_faces(config))


def test_each_subject_is_a_fold(tiny_config):
    config = tiny_config("fold_rule=leave_one_out", "folds=null")
    faces = plan.open_faces(config)
    plan.check(config)
    plan.check_splits(config, faces)
    members = plan.members(config, faces, "s")
    assert [(member.spec.fold, member.spec.folds) for member in members] == [(fold, 4) for fold in range(4)]
    assert plan.notes(config, faces) == []


@pytest.fixture
def released(tiny_config):
    """A configuration of a set without identities, and its faces: two images of every class of four in each part."""

    def make(*overrides, kind="method"):
        config = tiny_config(kind=kind)
        faces, chosen = plan.open_faces(config), load(["dataset=rafdb", *overrides])
        count = len(faces)
        config |= {"dataset": chosen["dataset"], "folds": chosen["folds"], "fold_rule": chosen["fold_rule"]}
        names = np.array([f"{number}.jpg" for number in range(count)])
        parts = np.where(np.arange(count) < count // 2, "train", "test")
        return config, dataclasses.replace(faces, subjects=names, sequences=names, official=parts)

    return make


@pytest.mark.parametrize("kind", ["method", "search"])
def test_the_released_parts_are_one_fold(released, kind):
    config, faces = released(kind=kind)
    plan.check(config)
    plan.check_splits(config, faces)
    assert plan.shared_fields(config, faces, "s")["folds"] == 1
    assert plan.notes(config, faces) == []
    if kind == "method":
        (member,) = plan.members(config, faces, "s")
        assert (member.spec.fold, member.spec.folds, member.spec.fold_rule) == (0, 1, "official")


def test_folds_of_a_set_without_identities_are_by_image_and_the_plan_says_so(released):
    config, faces = released("fold_rule=balanced")
    plan.check_splits(config, faces)
    (line,) = plan.notes(config, faces)
    assert line == "Nobody knows who is shown in rafdb: its 5 folds are by image, and a person may be on both sides."
    config, faces = released("fold_rule=leave_one_out")
    with pytest.raises(StudyError, match="no subject can be left out"):
        plan.check_splits(config, faces)
    config, faces = released("folds=4")
    with pytest.raises(DatasetError, match="expected 1 fold for the rule official, found 4; leave folds out"):
        plan.check_splits(config, faces)


def test_what_may_be_skipped_makes_no_other_study_and_what_is_aligned_does():
    def identity(*overrides):
        return plan.identity(load(["dataset=ckplus", *overrides]) | {"kind": "method"})

    assert identity() == identity("dataset.allow_skips=true") == identity("dataset.cache=elsewhere")
    assert identity() != identity("dataset.align=true")
    assert not {"align", "allow_skips", "cache"} & set(identity()["dataset"])


@pytest.mark.parametrize("override", ["batch_size=1", "learning_rate=0", "epochs=0", "schedule=linear", "sampler=all"])
def test_an_impossible_recipe(tiny_config, override):
    config = tiny_config(override)
    with pytest.raises(MethodError, match=override.partition("=")[0]):
        plan.members(config, plan.open_faces(config), "s")


# sha256 of the names of studies as the first release gave them, of faces whose fingerprint is "0".
FIRST = {("search", None): "5690edcd", ("ablation", "loss_form"): "deee1896", ("method", None): "1f0c0772"}


@pytest.mark.parametrize(("kind", "ablation"), FIRST)
def test_studies_keep_the_names_of_the_first_release(kind, ablation):
    """Another name would begin every stored study, and every trial of a stored search, again."""
    config = load([], ablation) | {"kind": kind}
    assert plan.study_name(config, SimpleNamespace(fingerprint="0")).rpartition("-")[2] == FIRST[kind, ablation]


@pytest.mark.parametrize("kind", ["search", "method"])
def test_a_study_stored_before_a_setting_was_added_goes_on_as_it_was(kind, tiny_config):
    config = tiny_config(kind=kind)
    earlier = {name: value for name, value in config.items() if name not in ADDED_SETTINGS}
    earlier["method"] = {name: value for name, value in config["method"].items() if name != "linear_classifier"}
    assert plan.identity(earlier) == plan.identity(config)
    faces, resumed = plan.open_faces(config), ADDED_SETTINGS | earlier
    plan.check(resumed)
    keys = [[member.spec.key for member in plan.members(one, faces, "s")] for one in (config, resumed)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("override", ["optimizer=sgd", "evaluation.probe=true", "method.linear_classifier=true"])
def test_what_was_added_makes_another_study_where_it_is_used(override, tiny_config):
    assert plan.identity(tiny_config(override)) != plan.identity(tiny_config())


def test_a_batch_that_has_too_few_images_of_a_class_for_a_loss_is_refused(tiny_config):
    """Seven classes: npair needs two images of each, dgms two of each of its sub-classes."""
    for least, overrides in ((14, ["method=npair"]), (28, ["method=dgms", "method.levels=2"])):
        config = tiny_config(*overrides, f"batch_size={least}")
        faces = plan.open_faces(config)
        plan.check_faces(config, faces)
        with pytest.raises(StudyError, match=f"batch_size of at least {least}, .* found {least - 1}"):
            plan.check_faces(config | {"batch_size": least - 1}, faces)


def test_a_generator_of_neutral_faces_needs_a_neutral_class(tiny_config):
    config = tiny_config("method=idferm")
    faces = plan.open_faces(config)
    plan.check_faces(config, faces)
    renamed = dataclasses.replace(faces, classes=tuple(f"{name}!" for name in faces.classes))
    with pytest.raises(StudyError, match=r"expected a class named neutral.*take method=rml"):
        plan.check_faces(config, renamed)


def test_images_that_are_on_both_sides_of_the_official_parts_are_told(tmp_path):
    """As in the release of FER2013, where the summary of `prepare` alone had told it."""
    fer2013.build(tmp_path, people=2)
    table = tmp_path / "fer2013.csv"
    first = table.read_text().splitlines()[1]
    table.write_text(f"{table.read_text()}{first.replace(',Training', ',PrivateTest')}\n")
    config = load(["dataset=fer2013", f"dataset.root={tmp_path}", f"dataset.cache={tmp_path}", "image_size=16"]) | {
        "kind": "method"
    }
    faces = plan.open_faces(config)
    summary = faces.path.with_suffix(".md")
    assert plan.notes(config, faces) == [
        f"fer2013: 1 images occur more than once with different official parts; {summary} tells more."
    ]
    summary.unlink()
    assert plan.notes(config, faces) == []
