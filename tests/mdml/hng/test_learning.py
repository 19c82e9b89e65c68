"""A small generator, trained for less than a minute, knows whose face it has been shown better than the pixels of that face do."""

import numpy as np
import pytest
import torch

from datasets.drawn.action_units import CLASSES
from datasets.synthetic import LUMA, draw_people, true_neutrals
from mdml.hng import Recipe, train_generator
from mdml.hng.judging import by_subject, nearest_is_own, true_distances

TRAINED, HELD, SEED = 240, 60, 5
RECIPE = Recipe(
    epochs=7,
    width=16,
    identity_weight=0.0,
    pixel_weight=10.0,
    adversarial_weight=0.0,
    feature_epochs=1,
    learning_rate=1e-3,
    batch_size=16,
)


def drawn():
    """Expressive faces (N, 1, 64, 64) with labels and people (N,), and the true neutral face of everybody."""
    images, labels, people = draw_people(64, TRAINED + HELD, 1, 1.0, SEED)
    grey = ((images @ LUMA + 500) // 1000).astype(np.uint8)[:, None]
    truths = true_neutrals(image_size=64, channels=1, subjects=TRAINED + HELD, seed=SEED).transpose(0, 3, 1, 2)
    expressive = labels != CLASSES.index("neutral")
    faces = (torch.from_numpy(array[expressive]) for array in (grey, labels, people))
    return *faces, torch.from_numpy(truths.copy())


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a minute on an idle core
def test_generated_faces_are_found_among_the_true_ones_more_often_than_their_inputs():
    images, labels, people, truths = drawn()
    known, everybody = people < TRAINED, torch.arange(TRAINED)
    trained = train_generator(
        torch.cat([images[known], truths[:TRAINED]]),
        torch.cat([labels[known], torch.full_like(everybody, CLASSES.index("neutral"))]),
        torch.cat([people[known], everybody]),
        CLASSES.index("neutral"),
        RECIPE,
        0,
    )
    held, own = images[~known], people[~known] - TRAINED
    shares = []
    for faces in (held, trained.generate(held)):
        distances = true_distances(faces, truths[TRAINED:])
        found = by_subject(distances, own).float().mean().item()
        shares.append((found, nearest_is_own(distances, own).float().mean().item()))
    (given, given_images), (generated, generated_images) = shares
    assert generated > given + 0.05, shares
    assert generated_images > given_images, shares
