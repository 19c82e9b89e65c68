import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError, dataset_names, open_dataset, synthetic
from datasets.drawn.action_units import CLASSES, PROTOTYPES, UNITS, sample
from datasets.synthetic import contact_sheet, draw_people

ROOT = Path(__file__).parents[2]
GOLDEN = [123.001, 125.947, 121.881, 118.883, 117.849, 119.997, 117.681]


def opened(cache, **options):
    few = {"image_size": 24, "channels": 1, "subjects": 3, "per_class": 2}
    return open_dataset("synthetic", cache=cache, **{**few, **options})


def test_every_person_shows_every_expression_equally_often(tmp_path):
    faces = opened(tmp_path)
    assert "synthetic" in dataset_names()
    assert faces.images.shape == (42, 24, 24, 1)
    assert faces.classes == ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    assert np.bincount(faces.labels).tolist() == [6] * 7
    for person in set(faces.subjects):
        assert np.bincount(faces.labels[faces.subjects == person]).tolist() == [2] * 7
    assert len(set(faces.sequences)) == 42


def fingerprint(cache):
    return opened(cache, channels=3).fingerprint


def test_two_processes_draw_the_same_pixels(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        first, second = pool.map(fingerprint, [tmp_path / "a", tmp_path / "b"])
    assert first == second


def test_a_second_open_draws_nothing(tmp_path, monkeypatch):
    first = opened(tmp_path)
    monkeypatch.setattr(synthetic, "draw_people", None)
    assert opened(tmp_path).fingerprint == first.fingerprint


@pytest.mark.parametrize("change", [{"seed": 1}, {"identity": 0.5}, {"subjects": 4}, {"per_class": 1}, {"channels": 3}])
def test_options_change_the_pixels(tmp_path, change):
    assert opened(tmp_path, **change).fingerprint != opened(tmp_path).fingerprint


@pytest.mark.parametrize("many", [{"subjects": 10**8}, {"per_class": 10**8}, {"subjects": 10**30}])
def test_what_cannot_fit_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, many):
    monkeypatch.setattr(synthetic, "draw_people", None)
    with pytest.raises(
        DatasetError, match=r"^expected drawn images that fit into the [\d.]+ GiB of memory here, found \d+ of "
    ):
        opened(tmp_path / "cache", **many)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=42 * 24**2 - 1))
    with pytest.raises(
        DatasetError, match=r"GiB of disk here, found 42 of 24 x 24 pixels, .*; set dataset\.subjects, .* lower\.$"
    ):
        opened(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_more_people_leave_the_first_ones_as_they_were(tmp_path):
    few, many = opened(tmp_path), opened(tmp_path, subjects=5)
    assert np.array_equal(few.images, many.images[: len(few)])


def test_the_drawing_is_the_one_its_number_names():
    # The average brightness of each expression of one person. Where it moves, raise `DRAWING` and note it anew.
    images, labels, _ = draw_people(24, 1, 2, 1.0, 0)
    means = [images[labels == label].mean() for label in range(7)]
    assert synthetic.DRAWING == 1
    assert np.allclose(means, GOLDEN, atol=0.02)


def test_identity_is_what_sets_people_apart():
    def spread(identity):
        images, _, people = draw_people(24, 6, 2, identity, 0)
        average = [images[people == person].mean(0) for person in range(6)]
        return np.var(average, axis=0).mean()

    none, half, whole = (spread(identity) for identity in (0.0, 0.5, 1.0))
    assert none < half < whole
    assert whole > 4 * none


@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_draws_the_same_face(channels):
    small, large = (draw_people(size, 1, 1, 1.0, 0)[0].astype(float) for size in (24, 96))
    shrunk = large.reshape(7, 24, 4, 24, 4, 3).mean((2, 4))
    assert np.abs(shrunk - small).mean() < 8


def test_prototypes_name_known_units_and_neutral_none():
    assert set(CLASSES) == set(PROTOTYPES)
    assert all(set(prototype) <= set(UNITS) for prototype in PROTOTYPES.values())
    assert PROTOTYPES["neutral"] == {}
    units = sample(np.random.default_rng(0), np.arange(7), weakest=0.6, stray=0.0)
    assert units.shape == (7, len(UNITS))
    assert units.min() >= 0
    assert units.max() <= 1
    assert units[CLASSES.index("neutral")].max() == 0
    assert units[CLASSES.index("happy"), UNITS.index(12)] > 0.4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subjects": 0}, "subjects to be a whole number of at least 1, found 0"),
        ({"per_class": 1.5}, "per_class to be a whole number of at least 1, found 1.5"),
        ({"seed": -1}, "seed to be a whole number of at least 0, found -1"),
        ({"identity": 3}, "identity to be within 0..2, found 3"),
        ({"identity": "much"}, "identity to be within 0..2, found 'much'"),
        ({"people": 3}, "found 'people'"),
    ],
)
def test_options_out_of_range_are_named(tmp_path, options, words):
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path / "cache", **options)
    assert words in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_the_contact_sheet_has_a_row_per_person_and_a_column_per_expression(tmp_path):
    target = tmp_path / "faces.png"
    command = [sys.executable, "-m", "datasets.synthetic", "--contact-sheet", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(target) in done.stdout
    assert done.stderr == ""
    with Image.open(target) as sheet:
        assert sheet.size == contact_sheet(people=8).size == (7 * 118 + 6, 8 * 118 + 30)


def test_the_contact_sheet_names_a_folder_that_is_not_there(tmp_path):
    command = [sys.executable, "-m", "datasets.synthetic", "--contact-sheet", str(tmp_path / "no" / "faces.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no/faces.png" in done.stderr
    assert "Traceback" not in done.stderr
