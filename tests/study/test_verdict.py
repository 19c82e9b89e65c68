"""What a trial that is done says: its rows agree with each other, and what is asked for comes besides."""

import io
import json
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import FaceSet, open_dataset, write_faceset
from results import Store
from results.schema import TABLES, table_of
from study import plan
from study.config import load
from study.errors import StudyError
from study.faces import Faces
from study.transfer import shared_classes, transfer_row
from study.trial import Trial
from tests.study import working

pytestmark = pytest.mark.usefixtures("torch_settings")


@pytest.fixture
def done(tiny_config):
    """A trial of a configuration, and its tables."""

    def make(*overrides):
        config = tiny_config("epochs=1", *overrides)
        spec = working.spec_of(config)
        others = [_open(one["dataset"], config) for one in spec.evaluation.get("transfer", [])]
        trial = working.trial(spec, plan.open_faces(config), others=others)
        list(trial.run())
        return trial, trial.finish()

    return make


def _open(dataset, config):
    options = {name: value for name, value in dataset.items() if name != "name"}
    cache = config["dataset"]["cache"]
    size, channels = config["image_size"], config["channels"]
    return open_dataset(dataset["name"], image_size=size, channels=channels, cache=cache, **options)


def folder_of(tmp_path, names, count=3):
    """A folder of noise, `count` images of each class."""
    rng = np.random.default_rng(0)
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"s{i}_0.png")
    return tmp_path


