import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datasets import dataset_names, open_dataset
from datasets.prepare import main
from datasets.sources import ImageFile
from tests.datasets.miniatures import ckplus

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    ckplus.build(tmp_path / "root")
    return tmp_path / "root"


def prepare(*words):
    return main([str(word) for word in words])


def test_a_study_finds_what_was_prepared(root, tmp_path, capsys, monkeypatch):
    cache = tmp_path / "cache"
    command = ("ckplus", "classes=8", "--root", root, "--size", 16, "--channels", 1, "--cache", cache)
    assert prepare(*command) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# CK+\n")
    *_, arrow, md, csv, png = out.split()
    assert [Path(name).suffix for name in (arrow, md, csv, png)] == [".arrow", ".md", ".csv", ".png"]
    assert all(Path(name).is_file() for name in (arrow, md, csv, png))
    assert err == ""
    monkeypatch.setattr(ImageFile, "load", None)
    faces = open_dataset("ckplus", image_size=16, channels=1, cache=cache, root=root, classes=8)
    assert str(faces.path) == arrow
    assert faces.fingerprint in out
    times = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert prepare(*command) == 0
    assert capsys.readouterr().out == out
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == times


def test_options_stand_anywhere_and_paths_are_the_same_from_anywhere(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare("--size", 16, "ckplus", "--root", "root", "--cache", "cache", "frames=2") == 0
    first = capsys.readouterr().out
    monkeypatch.chdir(root)
    assert prepare("ckplus", "frames=2", "--root", "../root", "--cache", "../cache", "--size", 16) == 0
    assert capsys.readouterr().out == first
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 1


def test_drawn_faces_need_no_root(tmp_path, capsys):
    assert prepare("synthetic", "subjects=2", "identity=0.5", "--size", 16, "--cache", tmp_path) == 0
    assert "42 images" in capsys.readouterr().out


def test_the_list_names_every_data_set(capsys):
    assert prepare("--list") == 0
    out = capsys.readouterr().out
    assert all(f" {name} " in out for name in dataset_names())


ERRORS = [
    ((), "expected the name of a data set, found none"),
    (("ckpluss",), "found 'ckpluss'; did you mean 'ckplus"),
    (("ckplus",), "expected the folder of CK+, found none; add --root PATH."),
    (("ckplus", "--root", "nowhere"), "nowhere, found nothing"),
    (("ckplus", "--root", "ROOT", "classes"), "as OPTION=VALUE, found 'classes'"),
    (("ckplus", "--root", "ROOT", "classes=seven"), "expected classes to be a whole number, found 'seven'"),
    (("ckplus", "--root", "ROOT", "classes=9"), "found 9"),
    (("ckplus", "--root", "ROOT", "clases=8"), "found 'clases'; did you mean 'classes'"),
    (("ckplus", "--root", "ROOT", "align=yes"), "expected align to be true or false, found 'yes'"),
    (("ckplus", "--root", "ROOT", "--size", "2000"), "8 to 1024 pixels, found 2000"),
    (("ckplus", "--root", "ROOT", "--size", "large"), "invalid int value: 'large'"),
    (("ckplus", "--root", "ROOT", "--channels", "2"), "found 2"),
    (("ckplus", "--root", "ROOT", "--colour"), "--colour"),
    (("synthetic", "--root", "ROOT"), "found 'root'"),
    (("ckplus", "--root", "~nobody-of-that-name/CK+"), "expected a path, found '~nobody-of-that-name/CK+': "),
    (("ckplus", "--root", "x" * 300), "cannot be opened (File name too long); set dataset.root=PATH."),
    (("synthetic", "identity=x"), "expected identity to be a number, found 'x'"),
]


@pytest.mark.parametrize(("words", "said"), ERRORS, ids=range(len(ERRORS)))
def test_bad_input_gets_one_sentence_and_writes_nothing(root, tmp_path, capsys, words, said):
    words = [str(root) if word == "ROOT" else word for word in words]
    assert prepare(*words, "--cache", tmp_path / "cache") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("expected ")
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    assert not (tmp_path / "cache").exists()


def test_a_reader_who_has_seen_enough_ends_it_without_a_word(root, tmp_path):
    words = ["ckplus", "--root", root, "--cache", tmp_path / "cache", "--size", "16"]
    with subprocess.Popen(
        [sys.executable, "-m", "datasets.prepare", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    ) as run:
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode == 0
    assert len(list((tmp_path / "cache").iterdir())) == 4


SLOW = """
import os, sys, time
from datasets import prepare, sources
os.sched_getaffinity = lambda process: {0, 1}
load = sources.ImageFile.load
sources.ImageFile.load = lambda self, size: print("x", flush=True) or time.sleep(0.05) or load(self, size)
sys.exit(prepare.main(sys.argv[1:]))
"""


def test_an_interrupted_run_says_how_to_go_on(root, tmp_path, capsys, monkeypatch):
    cache = tmp_path / "cache"
    words = ["ckplus", "--root", str(root), "--cache", str(cache), "--size", "16"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    ) as run:
        for _ in range(20):  # of 63, the first 32 of which are under way
            run.stdout.readline()
        os.kill(run.pid, signal.SIGINT)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert err == "Interrupted; what was read is kept. Run the same command again to go on.\n"
    loaded, load = [], ImageFile.load
    monkeypatch.setattr(ImageFile, "load", lambda self, size: loaded.append(self) or load(self, size))
    assert prepare(*words) == 0
    assert 0 < len(loaded) < 63
    assert len(list(cache.iterdir())) == 4
