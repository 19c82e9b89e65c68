import io

import pytest
from PIL import Image

from results import Store, StoreError
from results.embeddings import distance_plot, plane_plot, write_pictures
from tests.results.fakes import PNG, fake_ablation, fake_distances, fake_trial
from tests.results.test_plots import check


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "tables")


def one_slice(store, arms):
    """An ablation whose arms have one slice each."""
    fake_ablation(store, arms=dict.fromkeys(arms, 0.7), folds=1, seeds=1)
    for row in store.read("members", study="demo").to_pylist():
        key = row["trial_key"]
        rows = fake_trial(key, arm=row["arm"], retrained=1)
        rows["distances"] = [fake_distances(key, "test", 0, 0.15, kind) for kind in ("inter", "intra")]
        store.commit(key, rows)


@pytest.mark.parametrize("number", [1, 3, 20])
def test_the_distances_of_arms_of_one_slice_are_drawn(store, tmp_path, number):
    one_slice(store, [f"arm_{index}" for index in range(number)])
    check(distance_plot(store, "demo", tmp_path / "new folder" / "distances.png"))


def test_the_distances_of_arms_of_several_slices_are_drawn(store, tmp_path):
    fake_ablation(store, folds=1, seeds=1, whole=True)
    check(distance_plot(store, "demo", tmp_path / "distances.png"))
    check(distance_plot(store, "demo", tmp_path / "train.png", "train"))


def test_one_plane_an_arm_is_drawn(store, tmp_path):
    fake_ablation(store, folds=2, seeds=1, whole=True)
    check(plane_plot(store, "demo", tmp_path / "tsne.png"))


def test_pictures_are_written_as_they_are_stored(store, tmp_path):
    rows = fake_trial("k", whole=True)
    rows["pictures"] = [{"trial_key": "k", "name": name, "png": PNG} for name in ("references", "a/b c")]
    store.commit("k", rows)
    store.write("members", "demo", [{"study": "demo", "arm": "dual", "index": 0, "trial_key": "k"}])
    paths = write_pictures(store, "demo", tmp_path / "pictures")
    assert [path.name for path in paths] == ["k-a-b-c.png", "k-references.png"]
    assert all(path.read_bytes() == PNG for path in paths)
    with Image.open(io.BytesIO(PNG)) as image:
        assert image.size == (8, 6)


def test_nothing_to_draw_or_no_place_to_write_is_one_sentence(store, tmp_path):
    fake_ablation(store, folds=1, seeds=1)
    with pytest.raises(StoreError, match="has no distances"):
        distance_plot(store, "demo", tmp_path / "x.png")
    with pytest.raises(StoreError, match=r"evaluation\.tsne=true"):
        plane_plot(store, "demo", tmp_path / "x.png")
    assert write_pictures(store, "demo", tmp_path / "pictures") == []
    assert not (tmp_path / "pictures").exists()
    fake_ablation(store, "whole", folds=1, seeds=1, whole=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        write_pictures(store, "whole", tmp_path / "file")
