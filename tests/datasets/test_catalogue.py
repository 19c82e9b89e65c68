"""README.md of the data sets: it says what the cards say, and its commands and its data set of one's own run as they stand."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datasets import catalogue, dataset_names
from tests.datasets.miniatures import face

PROJECT = Path(__file__).resolve().parents[2]
TEXT = catalogue.README.read_text("utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
FILES = dict(re.findall(r"```(?:python|yaml) (\S+)\n(.*?)```", TEXT, re.DOTALL))
FOLDERS = {"CK+": "ckplus", "FERPlus": "ferplus", "AffectNet": "affectnet", "JAFFE": "jaffe", "BU-3DFE": "bu3dfe"}
SMALL = {"epochs": "epochs=1", "image_size": "image_size=16", "seeds": "seeds=1"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project with the README's own data set in it, and beside its rooms the folders that the README names."""
    root = tmp_path_factory.mktemp("checkout")
    for room in ("datasets", "mdml", "results", "study"):
        shutil.copytree(PROJECT / room, root / room, ignore=shutil.ignore_patterns("__pycache__", "cache", "tables"))
    for name, text in FILES.items():
        (root / name).write_text(text)
    for folder, name in FOLDERS.items():
        (root / folder).mkdir()
        importlib.import_module(f"tests.datasets.miniatures.{name}").build(
            root / folder, people=6 if name == "ckplus" else 3
        )
    people = ("anna", "ben", "cleo", "dan", "eva", "finn")
    for word in ("happy", "neutral", "sad"):
        (root / "my_faces" / word).mkdir(parents=True)
        for person, name in enumerate(people):
            face(person, word).save(root / "my_faces" / word / f"{name}_1.png")
    (root / "our_films" / "frames").mkdir(parents=True)
    rows = ["file,expression,person,film"]
    for person, name in enumerate(people):
        for word in ("neutral", "happiness", "surprise"):
            for take in range(3):
                rows.append(f"{len(rows):04d}.png,{word},{name},{name}-{word}")
                face(person, word, take).save(root / "our_films" / "frames" / f"{len(rows) - 1:04d}.png")
    (root / "our_films" / "labels.csv").write_text("\n".join([*rows, "9999.png,neutral,anna,anna-neutral"]))
    return root


def run(checkout, *words):
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_it_says_what_the_cards_say():
    assert catalogue.filled(TEXT) == TEXT, "run python -m datasets.catalogue"


def test_it_names_every_data_set():
    for name in dataset_names():
        assert f"| [`{name}`](#{name}) |" in TEXT
        assert f"\n### {name}\n" in TEXT


def test_its_links_lead_somewhere():
    headings = re.findall(r"^##+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#(.*?)\)", TEXT)) <= anchors
    assert "datasets/README.md" in (PROJECT / "README.md").read_text("utf-8")


def test_a_data_set_of_ones_own(checkout):
    said = run(checkout, "-m", "datasets.prepare", "ours", "--root", "our_films", "--size", "16", "most=2")
    assert "36 images of 6 people" in said
    assert "| more frames of the film than asked for | 18 | `labels.csv row 4` |" in said
    assert "| image is missing | 1 | `labels.csv row 56` |" in said
    assert "| `ours`" not in TEXT
    run(checkout, "-m", "datasets.catalogue")
    assert "| [`ours`](#ours) | Our films | 3 | open | open |" in (checkout / "datasets/README.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_its_commands_run_as_they_stand(checkout):
    said = {}
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "python"
        if words[0] == "study/run.py":
            given = {word.partition("=")[0]: word for word in words}
            # The released parts are one fold.
            small = SMALL if "dataset=ferplus" in words else {**SMALL, "folds": "folds=2"}
            words = [word for key, word in given.items() if key not in small] + list(small.values())
        if words[0] != "-m":
            words.append(f"storage.root={checkout / 'tables'}")
        said[command] = run(checkout, *words)
        assert said[command].strip(), command
    transfers = next(text for command, text in said.items() if "FROM transfers" in command)
    assert all(name in transfers for name in ("affectnet", "ckplus", "jaffe", "bu3dfe"))
    assert len(said) == len(COMMANDS) == 12
