"""Every method of the papers trains through the command line, on drawn faces and, where they are, on real ones."""

from pathlib import Path

import pytest

from mdml.methods import method_names

LONDON = Path(__file__).resolve().parents[3] / "shared" / "data" / "london"
# As little as every method can be trained on: folds of two people, and a generator that has hardly learnt.
TINY = [
    *("epochs=3", "folds=2", "image_size=32", "batch_size=70"),
    *(f"ablation.arms.idferm-{form}.hng_{size}" for form in ("adaptive", "fixed") for size in ("epochs=1", "width=4")),
]
METHODS = set(method_names())


def trained(project, *arguments):
    """Run the ablation all_methods; its trials, all of them done."""
    project.run("--ablation", "all_methods", *TINY, f"storage.root={project.tables}", *arguments)
    rows = project.read("trials")
    assert {row["method"] for row in rows} == METHODS, "a method without an arm in all_methods"
    assert all(row["status"] == "done" for row in rows)
    return rows


@pytest.mark.slow
def test_every_method_trains_on_drawn_faces(project):
    rows = trained(project, "dataset.subjects=6", "dataset.per_class=2", f"dataset.cache={project.folder / 'cache'}")
    assert all(0 <= row["test_accuracy"] <= 1 for row in rows)
    assert all(row["epochs"] == 3 and row["train_loss"] is not None for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(not LONDON.is_dir(), reason="needs the real faces beside the checkout")
def test_every_method_trains_on_real_faces(project):
    rows = trained(
        project, "dataset=folder", f"dataset.root={LONDON}", f"dataset.cache={project.folder / 'cache'}", "epochs=1"
    )
    assert all(0 <= row["test_accuracy"] <= 1 for row in rows)