def test_the_tables_fit_the_schema_and_agree(done):
    trial, tables = done("method=mul_dml", "method.slices=3")
    for name, rows in tables.items():
        assert table_of(name, rows).num_rows == len(rows)
    row, classes = tables["trials"][0], trial.faces.set.classes
    assert set(tables) == {
        "trials", "epochs", "slices", "confusion", "classes", "neighbours", "predictions", "distances", "pictures",
    }  # fmt: skip
    mine = [found for found in tables["classes"] if found["split"] == "test"]
    assert [found["class_name"] for found in mine] == list(classes)
    assert sum(found["support"] for found in mine) == row["test_images"]
    recalls = [found["recall"] for found in mine if found["recall"] is not None]
    assert row["test_balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))
    rates = [cell["rate"] for cell in tables["confusion"] if cell["split"] == "test"]
    supported = sum(found["support"] > 0 for found in mine)
    assert sum(rates) == pytest.approx(supported)
    by_k = {found["k"]: found for found in tables["neighbours"] if found["split"] == "test"}
    assert list(by_k) == [1, 2, 4, 8, 11, 16, 32]
    assert by_k[11]["knn_accuracy"] == row["test_knn_accuracy"]
    for k in (1, 2, 4, 8, 16, 32):
        assert by_k[k].get("recall_at") == row.get(f"test_recall_at_{k}")
        assert by_k[k].get("acc_at") == row.get(f"test_acc_at_{k}")
    expected = {"precision", "f1_of_macro", "nearest_mean_accuracy", "nmi", "pairwise_f1", "nmi_knn", "pairwise_f1_knn"}
    assert all(0 <= row[f"test_{name}"] <= 1 for name in expected)
    assert tables["pictures"] == []


def test_sequences_are_decided_on_by_the_mean_of_the_predictions(done):
    trial, stills = done("method=softmax", "dataset.per_class=2")
    assert stills["trials"][0]["test_sequence_accuracy"] == stills["trials"][0]["test_accuracy"]
    trial.faces.set = replace(trial.faces.set, sequences=trial.faces.set.subjects)
    tables = trial.finish()
    groups = defaultdict(list)
    for found in tables["predictions"]:
        groups[found["sequence"], found["label"]].append(found["scores"])
    assert max(map(len, groups.values())) > 1, "the case must have sequences of several frames"
    right = [int(np.mean(scores, 0).argmax()) == label for (_, label), scores in groups.items()]
    assert tables["trials"][0]["test_sequence_accuracy"] == pytest.approx(sum(right) / len(right))


def test_distances_have_all_pairs_of_both_splits(done):
    trial, tables = done("method=mul_dml", "method.slices=3")
    for split, index in (("train", trial.split.train), ("test", trial.split.test)):
        labels = trial.faces.set.labels[index]
        sizes = Counter(labels.tolist())
        within = sum(n * (n - 1) // 2 for n in sizes.values())
        expected = {"intra": within, "inter": len(labels) * (len(labels) - 1) // 2 - within}
        for slice_ in range(3):
            rows = [row for row in tables["distances"] if (row["split"], row["slice"]) == (split, slice_)]
            pooled = {row["kind"]: row for row in rows if row["first_class"] is None}
            for kind, row in pooled.items():
                assert row["pairs"] == sum(row["counts"]) == expected[kind]
                assert len(row["counts"]) == 100
                parts = [one for one in rows if one["kind"] == kind and one["first_class"] is not None]
                assert sum(one["pairs"] for one in parts) == row["pairs"]
                mean = sum(one["mean"] * one["pairs"] for one in parts) / row["pairs"]
                assert mean == pytest.approx(row["mean"], rel=1e-5)
                assert row["threshold"] == [0.15, 0.45, 0.75][slice_]


def test_the_last_epoch_says_how_many_of_all_triplets_are_judged_incompletely(done):
    _, tables = done("method=mul_dml", "method.slices=3", "epochs=2", "dataset.per_class=2")
    assert [row.get("population_incomplete_rate") is None for row in tables["slices"]] == [True] * 3 + [False] * 3
    _, tables = done("method=softmax")
    assert all("population_incomplete_rate" not in row for row in tables["slices"])


def test_notes_and_pictures_of_the_method_are_kept(done, monkeypatch):
    pixels = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)

    def noted(session, epoch, epochs, embed):
        session.notes["references"] = "drawn at random"
        session.pictures["references"] = pixels

    monkeypatch.setattr("mdml.session.Session.begin_epoch", noted)
    _, tables = done("method=softmax")
    assert json.loads(tables["trials"][0]["notes"]) == {"references": "drawn at random"}
    (row,) = tables["pictures"]
    assert row["name"] == "references"
    with Image.open(io.BytesIO(row["png"])) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_a_plane_of_the_test_images_when_asked_for(done):
    trial, tables = done("method=softmax", "evaluation.tsne=true")
    assert [row["image"] for row in tables["embedding"]] == trial.split.test.tolist()
    assert all(np.isfinite([row["x"], row["y"]]).all() for row in tables["embedding"])
    assert {row["class_name"] for row in tables["embedding"]} <= set(trial.faces.set.classes)


def test_a_probe_when_asked_for_changes_no_other_number(done):
    (trial, plain), (probed, tables) = done("method=mul_dml"), done("method=mul_dml", "evaluation.probe=true")
    assert "probe" not in plain
    steps = len(tables["probe_steps"]) // 7
    assert steps == tables["probe"][0]["steps"] > 0
    assert [row["threshold"] for row in tables["probe"]] == list(trial.method.layout.thresholds)
    for name in ("probe", "probe_steps"):
        assert table_of(name, tables[name]).num_rows == len(tables[name])
    assert {row["images"] for row in tables["probe"]} == {min(32, len(trial.split.train))}
    same = [name for name in plain["trials"][0] if name.startswith(("test_", "val_", "train_"))]
    assert all(plain["trials"][0][name] == tables["trials"][0][name] for name in same)
    assert probed.spec.key != trial.spec.key


def test_other_data_sets_when_asked_for(done, tmp_path):
    """Two shared classes, one in capitals; one class of theirs is unknown, and an empty hand of ours has no counterpart."""
    root = folder_of(tmp_path / "faces", ["Anger", "happy", "boredom"])
    overrides = ("method=softmax", f"evaluation.transfer=[{{name: folder, root: {root}}}]")
    trial, tables = done(*overrides)
    (row,) = tables["transfers"]
    assert table_of("transfers", [row]).num_rows == 1
    assert row["classes"] == [name for name in trial.faces.set.classes if name in ("anger", "happy")]
    assert sorted(row["classes"] + row["classes_trained_only"]) == sorted(trial.faces.set.classes)
    assert row["classes_transfer_only"] == ["boredom"]
    assert (row["images"], row["images_left_out"]) == (6, 3)
    assert row["data_fingerprint"] == trial.spec.evaluation["transfer"][0]["fingerprint"]
    # By hand: the larger of the two classes' logits decides.
    other = trial._others[0]
    network = trial.network.eval()
    from mdml.augmentation import augmentation

    with torch.no_grad():
        logits = network(augmentation(trial.spec.augmentation).test(other.images)).logits
    ours, theirs = zip(*shared_classes(trial.faces.set, other.set), strict=True)
    right = [
        theirs[int(logits[i, list(ours)].argmax())] == label
        for i, label in enumerate(other.set.labels.tolist())
        if label in theirs
    ]
    assert row["accuracy"] == pytest.approx(sum(right) / 6)


def test_a_method_that_predicts_by_neighbours_is_judged_so_on_other_data_sets_too(done, tmp_path):
    root = folder_of(tmp_path / "faces", ["anger", "happy"])
    _, tables = done("method=sgm", f"evaluation.transfer=[{{name: folder, root: {root}}}]")
    assert tables["transfers"][0]["accuracy"] == tables["transfers"][0]["knn_accuracy"]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["anger", "boredom"], "share at least 2 classes"), (None, "found the one trained on")],
)
def test_other_data_sets_that_cannot_be_judged_are_refused_before_anything_runs(tiny_config, tmp_path, names, message):
    if names is None:
        entry = "{name: synthetic, subjects: 4, per_class: 1}"
    else:
        entry = f"{{name: folder, root: {folder_of(tmp_path / 'faces', names)}}}"
    config = tiny_config(f"evaluation.transfer=[{entry}]")
    with pytest.raises(StudyError, match=message):
        plan.members(config, plan.open_faces(config), "s")


