"""A stored trial becomes a model that says of its test images what the store says."""

import json

import numpy as np
import pytest
from PIL import Image

from mdml import predict
from mdml.exported import DESCRIPTION, TENSORS, load
from results import Store
from study.config import load as configure
from study.run import main
from tests.study import working

pytestmark = pytest.mark.usefixtures("torch_settings")


class Stored:
    """A store with one trial on photographs of 6 people."""

    def __init__(self, folder):
        self.folder, self.faces = folder, folder / "faces"
        self.places = [f"dataset.cache={folder / 'cache'}", f"storage.root={folder / 'tables'}"]
        self.store = Store(folder / "tables")
        random = np.random.default_rng(0)
        for label in ("happy", "neutral", "sad"):
            (self.faces / label).mkdir(parents=True)
            for person in range(6):
                pixels = random.integers(0, 256, (24, 30, 3), np.uint8)
                Image.fromarray(pixels).save(self.faces / label / f"P{person}_1.png")

    def train(self, *overrides, **changes):
        """Commit a trial; its row."""
        tiny = ["dataset=folder", f"dataset.root={self.faces}", "image_size=16", "epochs=2", "folds=2"]
        config = configure([*tiny, "batch_size=6", *self.places, *overrides]) | {"kind": "method", "overrides": []}
        spec = working.spec_of(config, **changes)
        working.results(working.worker(spec, config, self.folder / "tables"))
        row = self.rows("trials")[0]
        assert row["status"] == "done", row["error"]
        return row

    def rows(self, table):
        return self.store.read(table).to_pylist()

    def export(self, *arguments):
        return main(["--export", *map(str, arguments), *self.places])

    def change(self, row, **values):
        """Commit the trial again with other values in its row."""
        curve = self.rows("epochs")
        self.store.commit(row["trial_key"], {"trials": [row | {"retrained": 1} | values], "epochs": curve})


@pytest.fixture
def stored(tmp_path):
    return Stored(tmp_path)


@pytest.mark.parametrize(
    "method",
    [
        ["method=softmax", "augmentation=sgm"],
        ["method=random_triplet"],
        ["method=mul_dml", "method.slices=3", "channels=1", "protocol=paper"],
    ],
)
def test_a_model_says_of_the_files_what_the_trial_said_of_its_test_images(stored, method, capsys):
    row = stored.train(*method)
    key = row["trial_key"]
    assert stored.export(key[:10]) == 0
    folder = stored.folder / "tables" / "exports" / key[:12]
    out = capsys.readouterr().out
    assert "All metrics are equal" in out
    assert str(folder / TENSORS) in out
    rows = stored.rows("predictions")
    assert len(rows) == row["test_images"] > 5
    files = [str(stored.faces / one["sequence"]) for one in rows]
    assert predict.main(["--model", str(folder), *files, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    classes = ["happy", "neutral", "sad"]
    for one, said in zip(rows, found, strict=True):
        assert list(said["probabilities"].values()) == one["scores"]
        assert said["prediction"] == classes[one["predicted"]]
    description = json.loads((folder / DESCRIPTION).read_text())
    origin = description["origin"]
    assert origin["metrics"] == {name: row[name] for name in origin["metrics"]}
    assert {"test_accuracy", "val_accuracy"} & set(origin["metrics"])
    for name in ("trial_key", "protocol", "dataset", "data_fingerprint", "arm", "seed", "fold"):
        assert origin[name] == row[name]
    assert description["numerics"] == row["numerics"]
    assert (load(folder).memory is not None) == (row["method"] == "random_triplet")
    assert str(stored.folder) not in (folder / DESCRIPTION).read_text(), "a path of this machine"
    assert stored.rows("trials") == [row]
    assert len(stored.rows("audits")) == 2


def test_other_metrics_are_refused_and_named(stored, capsys):
    row = stored.train("method=softmax")
    stored.change(row, test_accuracy=row["test_accuracy"] + 0.001, train_loss=row["train_loss"] + 0.002)
    output = stored.folder / "model"
    assert stored.export(row["trial_key"], "--output", output) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Nothing was written" in out
    assert "others in train_loss, test_accuracy." in out or "others in test_accuracy, train_loss." in out
    assert not output.exists()
    assert not list(stored.folder.rglob("*.part"))

    assert stored.export(row["trial_key"], "--output", output, "--tolerance", "0.0015") == 1
    assert not output.exists()
    assert stored.export(row["trial_key"], "--output", output, "--tolerance", "0.01") == 0
    origin = json.loads((output / DESCRIPTION).read_text())["origin"]
    assert origin["largest_difference"] == pytest.approx(0.002)
    assert origin["metrics"]["test_accuracy"] == row["test_accuracy"], "those of the network that was written"


def test_a_trial_of_a_search_has_a_model_and_opens_no_test_fold(stored, capsys):
    row = stored.train("method=sgm", search="s")
    assert stored.export(row["trial_key"], "--output", stored.folder / "model") == 0
    assert load(stored.folder / "model").memory is not None
    assert stored.rows("audits") == []


def test_bad_input_is_one_sentence_before_anything_is_trained(stored, capsys, monkeypatch):
    row = stored.train("method=softmax")
    monkeypatch.setattr("study.export.repeat", None)
    key, full = row["trial_key"], stored.folder / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for arguments, words in [
        ([key, "--output", full], "at most an empty folder"),
        ([key, "--output", full / "mine.txt"], "mine.txt"),
        (["abc"], "found 0 that begin with 'abc'"),
        ([key, "--dry-run"], "leave out --dry-run"),
        ([key, "--retrain"], "--retrain"),
        ([key, "--tolerance", "-1"], "0 or more"),
        ([key, "--tolerance", "nan"], "0 or more"),
        ([key, "--tolerance", "much"], "much"),
        ([key, "epochs=3"], "epochs=3"),
    ]:
        assert stored.export(*arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert words in captured.err
    assert main(["--output", "model", *stored.places]) == 2
    assert "--output and --tolerance belong to --export" in capsys.readouterr().err
    failed = row | {"trial_key": "f" * 32, "status": "failed", "error": "It broke."}
    stored.store.commit(failed["trial_key"], {"trials": [failed]})
    assert stored.export("ffff") == 2
    assert "It broke." in capsys.readouterr().err
