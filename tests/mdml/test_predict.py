"""The command line of a model."""

import json

import pytest
import torch
from PIL import Image

from mdml import predict
from mdml.exported import load
from mdml.models import BACKBONES
from mdml.picture import read_picture
from tests.mdml import tiny_model


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(BACKBONES, "small", tiny_model.SMALL)


@pytest.fixture
def model(tmp_path):
    tiny_model.write(tmp_path / "model", "mul_dml", slices=2, slice_dim=8)
    return tmp_path / "model"


@pytest.fixture
def faces(tmp_path):
    files = [tmp_path / f"face {shade}.png" for shade in (10, 120, 230)]
    for file in files:
        Image.linear_gradient("L").rotate(int(file.stem.split()[1])).save(file)
    return files


@pytest.fixture
def refused(capsys):
    """Run a command line that must be refused; its sentence."""

    def run(*arguments):
        assert predict.main([*map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err

    return run


def test_json_has_a_row_an_image(model, faces, capsys, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 2)
    assert predict.main(["--model", str(model), *map(str, faces), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    pixels = torch.stack([read_picture(file, 16, 1) for file in faces])
    scores = load(model).probabilities(pixels)
    assert [row["image"] for row in rows] == [str(file) for file in faces]
    for row, expected in zip(rows, scores, strict=True):
        assert list(row["probabilities"]) == tiny_model.CLASSES
        assert list(row["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
        assert row["prediction"] == tiny_model.CLASSES[expected.argmax()]


def test_the_table_has_the_same(model, faces, capsys):
    assert predict.main([*map(str, faces), "--model", str(model)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["image", "prediction", *tiny_model.CLASSES]
    assert len({len(line) for line in (head, *lines)}) == 1
    rows = predict.predict(load(model), faces)
    for line, row in zip(lines, rows, strict=True):
        assert line.split()[2:] == [row["prediction"], *(f"{share:.3f}" for share in row["probabilities"].values())]


def test_a_terminal_obeys_no_name(tmp_path, model, faces, capsys):
    """Neither the name of a class nor that of a file reaches the terminal with its control characters."""
    tiny_model.change(model, classes=["happy\x1b[2J", "\ud800", "sad\n"])
    faces[0].rename(tmp_path / "face\x1b[2J\udcff.png")
    assert predict.main(["--model", str(model), str(tmp_path / "face\x1b[2J\udcff.png")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "happy\\x1b[2J" in out
    assert "face\\x1b[2J\\udcff.png" in out
    assert len(out.splitlines()) == 2


def test_bad_input_is_one_sentence_and_prints_nothing(model, faces, refused, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    assert "text.png" in refused("--model", model, faces[0], tmp_path / "text.png")
    assert "nowhere.png" in refused("--model", model, faces[0], tmp_path / "nowhere.png")
    assert "nowhere" in refused("--model", tmp_path / "nowhere", faces[0])
    assert "IMAGE" in refused("--model", model)
    assert "--model" in refused(faces[0])
    assert "xml" in refused("--model", model, faces[0], "--format", "xml")
    tiny_model.put(model, b"not tensors")
    assert "safetensors" in refused("--model", model, faces[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said(model, faces, refused):
    assert "found none" in refused("--model", model, faces[0], "--device", "cuda")


def test_that_faces_must_be_aligned_is_said(model, faces, capsys):
    tiny_model.change(model, aligned=True)
    assert predict.main(["--model", str(model), str(faces[0])]) == 0
    assert "aligned faces" in capsys.readouterr().err


def test_other_numerics_are_said(model, faces, capsys):
    tiny_model.change(model, numerics="0.7")
    assert predict.main(["--model", str(model), str(faces[0])]) == 0
    assert "numerics 0.7" in capsys.readouterr().err
