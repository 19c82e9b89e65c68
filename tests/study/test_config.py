import inspect
import shlex

import pytest

from datasets import dataset_names, dataset_options
from datasets.card import card_of
from mdml.augmentation import AUGMENTATIONS
from mdml.models import BACKBONES
from study.config import CONF, load
from study.errors import StudyError

FILES = sorted([*CONF.glob("*.yaml"), *CONF.glob("*/*.yaml")])  # deeper ones are not Hydra's


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_every_file_begins_with_a_command_that_composes(file):
    first = file.read_text().splitlines()[0]
    assert first.startswith("# python study/run.py ")
    words = [
        word for word in shlex.split(first.removeprefix("# python study/run.py ")) if "[" not in word or "=" in word
    ]
    ablation = words[words.index("--ablation") + 1] if "--ablation" in words else None
    overrides = [word for word in words if "=" in word]
    config = load(overrides, ablation if ablation != "NAME" else None)
    group = file.parent.name
    if group in config and group != "conf":
        name = config[group] if isinstance(config[group], str) else (config[group] or {}).get("name", file.stem)
        assert group in ("search", "cluster", "storage") or name == file.stem, "the command does not choose the file"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epocs=3", ["epocs", "epochs"]),
        ("dataset.rot=x", ["dataset.rot"]),
        ("datset=folder", ["datset", "dataset"]),
        ("dataset=foldr", ["folder", "foldr"]),
        ("method.slice=3", ["method.slices"]),
        ("epochs=three", ["epochs", "an integer", "three"]),
        ("learning_rate=fast", ["learning_rate", "a number"]),
        ("folds=2.5", ["folds", "an integer"]),
        ("fold_rule=[a]", ["fold_rule", "text"]),
        ("epochs=null", ["epochs", "an integer"]),
        ("epochs=true", ["epochs", "an integer"]),
        ("epochs", ["KEY=VALUE"]),
        ("+new=3", ["KEY=VALUE"]),
        ("method.thresholds=[0.3", ["cannot be read", "close its brackets"]),
        ("evaluation.transfer=[{name:folder,root:~/x}]", ["cannot be read", "double quotes"]),
        ("two words=3", ["cannot be read"]),
        ("dataset.root=~/CK+", ["""write 'dataset.root="~/CK+"'."""]),
        ("dataset.root=a=b", ["""write 'dataset.root="a=b"'."""]),
        ('dataset.root=a~"b', ["""write 'dataset.root="a~\\"b"'."""]),
        ("dataset.subject_pattern=^([^_]+)_", ["""write 'dataset.subject_pattern="^([^_]+)_"'."""]),
        ("dataset.name=folder", ["write dataset=folder"]),
    ],
)
def test_a_bad_override_is_named_with_what_was_expected(override, words):
    with pytest.raises(StudyError) as caught:
        load([override])
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
    assert "Exception" not in str(caught.value)


@pytest.mark.parametrize("value", ["~/CK+", "^([^_]+)_", 'a~"b', "a=b", "P(.)'s", "é"])
def test_what_a_sentence_says_to_write_is_read_as_it_was_meant(value):
    with pytest.raises(StudyError) as caught:
        load(["dataset=folder", f"dataset.subject_pattern={value}"])
    (word,) = shlex.split(str(caught.value).partition("write ")[2].removesuffix("."))
    assert load(["dataset=folder", word])["dataset"]["subject_pattern"] == value


def test_all_mistakes_are_shown_together():
    with pytest.raises(StudyError) as caught:
        load(["epocs=3", "folds=many", "batch_size=8"])
    assert len(str(caught.value).splitlines()) == 2


def test_an_unknown_ablation_names_the_nearest():
    with pytest.raises(StudyError, match="Did you mean loss_form"):
        load([], "loss_from")


