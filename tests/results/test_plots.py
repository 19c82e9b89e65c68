import sys

import matplotlib as mpl
import pytest
from PIL import Image

from results import Store, StoreError
from results.plots import comparison_plot, learning_curves
from tests.results.fakes import fake_ablation, fake_search

MANY = {f"arm_{index}": 0.6 + index / 50 for index in range(10)}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "tables")


def check(path):
    """The picture has a size, a white margin and more than a few colours."""
    with Image.open(path) as image:
        assert min(image.size) > 150
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20


@pytest.mark.parametrize("arms", [{"softmax": 0.7}, {"softmax": 0.7, "dual": 0.8}, MANY])
def test_an_ablation_is_drawn_with_one_arm_two_and_many(store, tmp_path, arms):
    fake_ablation(store, arms=arms, folds=2, seeds=1, skip=[("softmax", 0, 0), ("arm_1", 0, 0), ("arm_1", 1, 0)])
    check(learning_curves(store, "demo", tmp_path / "new folder" / "curves.png"))
    check(comparison_plot(store, "demo", tmp_path / "comparison.png"))


def test_a_single_trial_has_no_band_and_says_so(store, tmp_path):
    fake_ablation(store, folds=1, seeds=1)
    text = learning_curves(store, "demo", tmp_path / "one.svg").read_text()
    assert "none where one trial, n = 1" in text
    fake_ablation(store, "many")
    assert "none where" not in learning_curves(store, "many", tmp_path / "many.svg").read_text()


def test_a_search_is_drawn(store, tmp_path):
    fake_search(store)
    check(learning_curves(store, "hunt", tmp_path / "search.png"))


def test_the_callers_settings_and_pyplot_are_left_alone(store, tmp_path):
    fake_ablation(store, folds=1, seeds=1)
    before = dict(mpl.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    learning_curves(store, "demo", tmp_path / "curves.svg")
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")


def test_what_cannot_be_drawn_is_one_sentence(store, tmp_path):
    fake_ablation(store, skip=[(arm, f, s) for arm in ("softmax", "dual") for f in range(3) for s in range(2)])
    for draw in (learning_curves, comparison_plot):
        with pytest.raises(StoreError, match="train its trials first"):
            draw(store, "demo", tmp_path / "x.png")
        with pytest.raises(StoreError, match="There is no study lost"):
            draw(store, "lost", tmp_path / "x.png")
    fake_ablation(store, "trained", folds=1, seeds=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Expected a file that can be written"):
        learning_curves(store, "trained", tmp_path / "file" / "x.png")
    assert not (tmp_path / "x.png").exists()
