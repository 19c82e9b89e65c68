"""The README's commands run as they stand, on a few small faces and with fewer epochs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from results import Store
from results.query import main as query

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line]
SMALL = ["epochs=1", "image_size=16", "folds=2", "seeds=1", "search.trials=2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working folder with my_faces in it."""
    folder = tmp_path_factory.mktemp("readme")
    for index, label in enumerate(("happy", "neutral")):
        (folder / "my_faces" / label).mkdir(parents=True)
        for person in ("anna", "ben", "cleo", "dan", "eva", "finn"):
            shade = 40 * index + sum(map(ord, person)) % 100
            name = f"{person}_{index + 1}.png"
            Image.new("RGB", (20, 20), (shade, 60, 90)).save(folder / "my_faces" / label / name)
    return folder


def test_it_names_both_commands():
    assert COMMANDS[:2] == ["make search", "make test"]


def test_make_knows_every_target_of_the_readme():
    for target in ["search", "test", "test-slow", "test-cluster", "lint", "bench", ".venv"]:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_pictures_are_there():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).is_file(), picture


def test_the_table_is_what_its_command_prints(capsysbinary, monkeypatch):
    """Same store, same command, same bytes."""
    monkeypatch.chdir(ROOT)
    [command] = [line for line in COMMANDS if "--table loss_weights" in line]
    words = shlex.split(command)
    assert words[:2] == ["python", "results/query.py"]
    printed = []
    for _ in range(2):
        assert query(words[2:]) == 0
        printed.append(capsysbinary.readouterr().out.decode())
    assert printed[0] == printed[1]
    assert f"```\n\n{printed[0]}\n" in README


def test_every_ablation_is_named():
    names = {file.stem for file in (ROOT / "study" / "conf" / "ablation").glob("*.yaml")}
    section = README.partition("## Ablations")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z_0-9]+)`", section)) >= names


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 23 commands
def test_the_tour_runs_from_top_to_bottom(home):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),  # for `-m`, as from the project's folder
    }
    ran = 0
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] in ("make", "source"):
            continue
        assert words[0] == "python"
        if "KEY" in words:
            trials = Store(home / "tables").read("trials", ["trial_key", "val_accuracy"]).to_pylist()
            words[words.index("KEY")] = next(row["trial_key"] for row in trials if row["val_accuracy"] is not None)[:12]
        if "STUDY" in words:
            studies = Store(home / "tables").read("studies", ["study", "ablation"]).to_pylist()
            words[words.index("STUDY")] = next(row["study"] for row in studies if row["ablation"] == "loss_form")
        script, *rest = words[1:]
        places = [f"storage.root={home / 'tables'}"]
        start = [script] if script == "-m" else [str(ROOT / script)]
        kept = any(
            word.startswith("storage.root=benchmarks/") for word in rest
        )  # the study that comes with the project
        if script == "-m" or any(word.startswith("storage.root=") for word in rest):
            places = []
        if "--export" in rest:
            places.append(f"dataset.cache={home / 'cache'}")
        elif script == "study/run.py":
            given = [word.partition("=")[0] for word in rest]
            small = [word for word in SMALL if not word.startswith("search") or "--search" in rest]
            small = [word for word in small if not (word.startswith("seeds") and "--search" in rest)]
            rest = [word for word in rest if word.partition("=")[0] not in [name.partition("=")[0] for name in small]]
            places += [f"dataset.cache={home / 'cache'}", *small]
            assert given
        done = subprocess.run(
            [sys.executable, *start, *rest, *places],
            cwd=ROOT if kept else home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip()
        ran += 1
    assert ran == 23
    assert Store(home / "elsewhere").read("trials").num_rows
