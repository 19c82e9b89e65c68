import numpy as np
import pytest
import torch

from mdml import MethodError
from mdml.subspace import contact_sheet, medoid, nearest_to_medoid, representatives


def brute_force(vectors, k):
    """Medoid and nearest by loops in plain Python."""
    rows = [list(map(float, vector)) for vector in vectors]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    def distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5

    centre = min(range(len(rows)), key=lambda i: distance(rows[i], mean))
    return sorted(range(len(rows)), key=lambda i: (i != centre, distance(rows[i], rows[centre])))[:k]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_nearest_to_the_medoid_by_brute_force(seed, dtype):
    vectors = np.random.default_rng(seed).standard_normal((12, 3)).astype(dtype)
    assert nearest_to_medoid(vectors, 5).tolist() == brute_force(vectors, 5)
    assert medoid(vectors) == brute_force(vectors, 1)[0]


def test_the_medoid_is_a_member_and_not_the_mean():
    """Mean of 0, 1, 2, 9 is 3: the closest member is 2, and its nearest are 1, 0, 9."""
    vectors = np.array([[0.0], [1], [2], [9]])
    assert nearest_to_medoid(vectors, 3).tolist() == [2, 1, 0]


def test_ties_go_to_the_first():
    vectors = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert nearest_to_medoid(vectors, 4).tolist() == [0, 2, 3, 1]


def test_equal_vectors_stay_in_order():
    assert nearest_to_medoid(np.ones((4, 2)), 3).tolist() == [0, 1, 2]


def test_a_small_group_gives_all_it_has():
    assert nearest_to_medoid(np.zeros((1, 2))).tolist() == [0]
    assert len(nearest_to_medoid(np.random.default_rng(0).random((20, 2)))) == 16


def test_groups_are_represented_by_their_own_members():
    generator = np.random.default_rng(0)
    vectors, groups = generator.standard_normal((40, 3)), generator.choice([2, 5, 11], 40)
    chosen = representatives(vectors, groups, 4)
    assert list(chosen) == [2, 5, 11]
    for group, rows in chosen.items():
        members = [i for i in range(40) if groups[i] == group]
        assert rows.tolist() == [members[i] for i in brute_force(vectors[members], 4)]


@pytest.mark.parametrize("function", [medoid, nearest_to_medoid])
def test_no_vectors_have_no_medoid(function):
    with pytest.raises(MethodError, match=r"\(0, 2\)"):
        function(np.zeros((0, 2)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_every_image_at_its_place_on_white(channels):
    images = torch.randint(0, 255, (6, channels, 4, 5), dtype=torch.uint8)
    rows = [np.array([3, 0]), np.array([5]), np.array([2, 2, 1])]
    sheet = contact_sheet(images, rows, 3)
    assert (sheet.shape, sheet.dtype) == ((3 * 6 + 2, 3 * 7 + 2, 3), np.uint8)
    expected = np.full_like(sheet, 255)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            for c in range(3):
                expected[2 + 6 * i : 6 + 6 * i, 2 + 7 * j : 7 + 7 * j, c] = images[image, c % channels]
    assert np.array_equal(sheet, expected)


def test_a_sheet_of_nothing():
    assert contact_sheet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), []).shape == (2, 98, 3)


@pytest.mark.parametrize(
    ("images", "row", "words"),
    [
        (torch.zeros(2, 1, 4, 4), [0], "float32"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), [0], "found"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), [0, 1, 0], "at most 2 images in a row of the sheet, found 3"),
    ],
)
def test_what_no_sheet_can_be_made_of(images, row, words):
    with pytest.raises(MethodError, match=words):
        contact_sheet(images, [np.array(row)], 2)