def test_entries_that_are_no_data_sets_and_searches_that_ask_are_refused(tiny_config):
    with pytest.raises(StudyError, match=r"Expected evaluation\.transfer to list data sets"):
        plan.check(tiny_config("evaluation.transfer=[folder]"))
    with pytest.raises(StudyError, match=r"leave out evaluation\.tsne"):
        plan.check(tiny_config("evaluation.tsne=true", kind="search"))


def test_another_data_set_that_changed_is_refused(done, tiny_config, tmp_path):
    root = folder_of(tmp_path / "faces", ["anger", "happy"])
    trial, _ = done("method=softmax", f"evaluation.transfer=[{{name: folder, root: {root}}}]")
    spec = replace(
        trial.spec, evaluation={"transfer": [trial.spec.evaluation["transfer"][0] | {"fingerprint": "0" * 64}]}
    )
    with pytest.raises(StudyError, match="The data set folder has changed"):
        Trial(spec, trial.faces, working.CODE, print, trial._others)


def test_a_worker_opens_what_is_asked_for_and_commits_it(tiny_config, tmp_path):
    root = folder_of(tmp_path / "faces", ["anger", "happy"])
    config = tiny_config(
        "epochs=1", "method=softmax", "evaluation.tsne=true", f"evaluation.transfer=[{{name: folder, root: {root}}}]"
    )
    spec = working.spec_of(config)
    assert working.worker(spec, config, tmp_path / "out").step()["committed"] == "done"
    store = Store(tmp_path / "out")
    filled = {name for name, table in TABLES.items() if table.per_trial and store.read(name).num_rows}
    assert {"transfers", "embedding", "classes", "neighbours", "distances"} <= filled
    assert not filled & {"probe", "probe_steps", "pictures"}


def released_of(tmp_path, faces, name):
    """A face set with official parts, the words of other hands for its classes, and subjects of its own."""
    words = {"happy": "happiness", "sad": "sadness", "angry": "anger"}
    parts = np.where(np.arange(len(faces)) % 3 == 0, "val", "train")
    return FaceSet.open(
        write_faceset(
            tmp_path / f"{name}.arrow",
            name=name,
            images=faces.images,
            labels=faces.labels,
            subjects=[f"{index}.jpg" for index in range(len(faces))],
            sequences=[f"{index}.jpg" for index in range(len(faces))],
            classes=[words.get(word, word).upper() for word in faces.classes],
            official=parts,
        )
    )