def test_relative_paths_are_taken_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(["dataset=folder", "dataset.root=faces", "storage.root=out"])
    assert config["dataset"]["root"] == str(tmp_path / "faces")
    assert config["storage"]["root"] == str(tmp_path / "out")


def test_every_backbone_and_every_augmentation_has_its_file():
    assert {file.stem for file in (CONF / "backbone").glob("*.yaml")} == set(BACKBONES)
    assert {file.stem for file in (CONF / "augmentation").glob("*.yaml")} == set(AUGMENTATIONS)


@pytest.mark.parametrize("name", BACKBONES)
def test_images_follow_the_backbone(name):
    config, known = load([f"backbone={name}"]), BACKBONES[name]
    assert (config["image_size"], config["channels"]) == (known.side, known.channels)
    assert config["backbone"] == {"name": name, "weights": None}


@pytest.mark.parametrize("name", dataset_names())
def test_every_data_set_has_its_file_with_its_options_and_their_defaults(name):
    config, empty = load([f"dataset={name}"])["dataset"], inspect.Parameter.empty
    options = {option: None if value is empty else value for option, value in dataset_options(name).items()}
    assert config == {"name": name, **options, "cache": config["cache"]}


@pytest.mark.parametrize("name", dataset_names())
def test_what_is_left_out_is_as_the_data_set_is_published(name):
    card, config = card_of(name), load([f"dataset={name}"], "loss_form")
    assert (config["fold_rule"], config["folds"]) == (card.fold_rule, card.folds)
    assert config["ablation"]["metric"] == card.metric


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        ([], ("contiguous", 5)),
        (["dataset=folder"], ("contiguous", 5)),
        (["dataset=ckplus"], ("contiguous", 10)),
        (["dataset=ckplus", "fold_rule=balanced"], ("balanced", 10)),
        (["dataset=ckplus", "folds=3"], ("contiguous", 3)),
        (["dataset=ckplus", "fold_rule=leave_one_out"], ("leave_one_out", None)),
        (["dataset=jaffe"], ("leave_one_out", None)),
        (["dataset=jaffe", "fold_rule=contiguous"], ("contiguous", 5)),
        (["dataset=rafdb"], ("official", 1)),
        (["dataset=rafdb", "fold_rule=contiguous"], ("contiguous", 5)),
        (["dataset=rafdb", "folds=null", "fold_rule=null"], ("official", 1)),
        (["dataset=rafdb", "folds=4"], ("official", 4)),  # Refused by the split, which says what to do.
    ],
)
def test_folds_are_those_of_the_card_unless_they_are_given(overrides, found):
    config = load(overrides)
    assert (config["fold_rule"], config["folds"]) == found


def test_a_metric_that_is_given_stays():
    assert load(["dataset=mmi"], "loss_form")["ablation"]["metric"] == "test_sequence_accuracy"
    given = load(["dataset=mmi", "ablation.metric=test_accuracy"], "loss_form")
    assert given["ablation"]["metric"] == "test_accuracy"


def test_images_are_larger_by_what_the_augmentation_crops_unless_their_size_is_given():
    assert load(["backbone=incfer60", "augmentation=idferm"])["image_size"] == 64
    assert load(["backbone=incfer60", "augmentation=idferm", "image_size=60"])["image_size"] == 60
    assert load(["backbone=incfer60"])["image_size"] == 60
    assert load(["backbone=cvgg13", "channels=3"])["channels"] == 3


def test_the_usual_configuration_is_what_it_was():
    """Names of studies are hashes of it: a setting more or less would cut a study off from its earlier runs."""
    config = load([])
    assert (config["image_size"], config["channels"]) == (48, 3)
    assert config["backbone"] == {"name": "resnet18", "weights": None}
    assert config["augmentation"] == {"name": "light"}


def test_an_image_size_that_is_no_number_is_refused_though_it_follows_the_backbone():
    with pytest.raises(StudyError, match="Expected image_size to be an integer, found 'large'"):
        load(["image_size=large"])
