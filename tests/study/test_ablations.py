"""The ablations that come with the project say what their names promise."""

import json
import re
import typing

import pytest
import torch
from torchvision.models import resnet18

from mdml.methods import method_class, method_names
from results import Store
from study import conduct, outlook, plan
from study.ablation import spelled_out
from study.config import CONF, load
from study.errors import StudyError
from study.forecast import Sample
from study.run import main
from study.spec import resolved_options

ABLATIONS = sorted(file.stem for file in (CONF / "ablation").glob("*.yaml"))
ARMS = {
    "all_methods": 28,
    "backbones_classification": 3 * 5,
    "backbones_clustering": 2 * 5,
    "knn_k": 5,
    "loss_form": 10,
    "pretraining": 3 * 2,
    "radial_lambda": 7,
    "same_threshold": 4 * 2,
    "slices": 4 * 2,
    "sota_ckplus": 5,
    "sota_ckplus8": 6,
    "sota_ferplus": 6,
    "sota_mmi": 5,
    "sota_oulu_casia": 5,
    "thresholds": 8,
    "training_time": 7,
    "vote_or_concatenate": 5,
}


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


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A state dict of the trunk that ablations start from; torchvision's are fetched, which a test is not to do."""
    path = tmp_path_factory.mktemp("weights") / "trunk.pt"
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    return [f"dataset.cache={folder / 'cache'}", f"storage.root={folder / 'tables'}"]


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_plans_its_arms(name, places, weights, capsys, monkeypatch):
    # A few steps of every arm on images of 224 pixels take half a minute.
    monkeypatch.setattr(outlook, "try_out", lambda *given: [Sample(1.0, 0.01)])
    small = ["dataset.subjects=4", "dataset.per_class=1", "folds=2", "batch_size=70", *places]
    own = [f"ablation.factors.start.pretrained.with.weights={weights}"] if name == "pretraining" else []
    assert main(["--dry-run", "--ablation", name, *small, *own]) == 0
    plan_of = capsys.readouterr().out
    trials = 2 * load([], name)["seeds"]
    lines = [line for line in plan_of.splitlines() if re.search(rf" {trials} │ +0 │ +{trials} ", line)]
    assert len(lines) == ARMS[name], plan_of
    assert "Forecast: " in plan_of


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_asks_a_question_and_lays_all_its_arms_out(name):
    ablation = load([], name)["ablation"]
    assert ablation["question"].endswith("?")
    if ablation["layout"]:
        assert list(ablation["layout"]["arms"]) == list(ablation["arms"])


def test_slices_are_as_wide_each_or_together():
    found = {arm.name: arm.options for arm in arms("slices")}
    widths = {name: options["slice_dim"] * options["slices"] for name, options in found.items()}
    assert {width for name, width in widths.items() if name.endswith("all-1820")} == {1820}
    assert {name: width for name, width in widths.items() if name.endswith("each-256")} == {
        f"{n}-each-256": 256 * n for n in (1, 4, 7, 13)
    }
    assert found["4-each-256"]["thresholds"] == [0.15, 0.35, 0.55, 0.75]


def test_trunks_have_images_of_their_own_size_and_share_the_rest(tiny_config):
    config = tiny_config("batch_size=70", "augmentation=idferm", kind="ablation", ablation="backbones_classification")
    faces = plan.open_faces(config)
    specs = {member.spec.arm: member.spec for member in plan.members(config, faces, "s") if member.spec.fold == 0}
    [note] = plan.notes(config, faces)
    assert note.endswith("36 pixels RGB, 52 pixels RGB, 68 pixels grey, 231 pixels RGB.")
    sizes = {name: (spec.backbone, spec.image_size, spec.channels) for name, spec in specs.items()}
    assert sizes["sgm-fmpnet"] == ("fmpnet", 52, 3)  # 48, and 4 that the augmentation crops away
    assert sizes["sgm-cvgg13"] == ("cvgg13", 68, 1)
    assert sizes["softmax-preact_resnet18"] == ("preact_resnet18", 36, 3)
    assert len({spec.fingerprint for spec in specs.values()}) == 4  # fmpnet and resnet18 see the same
    assert len({spec.key for spec in specs.values()}) == 15
    assert {(spec.epochs, spec.batch_size, spec.folds, spec.weights) for spec in specs.values()} == {(2, 70, 2, None)}


