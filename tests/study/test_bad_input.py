"""Every mistake ends in one sentence on stderr, status 2, and nothing written."""

import numpy as np
import pytest
from PIL import Image

from study.run import main


@pytest.fixture
def photographs(tmp_path):
    root = tmp_path / "photographs"
    for label in ("happy", "sad"):
        (root / label).mkdir(parents=True)
        for person in range(3):
            pixels = np.full((20, 20, 3), 40 * person + 10 * (label == "sad"), np.uint8)
            Image.fromarray(pixels).save(root / label / f"P{person}_{label}.png")
    return root


@pytest.fixture
def refused(tmp_path, capsys):
    """Run a command line that must be refused; its sentence."""

    def run(*arguments):
        places = [f"storage.root={tmp_path / 'out' / 'tables'}", f"dataset.cache={tmp_path / 'out' / 'cache'}"]
        places = [place for place in places if not any(word.startswith(place.partition("=")[0]) for word in arguments)]
        before = sorted(path for path in tmp_path.rglob("*"))
        assert main([*arguments, *places]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        written = set(tmp_path.rglob("*")) - set(before)
        assert {path for path in written if path.is_file() and path.parent != tmp_path / "out" / "cache"} == set()
        assert not (tmp_path / "out" / "tables").exists()
        assert "Traceback" not in captured.err
        return captured.err

    return run


def folder(photographs):
    return ["--ablation", "loss_form", "dataset=folder", f"dataset.root={photographs}", "folds=2", "image_size=16"]


def test_the_root_is_not_set(refused):
    assert "dataset.root" in refused("--ablation", "loss_form", "dataset=folder")


def test_the_root_is_missing(refused, tmp_path):
    assert "nowhere" in refused(*folder(tmp_path / "nowhere"))


def test_a_class_folder_is_empty(refused, photographs):
    (photographs / "angry").mkdir()
    assert "angry" in refused(*folder(photographs))


def test_an_image_is_truncated(refused, photographs):
    image = photographs / "sad" / "P1_sad.png"
    image.write_bytes(image.read_bytes()[:40])
    assert "P1_sad.png" in refused(*folder(photographs))


def test_a_file_name_has_no_subject(refused, photographs):
    (photographs / "sad" / "P1_sad.png").rename(photographs / "sad" / "sad.png")
    sentence = refused(*folder(photographs))
    assert "sad.png" in sentence
    assert "subject_pattern" in sentence


def test_there_is_one_class_only(refused, photographs):
    for file in (photographs / "sad").iterdir():
        file.unlink()
    (photographs / "sad").rmdir()
    assert "happy" in refused(*folder(photographs))


def test_there_are_fewer_subjects_than_folds(refused, photographs):
    sentence = refused(*folder(photographs), "folds=4")
    assert "3 subjects" in sentence
    assert "4 folds" in sentence


def test_thresholds_do_not_match_slices(refused):
    sentence = refused("method=mul_dml", "method.slices=3", "method.thresholds=[0.2,0.3]")
    assert "3" in sentence
    assert "[0.2, 0.3]" in sentence


def test_an_override_is_misspelt(refused):
    assert "Did you mean epochs" in refused("--search", "epocs=3")


def test_the_results_folder_cannot_be_written(refused, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert "file" in refused("--search", f"storage.root={tmp_path / 'file' / 'tables'}")


def test_the_results_are_in_s3_without_credentials_or_an_address(refused, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    said = refused("--search", "storage.root=s3://bucket/tables")
    assert said.startswith("Expected to write s3://bucket/tables/")
    assert "no credentials; set them" in said


def test_s3_has_no_address(tmp_path, capsys):
    assert main(["--search", "storage=s3", f"dataset.cache={tmp_path}"]) == 2
    assert "add storage.root=s3://BUCKET/PREFIX" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ablation", "loss_from"], ["loss_from", "loss_form"]),
        (["--ablation", "loss_form", "method.slices=3"], ["method.slices", "ablation"]),
        (["--ablation", "loss_form", "search.trials=3"], ["search.trials"]),
        (["--resume", "nothing"], ["nothing"]),
        (["--resume", "nothing", "epochs=3"], ["epochs=3"]),
        (["--rerun", "abc"], ["abc"]),
        (["--search", "--ablation", "loss_form"], ["not allowed"]),
        (["--serach"], ["serach"]),
        (["--search", "protocol=paper"], ["sealed"]),
        (["--search", "seeds=3"], ["seeds"]),
        (["study=../up"], ["../up"]),
        (["method=triplet", "method.form=tripple"], ["form", "dual"]),
        (["backbone.weights=nowhere.pt"], ["nowhere.pt"]),
        (["backbone=cvgg13", "image_size=48"], ["exactly 64", "image_size=48", "set image_size=64"]),
        (["backbone=incfer60", "augmentation=idferm", "image_size=60"], ["exactly 60", "leaves 56", "image_size=64"]),
        (["backbone=alexnet", "image_size=48"], ["at least 63", "image_size=48"]),
        (["cluster.lease=60", "checkpoint.root=s3://bucket/kept"], ["cluster.lease to be at least 300, found 60"]),
        (["backbone=fmpnet", "channels=2"], ["channels=2"]),
        (["backbone=cvgg13", "backbone.weights=imagenet"], ["no ImageNet weights", "CVGG13"]),
        (["backbone.name=vgg"], ["backbone.name=vgg", "preact_resnet18"]),
        (["augmentation.name=ligth"], ["augmentation.name=ligth", "ferplus"]),
        (["cluster.cpus_per_trial=0"], ["cpus_per_trial"]),
        (["batch_size=1"], ["batch_size"]),
        (["method=dgms", "method.levels=5", "epochs=4"], ["method.levels", "epochs, 4", "found 5"]),
        (["--search", "method=dgms", "epochs=4"], ["method.levels", "epochs, 4", "found 6"]),
        (
            ["--ablation", "all_methods", "ablation.arms.dgms.levels=3", "epochs=2"],
            ["Arm dgms", "epochs, 2", "found 3"],
        ),
    ],
)
def test_other_mistakes(refused, arguments, words):
    sentence = refused(*arguments)
    assert all(word in sentence for word in words)
    assert len(sentence.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluation.transfer=[{name:3}]"], "{'name': 3}"),
        (["evaluation.transfer=[{name:folder,root:3}]"], "evaluation.transfer, folder: expected the folder"),
        (["evaluation.transfer=[{name:synthetic,image_size:48}]"], "leave image_size out"),
        (["evaluation.transfer=[{name:synthetic,seed:1},{name:synthetic,seed:1}]"], "'seed': 1} twice"),
        (
            ["evaluation.transfer=[{name:folder,part:half}]"],
            "Expected part in evaluation.transfer to be train or val or test",
        ),
        (
            ["evaluation.transfer=[{name:synthetic,seed:1,part:test}]"],
            "part 'test' in synthetic, found 840 images in no part",
        ),
        (["evaluation.transfer=[{name:sinthetic}]"], "did you mean 'synthetic'"),
        (["dataset=synthetic", "dataset.name=folder"], "write dataset=folder instead of dataset.name=folder."),
        (["fold_rule=official"], "expected 1 fold for the rule official, found 2; leave folds out"),
        (["fold_rule=leave_one_out"], "expected 4 folds, one for each subject, for the rule leave_one_out, found 2"),
        (["method=rml", "sampler=shuffle"], "needs sampler=balanced: leave out sampler=shuffle"),
        (["--search", "method=rml", "sampler=shuffle"], "rml needs sampler=balanced: leave out sampler=shuffle"),
        (["--search", "search.methods=[softmax,npair]", "sampler=shuffle"], "npair needs sampler=balanced"),
        (["method=idferm", "method.vgg_weights=nowhere.pt"], "method.vgg_weights"),
        (["method.name=3"], "expected {method: NAME"),
        (["--ablation", "all_methods", "ablation.arms.sgm=3"], "Arm sgm: expected {method: NAME, OPTION: VALUE, ...}"),
        (["--ablation", "all_methods", "ablation.arms.sgm.method=3"], "found {'method': 3}"),
        (["--ablation", "loss_form", "ablation.baseline=nothing"], "ablation.baseline"),
        (["--ablation", "loss_form", "ablation.metric=train_loss"], "ablation.metric"),
    ],
)
def test_what_the_types_of_the_settings_do_not_say(arguments, words, refused):
    assert words in refused(*arguments, "dataset.subjects=4", "dataset.per_class=1", "image_size=16", "folds=2")
