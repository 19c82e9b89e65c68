"""Every data set through the command line, on a miniature of its official layout."""

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from datasets import dataset_names
from datasets.card import card_of
from datasets.splits import COUNTED
from results import Store
from study.config import load
from study.run import main

ROOT = Path(__file__).resolve().parents[2]
ARMS = tuple(load([], "loss_form")["ablation"]["arms"])


def overrides_of(name, folder):
    """What a user types for a data set that lies in `folder`, made small: three people, and as many folds where they are counted."""
    (folder / name).mkdir()
    places = [f"dataset={name}", f"dataset.cache={folder / 'cache'}", f"storage.root={folder / f'{name}-tables'}"]
    if name == "synthetic":
        options = {"subjects": 3, "per_class": 1}
    else:
        expected = importlib.import_module(f"tests.datasets.miniatures.{name}").build(folder / name, people=3)
        options = {"root": folder / name / expected.root, **expected.options}
    folds = ["folds=3"] if card_of(name).fold_rule in COUNTED else []
    return [*places, *(f"dataset.{option}={value}" for option, value in options.items()), *folds, "image_size=16"]


def folds_of(name):
    return 1 if card_of(name).fold_rule == "official" else 3


@pytest.mark.parametrize("name", dataset_names())
def test_the_plan_of_every_data_set(name, tmp_path, capsys):
    assert main(["--dry-run", "--ablation", "loss_form", *overrides_of(name, tmp_path)]) == 0
    captured = capsys.readouterr()
    planned = [line.split("│")[1:6] for line in captured.out.splitlines() if line.startswith("│")]
    assert [cells[0].strip() for cells in planned] == list(ARMS)
    assert {int(cells[2]) for cells in planned} == {folds_of(name)}
    assert captured.err == ""
    assert not (tmp_path / f"{name}-tables").exists()


def test_the_plan_says_where_folds_are_by_image(tmp_path, capsys):
    overrides = overrides_of("rafdb", tmp_path)
    assert main(["--dry-run", *overrides, "fold_rule=balanced", "folds=2", "method=softmax"]) == 0
    assert "Nobody knows who is shown in rafdb: its 2 folds are by image" in capsys.readouterr().out


# The commands of users, whose trials a worker of this process does, one after the other: Ray knows nothing of data sets.
_DRIVER = """
import contextlib, json, sys
sys.path.insert(0, {root!r})
from study import engine
from study.run import main
from study.spec import TrialSpec
from tests.study import working

def done_here(config, spool, display, metric, code, ended, source, *rest):
    for row in working.in_turn([TrialSpec.parse(asked["spec"]) for asked in source.ahead], config, spool.store.root):
        ended(row)

engine.cluster, engine.run = lambda config: contextlib.nullcontext(), done_here
for arguments in json.loads(sys.stdin.read()):
    print("\\nSTATUS", main(arguments), flush=True)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of the stores of an ablation on every data set, and what the studies printed."""
    folder = tmp_path_factory.mktemp("every")
    small = ["--ablation", "loss_form", "epochs=1", "batch_size=16"]
    commands = [[*small, *overrides_of(name, folder)] for name in dataset_names()]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER.format(root=str(ROOT))],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return (
        folder,
        dict(zip(dataset_names(), done.stdout.split("\nSTATUS ")[1:], strict=True)),
        done.stdout + done.stderr,
    )


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("name", dataset_names())
def test_an_ablation_runs_on_every_data_set(name, trained):
    folder, statuses, printed = trained
    assert statuses[name].startswith("0"), printed
    store, card = Store(folder / f"{name}-tables"), card_of(name)
    rows = store.read("trials").to_pylist()
    assert {row["status"] for row in rows} == {"done"}
    assert Counter(row["arm"] for row in rows) == dict.fromkeys(ARMS, folds_of(name))
    assert {(row["dataset"], row["fold_rule"], row["folds"]) for row in rows} == {
        (name, card.fold_rule, folds_of(name))
    }
    assert store.read("studies")["metric"].to_pylist() == [card.metric]
    assert all(row[card.metric] is not None and row["val_accuracy"] is not None for row in rows)
