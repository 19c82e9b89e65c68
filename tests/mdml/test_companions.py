"""Which images accompany a query: every rule against loops over all training images, fall-backs included."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from mdml import MethodError
from mdml.companions import GeneratedReferences, IdentityTuplets, MinedReferences, RandomTriplets
from mdml.relatives import descriptors
from mdml.session import TrainingSet

CLASSES = 4
# Subject 7 shows all four expressions, 3 lacks one, 5 lacks two, 9 shows one only; class 3 has a single image.
FACES = [(7, 0), (7, 0), (7, 1), (7, 2), (7, 3), (3, 0), (3, 1), (3, 1), (3, 2), (5, 0), (5, 2), (5, 2), (9, 1), (9, 1)]
SUBJECTS, LABELS = ([face[i] for face in FACES] for i in (0, 1))
EVERYONE = range(len(FACES))


def training(subjects=SUBJECTS, labels=LABELS, classes=CLASSES, side=16):
    """The training images lie scattered among others, and no two images are alike."""
    count = len(labels)
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(256, (2 * count + 1, 3, side, side), generator=generator, dtype=torch.uint8)
    index = torch.randperm(len(images), generator=generator)[:count]
    named = None if subjects is None else torch.tensor(subjects)
    return TrainingSet(images, torch.tensor(labels), named, index, classes, 0, 0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(companions, query, times=200):
    """What one query gets in many draws: a list of T positions each."""
    queries = torch.full((times,), query)
    return companions.choose(queries, seeded()).tolist()


def likeness(faces):
    """Cosine of the centred 16 x 16 grey images, all with all, in numpy."""
    pixels = faces.images[faces.index].numpy().astype(np.float64).mean(1)
    count, side = len(pixels), pixels.shape[-1] // 16
    small = pixels.reshape(count, 16, side, 16, side).mean((2, 4)).reshape(count, -1)
    small -= small.mean(1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    return small @ small.T


def strangers(faces, query):
    """Images of other classes and other subjects, the most similar first."""
    near = likeness(faces)[query]
    subjects, labels = faces.subjects.tolist(), faces.labels.tolist()
    others = [i for i in range(len(labels)) if labels[i] != labels[query]]
    allowed = [i for i in others if subjects[i] != subjects[query]] or others
    return sorted(allowed, key=lambda i: -near[i])


EVERY = {
    "random triplets": (RandomTriplets, 2, False),
    "identity tuplets": (lambda faces: IdentityTuplets(faces, 2), 5, False),
    "mined references": (MinedReferences, 1, True),
}
every_kind = pytest.mark.parametrize(("make", "per_query", "shares"), EVERY.values(), ids=EVERY)


@every_kind
def test_draws_images_and_labels_of_the_chosen_query_after_query(make, per_query, shares):
    faces = training()
    companions = make(faces)
    queries = torch.tensor([4, 0, 12, 12, 9])
    images, labels = companions.draw(queries, seeded(1))
    chosen = companions.choose(queries, seeded(1))
    assert (companions.per_query, companions.shares_view) == (per_query, shares)
    assert chosen.shape == (5, per_query)
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert images.shape == (5 * per_query, 3, 16, 16)
    for at, position in enumerate(chosen.flatten().tolist()):
        assert torch.equal(images[at], faces.images[faces.index[position]])
        assert labels[at] == LABELS[position]


@every_kind
def test_the_generator_alone_decides(make, per_query, shares):
    queries = torch.arange(len(FACES))
    torch.manual_seed(0)
    first = make(training()).choose(queries, seeded(5))
    state = torch.get_rng_state()
    companions = make(training())
    companions.choose(queries, seeded(4))
    assert torch.equal(first, companions.choose(queries, seeded(5)))
    assert not torch.equal(first, companions.choose(queries, seeded(6)))
    assert torch.equal(torch.get_rng_state(), state)


@every_kind
def test_one_class_has_no_negatives(make, per_query, shares):
    with pytest.raises(MethodError, match=r"at least two classes, found class 2 alone\."):
        make(training([1, 1, 2], [2, 2, 2]))


@pytest.mark.parametrize("make", [MinedReferences, IdentityTuplets])
def test_what_goes_by_subject_says_that_it_needs_them(make):
    with pytest.raises(
        MethodError, match=r"chooses images by who is on them, and this data set names no subjects: use"
    ):
        make(training(None))


@pytest.mark.parametrize("query", EVERYONE)
def test_random_triplets_are_any_of_the_class_and_any_of_the_others(query):
    positives, negatives = zip(*drawn(RandomTriplets(training(None)), query, 400), strict=True)
    same = {i for i in EVERYONE if LABELS[i] == LABELS[query] and i != query}
    assert set(positives) == (same or {query})
    assert set(negatives) == {i for i in EVERYONE if LABELS[i] != LABELS[query]}


def test_random_triplets_are_uniform():
    """Query 0 has 3 others of class 0 and 10 images of other classes: 1/3 and 1/10 of 6000 draws, within 5 deviations."""
    positives, negatives = zip(*drawn(RandomTriplets(training(None)), 0, 6000), strict=True)
    for counts, choices in ((Counter(positives), 3), (Counter(negatives), 10)):
        assert len(counts) == choices
        allowance = 5 * (6000 / choices * (1 - 1 / choices)) ** 0.5
        assert all(abs(count - 6000 / choices) < allowance for count in counts.values())


@pytest.mark.parametrize("query", EVERYONE)
def test_a_mined_reference_is_another_expression_of_the_same_subject(query):
    faces = training()
    relatives = {i for i in EVERYONE if SUBJECTS[i] == SUBJECTS[query] and LABELS[i] != LABELS[query]}
    found = {reference for (reference,) in drawn(MinedReferences(faces), query)}
    assert found == (relatives or {strangers(faces, query)[0]})


def test_a_mined_reference_of_a_subject_with_one_expression_is_the_nearest_stranger():
    faces = training()
    assert {reference for (reference,) in drawn(MinedReferences(faces), 13)} == {strangers(faces, 13)[0]}
    assert "2 of 14 images are of subjects with one expression" in MinedReferences(faces).note


@pytest.mark.parametrize("wanted", [1, 2, 3, 7])
@pytest.mark.parametrize("query", EVERYONE)
def test_positives_are_other_images_of_the_class_evenly_used(query, wanted):
    others = [i for i in EVERYONE if LABELS[i] == LABELS[query] and i != query] or [query]
    seen = set()
    for row in drawn(IdentityTuplets(training(), wanted), query, 60):
        counts = Counter(row[:wanted])
        assert set(counts) <= set(others)
        assert len(counts) == min(wanted, len(others))
        assert max(counts.values()) - min(counts[other] for other in others) <= 1
        seen |= set(counts)
    assert seen == set(others)


@pytest.mark.parametrize("query", EVERYONE)
def test_negatives_are_one_of_every_other_expression_of_the_subject_else_the_nearest_strangers(query):
    faces = training()
    own = {
        label: {i for i in EVERYONE if SUBJECTS[i] == SUBJECTS[query] and LABELS[i] == label}
        for label in range(CLASSES)
        if label != LABELS[query]
    }
    lacking = sum(not members for members in own.values())
    substitutes = strangers(faces, query)[:lacking]
    seen = set()
    for row in drawn(IdentityTuplets(faces, 1), query):
        negatives = row[1:]
        assert len(negatives) == CLASSES - 1
        assert Counter(i for i in negatives if SUBJECTS[i] != SUBJECTS[query]) == Counter(substitutes)
        for members in own.values():
            assert len(members & set(negatives)) == min(1, len(members))
        seen |= set(negatives)
    assert seen == set().union(substitutes, *own.values())


def test_fewer_negatives_than_expressions_are_some_of_them_and_more_are_several_of_each():
    faces = training()
    pairs = {frozenset(LABELS[i] for i in row[1:]) for row in drawn(IdentityTuplets(faces, 1, 2), 0)}
    assert pairs == {frozenset(pair) for pair in itertools.combinations((1, 2, 3), 2)}
    for row in drawn(IdentityTuplets(faces, 1, 6), 0):
        assert Counter(LABELS[i] for i in row[1:]) == {1: 2, 2: 2, 3: 2}


def test_substitutes_begin_again_where_they_run_out():
    """Three faces of three subjects, one each of two classes: class 1 has a single stranger for all of 3 negatives."""
    faces = training([1, 2, 3], [0, 0, 1], classes=4)
    assert drawn(IdentityTuplets(faces, 1), 0, 5) == [[1, 2, 2, 2]] * 5
    (row,) = drawn(IdentityTuplets(faces, 1), 2, 1)
    assert row == [2, *(strangers(faces, 2) * 2)[:3]]


def test_the_only_subject_substitutes_for_himself():
    faces = training([4, 4, 4], [0, 1, 1], classes=3)
    for query in range(3):
        for row in drawn(IdentityTuplets(faces, 1), query, 20):
            assert not (faces.labels[row[1:]] == faces.labels[query]).any()


def test_a_class_that_no_training_image_shows_is_substituted():
    faces = training(classes=6)
    for row in drawn(IdentityTuplets(faces, 1), 0, 20):
        others = [i for i in row[1:] if SUBJECTS[i] != SUBJECTS[0]]
        assert sorted(others) == sorted(strangers(faces, 0)[:2])


def test_the_note_counts_the_images_that_need_substitutes():
    """All but the five of subject 7, who shows every expression."""
    assert "9 of 14 images are of subjects who lack some" in IdentityTuplets(training()).note


@pytest.mark.parametrize("side", [16, 48])
def test_descriptors_are_the_likeness_of_small_grey_images(side):
    faces = training(side=side)
    looks = descriptors(faces)
    assert looks.shape == (len(FACES), 256)
    np.testing.assert_allclose((looks @ looks.T).numpy(), likeness(faces), atol=1e-5)


def test_descriptors_do_not_see_light_and_survive_an_image_without_contrast():
    faces = training()
    dim = faces._replace(images=faces.images // 4 * 2)
    bright = faces._replace(images=faces.images // 4 * 2 + 100)
    torch.testing.assert_close(descriptors(dim), descriptors(bright))
    black = faces._replace(images=torch.zeros_like(faces.images))
    assert not descriptors(black).any()
    assert MinedReferences(black).choose(torch.tensor([13]), seeded()).shape == (1, 1)


def test_many_images_are_gone_through_in_pieces():
    """2500 faces of one expression a subject: the nearest stranger of each, by a loop over pieces of another size."""
    count = 2500
    faces = training(list(range(count)), [i % 3 for i in range(count)], classes=3)
    looks, labels = descriptors(faces), faces.labels
    found = MinedReferences(faces).choose(torch.arange(count), seeded())[:, 0]
    for query in range(0, count, 97):
        near = (looks @ looks[query]).masked_fill(labels == labels[query], -torch.inf)
        assert near[found[query]] >= near.max() - 1e-6


def test_a_generated_reference_is_the_one_of_its_query():
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 4, 4)
    companions = GeneratedReferences(images)
    drawn_images, labels = companions.draw(torch.tensor([5, 0, 3]), seeded())
    assert drawn_images[:, 0, 0, 0].tolist() == [5, 0, 3]
    assert labels.tolist() == [-1, -1, -1]
    assert (companions.per_query, companions.shares_view) == (1, True)