def test_a_part_of_another_data_set_is_judged_alone(done, tmp_path):
    """Classes are matched by their canonical names, and what is not in the part is not left out but never asked for."""
    trial, _ = done("method=softmax")
    faces = trial.faces.set
    other = released_of(tmp_path, faces, "other")
    everything = {name: index for index, name in enumerate(faces.classes)}
    assert shared_classes(faces, other) == [(label, label) for label in everything.values()]
    chosen = np.flatnonzero(other.official == "val")
    seen = []

    def embed(labels, index):
        seen.append(index.numpy())
        return trial._embed_other(Faces(other, torch.device("cpu")), labels, index)

    memory = trial._embed(trial.split.train)
    row = transfer_row(faces, other, memory, embed, "val")
    assert np.array_equal(seen[0], chosen)
    assert (row["part"], row["images"], row["images_left_out"]) == ("val", len(chosen), 0)
    assert row["classes"] == list(faces.classes)
    assert table_of("transfers", [row]).num_rows == 1
    whole = transfer_row(faces, other, memory, embed)
    assert (whole["part"], whole["images"]) == (None, len(other))


def test_each_class_has_one_counterpart_by_its_own_name_or_else_by_the_canonical_one(tmp_path):
    def made(name, *classes):
        images = np.zeros((len(classes), 2, 2, 1), np.uint8)
        names = [f"{name}{index}" for index in range(len(classes))]
        return FaceSet.open(
            write_faceset(
                tmp_path / f"{name}.arrow",
                name=name,
                images=images,
                labels=range(len(classes)),
                subjects=names,
                sequences=names,
                classes=classes,
            )
        )

    ours = made("ours", "Happy", "smiling", "anger", "pain")
    assert shared_classes(ours, made("a", "angry", "HAPPY", "pain")) == [(0, 1), (2, 0), (3, 2)]
    assert shared_classes(ours, made("b", "happiness", "smiling")) == [(0, 0), (1, 1)]
    assert shared_classes(ours, made("c", "happiness", "fear")) == [(0, 0)]


def test_parts_and_words_of_other_data_sets_count_in_the_key(done, tmp_path):
    trial, _ = done("method=softmax")
    here = {"dataset": {"name": "other", "root": "/here"}, "fingerprint": "1"}
    keys = {
        replace(trial.spec, evaluation={"transfer": [here | change]}).key
        for change in ({}, {"dataset": here["dataset"] | {"part": "val"}}, {"matched": "canonical"})
    }
    assert len(keys) == 3


@pytest.mark.parametrize(("trained", "judged"), [("ckplus", "ckplus48"), ("ferplus", "fer2013"), ("jaffe", "jaffe")])
def test_the_same_faces_are_not_on_both_sides(trained, judged):
    config = load([f"dataset={trained}", f"evaluation.transfer=[{{name: {judged}, root: faces}}]"])
    with pytest.raises(StudyError) as caught:
        plan.check(config | {"kind": "method"})
    assert str(caught.value).startswith(
        f"Expected evaluation.transfer to name data sets of other people than {trained}, found {judged}, which shows the same"
    )
    others = load(
        [f"dataset={trained}", "evaluation.transfer=[{name: bu3dfe, root: faces}, {name: affectnet, part: val}]"]
    )
    plan.check(others | {"kind": "method"})


def test_names_on_both_sides_of_a_users_own_folders_are_noted_in_the_plan(tiny_config, tmp_path):
    """Nobody but the user knows whether they are the same people."""
    here, there = (
        folder_of(tmp_path / "here", ["anger", "happy"]),
        folder_of(tmp_path / "there", ["anger", "sad", "happy"]),
    )
    config = load(
        [
            "dataset=folder",
            f"dataset.root={here}",
            f"evaluation.transfer=[{{name: folder, root: {there}}}]",
            "image_size=16",
        ]
    )
    config["dataset"]["cache"], config["kind"] = str(tmp_path / "cache"), "method"
    (line,) = plan.notes(config, plan.open_faces(config))
    assert line.startswith("Subjects by the name of s0, s1, s2 are on both sides of the transfer to folder")
