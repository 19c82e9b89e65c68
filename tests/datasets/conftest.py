import numpy as np
import pytest
from PIL import Image

from datasets import FaceSet, write_faceset


@pytest.fixture
def photographs(tmp_path):
    """A good folder of 3 people with two expressions, in colour and of uneven sizes."""
    root = tmp_path / "photographs"
    random = np.random.default_rng(0)
    for label in ("happy", "sad"):
        (root / label).mkdir(parents=True)
        for person in range(3):
            pixels = random.integers(0, 256, (30 + person, 40, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"P{person}_{label}.png")
    return root


@pytest.fixture
def make_faces(tmp_path):
    """A FaceSet of one-pixel-wide images from labels and subjects alone."""

    def make(labels, subjects, sequences=None, classes=None, seed=0):
        classes = classes or [f"class{number}" for number in range(max(labels) + 1)]
        images = np.random.default_rng(seed).integers(0, 256, (len(labels), 2, 2, 1), np.uint8)
        sequences = [f"{index}" for index in range(len(labels))] if sequences is None else sequences
        path = tmp_path / f"faces-{len(list(tmp_path.iterdir()))}.arrow"
        return FaceSet.open(
            write_faceset(
                path,
                name="made",
                images=images,
                labels=labels,
                subjects=subjects,
                sequences=sequences,
                classes=classes,
            )
        )

    return make