def test_an_arm_that_shares_everything_has_the_key_that_it_has_alone(tiny_config):
    """What an arm may have of its own is no part of a trial but for its effect."""
    alone = tiny_config("method=softmax", "backbone=cvgg13", "image_size=64", "channels=1")
    config = tiny_config(kind="ablation", ablation="loss_form")
    config["ablation"]["arms"] = {
        "own": {"method": "softmax", "with": {"backbone": "cvgg13"}},
        "plain": {"method": "softmax"},
    }
    found = [{m.spec.key for m in plan.members(c, plan.open_faces(c), "s")} for c in (alone, config)]
    assert found[0] < found[1]
    plain = tiny_config("method=softmax")
    assert {m.spec.key for m in plan.members(plain, plan.open_faces(plain), "s")} == found[1] - found[0]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"epocs": 3}, "has no epocs of its own"),
        ({"epochs": "three"}, "with.epochs"),
        ({"epochs": True}, "with.epochs"),
        ({"backbone": "resnet"}, "with.backbone to be resnet18 or"),
        ({"weights": 3}, "with.weights"),
        ([1], "with: {SETTING: VALUE, ...}"),
    ],
)
def test_a_setting_that_no_arm_can_have_is_named(own, words, tiny_config):
    config = tiny_config(kind="ablation", ablation="loss_form")
    config["ablation"]["arms"] = {"a": {"method": "softmax", "with": own}}
    with pytest.raises(StudyError) as caught:
        plan.arms(config)
    assert words in str(caught.value)
    assert str(caught.value).startswith("Arm a: ")


def test_all_mistakes_of_a_file_are_shown_together():
    declared = {
        "name": "x", "baseline": "a", "metric": None, "colour": "red", "arms": {"a": {"method": "softmax"}},
        "layout": {"rows": "form", "columns": "arm"}, "replication": {"folds": 0}, "published": {"table": 99},
    }  # fmt: skip
    with pytest.raises(StudyError) as caught:
        spelled_out(declared)
    lines = str(caught.value).splitlines()
    assert [any(word in line for line in lines) for word in ("colour", "layout", "replication.folds", "99")] == [
        True
    ] * 4
    assert all(line.startswith("The ablation x: ") for line in lines)
    with pytest.raises(StudyError, match="Two arms are called b"):
        spelled_out({"name": "x", "baseline": "b", "metric": None, "arms": {"b": {}}, "factors": {"f": {"b": {}}}})
    with pytest.raises(StudyError, match="found none"):
        spelled_out({"name": "x", "baseline": "b", "metric": None})


def test_factors_make_their_product_and_settings_of_several_levels_add_up():
    factors = {
        "size": {"s": {"with": {"epochs": 3}}, "l": {"slices": 7}},
        "start": {"p": {"with": {"weights": "w"}}, "r": {}},
    }
    declared = {"name": "x", "baseline": "s-p", "metric": None, "common": {"method": "mul_dml"}, "factors": factors}
    found = spelled_out(declared | {"layout": {"rows": "size", "columns": "start"}})
    assert found["arms"] == {
        "s-p": {"method": "mul_dml", "with": {"epochs": 3, "weights": "w"}},
        "s-r": {"method": "mul_dml", "with": {"epochs": 3}},
        "l-p": {"method": "mul_dml", "slices": 7, "with": {"weights": "w"}},
        "l-r": {"method": "mul_dml", "slices": 7},
    }
    assert found["layout"]["arms"]["l-p"] == ["l", "p"]


def test_an_ablation_may_say_how_often_it_is_repeated(monkeypatch, tmp_path):
    from study import config as configuration

    (tmp_path / "ablation").mkdir()
    for path in CONF.rglob("*.yaml"):
        copy = tmp_path / path.relative_to(CONF)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text())
    file = tmp_path / "ablation" / "loss_form.yaml"
    file.write_text(file.read_text() + "replication: {folds: 3, seeds: 4}\n")
    monkeypatch.setattr(configuration, "CONF", tmp_path)
    assert [load([], "loss_form")[name] for name in ("folds", "seeds")] == [3, 4]
    assert [load(["folds=2"], "loss_form")[name] for name in ("folds", "seeds")] == [2, 4]
    assert plan.identity(load([], "loss_form") | {"kind": "ablation"})["ablation"].keys() == {
        "name",
        "baseline",
        "metric",
        "arms",
    }


def test_convergence_is_compared_over_five_seeds():
    assert load([], "training_time")["seeds"] == 5
    assert load(["seeds=2"], "training_time")["seeds"] == 2


def test_a_study_keeps_what_its_table_needs(tiny_config, tmp_path):
    config = tiny_config("batch_size=70", kind="ablation", ablation="same_threshold")
    study = conduct.prepare(config, Store(tmp_path / "tables"))
    conduct.register(study)
    [row] = study.store.read("studies").to_pylist()
    assert row["question"] == config["ablation"]["question"]
    assert json.loads(row["layout"])["arms"]["0.45-dual"] == ["0.45", "dual"]
    assert row["published"] == []
    conduct.refuse_another(study)


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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_arms_with_trunks_of_their_own_train_side_by_side(project):
    """One worker goes from images of 16 pixels to those of 64 and back."""
    done = project.run("--ablation", "sota_ferplus", *project.tiny, "epochs=1", "batch_size=28", "cluster.workers=1")
    assert "12 trials, 12 new" in done.out
    rows = project.read("trials")
    assert {row["status"] for row in rows} == {"done"}
    sizes = {(row["arm"], row["image_size"], row["channels"]) for row in rows if row["arm"].startswith("softmax")}
    assert sizes == {("softmax", 16, 3), ("softmax-vgg13", 64, 1)}
    key = next(row["trial_key"] for row in rows if row["arm"] == "softmax-vgg13")
    assert "All metrics are equal." in project.run("--rerun", key, *project.places).out
