from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from mdml.errors import MethodError
from mdml.hng import Recipe
from mdml.hng.training import train_generator
from mdml.methods import make_method
from mdml.methods.idferm import IDFERM
from mdml.session import TrainingSet
from mdml.train import Recipe as TrainingRecipe
from mdml.train import Training
from tests.mdml import toy

SMALL: dict[str, Any] = {"hng_epochs": 1, "hng_width": 2, "slice_dim": 16}
TRAIN = torch.arange(5, 20)


@cache
def begun(seed=0, spoilt=False):
    """The session of a training as its first epoch begins; `spoilt` changes the images that are not trained on."""
    images = toy.images()
    if spoilt:
        images[:5] = 255 - images[:5]
    session = IDFERM(**SMALL).session(
        TrainingSet(images, toy.labels()[TRAIN], TRAIN // toy.CLASSES, TRAIN, toy.CLASSES, 0, seed)
    )
    session.begin_epoch(1, 2, lambda: torch.empty(0))
    return session


def test_the_options_are_the_generators():
    chosen = IDFERM(**SMALL, identity_weight=0.2, vgg_weights="a.pt", hng_batch_size=8, hng_learning_rate=0.1)
    expected = Recipe(epochs=1, width=2, identity_weight=0.2, vgg_weights="a.pt", batch_size=8, learning_rate=0.1)
    assert chosen.generator_recipe() == expected
    assert IDFERM().generator_recipe() == Recipe()
    assert isinstance(make_method("idferm", SMALL), IDFERM)


def test_the_references_are_generated_from_the_queries_at_their_size():
    session = begun()
    drawn, labels = session.companions.draw(torch.tensor([3, 0, 14]), torch.Generator())
    assert (session.companions.per_query, session.companions.shares_view) == (1, True)
    assert labels.tolist() == [-1, -1, -1]
    own = toy.images()[TRAIN]
    expected = train_generator(
        own, toy.labels()[TRAIN], TRAIN // toy.CLASSES, 0, IDFERM(**SMALL).generator_recipe(), 0
    ).generate(own)
    assert torch.equal(drawn, expected[[3, 0, 14]])
    assert drawn.dtype == torch.uint8


def test_other_images_than_those_of_the_training_change_nothing():
    one, other = begun(), begun(spoilt=True)
    assert torch.equal(one.companions.images, other.companions.images)
    assert np.array_equal(one.pictures["generated references"], other.pictures["generated references"])
    assert one.notes == other.notes


def test_the_seed_decides():
    assert not torch.equal(begun().companions.images, begun(seed=1).companions.images)


def test_the_generator_is_trained_once():
    session = begun()
    companions = session.companions
    session.begin_epoch(2, 2, lambda: torch.empty(0))
    assert session.companions is companions


def test_the_sheet_has_inputs_references_and_targets_of_training_subjects():
    session = begun()
    sheet = session.pictures["generated references"]
    step = toy.SIDE + 2
    tiles = sheet[2:, 2:].reshape(3, step, -1, step, 3)[:, :-2, :, :-2, 0].transpose(0, 2, 1, 3)
    own, made = toy.images()[TRAIN][:, 0].numpy(), session.companions.images[:, 0].numpy()
    for given, generated, target in tiles.transpose(1, 0, 2, 3):
        (place,) = [i for i in range(len(TRAIN)) if np.array_equal(own[i], given)]
        assert np.array_equal(made[place], generated)
        person = TRAIN[place] // toy.CLASSES
        assert np.array_equal(toy.images()[person * toy.CLASSES, 0].numpy(), target)  # The neutral class is 0.
        assert toy.labels()[TRAIN[place]] != 0


def test_the_notes_tell_what_stands_for_what():
    notes = begun().notes
    assert set(notes) == {"hng_pairs", "phi", "psi", "references"}
    assert all(isinstance(note, str) for note in notes.values())


@pytest.mark.parametrize(
    ("subjects", "neutral", "words"),
    [(True, None, "the method rml"), (True, 7, "the method rml"), (False, 0, "names no subjects")],
)
def test_what_it_cannot_learn_from_is_told_before_any_training(subjects, neutral, words):
    people = TRAIN // toy.CLASSES if subjects else None
    training = TrainingSet(toy.images(), toy.labels()[TRAIN], people, TRAIN, toy.CLASSES, neutral, 0)
    with pytest.raises(MethodError, match=words):
        make_method("idferm", SMALL).session(training)


@pytest.mark.parametrize(
    ("option", "value"),
    [("hng_epochs", 0), ("hng_width", 0), ("pixel_weight", -1.0), ("hng_learning_rate", 0.0), ("weight", -1.0)],
)
def test_options_out_of_range_are_told(option, value):
    with pytest.raises(MethodError, match=rf"^method\.{option} must be .*found {value}\.$"):
        make_method("idferm", {option: value})


def test_it_trains_and_repeats_bit_for_bit():
    def records():
        method = make_method("idferm", SMALL)
        network = toy.network(method)
        recipe = TrainingRecipe(epochs=2, batch_size=6, learning_rate=1e-3)
        session = toy.session(method, TRAIN)
        found = Training(network, method, recipe, toy.images(), toy.labels(), TRAIN, {}, 0, session)
        return [{key: value for key, value in record.items() if "seconds" not in key} for record in found]

    one, other = records(), records()
    assert one == other
    assert all(record["metric_loss"] > 0 for record in one)
