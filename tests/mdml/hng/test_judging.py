import math

import numpy as np
import pytest
import torch

from mdml.errors import MethodError
from mdml.hng.judging import by_subject, nearest_is_own, true_distances

# Distances of six images, two of each of three subjects, to three true faces.
DISTANCES = torch.tensor([[1.0, 2, 3], [9, 1, 9], [5, 1, 5], [5, 1, 5], [3, 3, 2], [2, 9, 2]])
SUBJECTS = torch.tensor([0, 0, 1, 1, 2, 2])


def test_distances_against_a_loop():
    images = torch.randint(256, (3, 2, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    truths = torch.randint(256, (2, 2, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)

    def standard(image):
        return np.stack([(c - c.mean()) / c.std() for c in image.numpy().astype(float)])

    found = true_distances(images, truths)
    for i in range(3):
        for j in range(2):
            expected = math.sqrt(((standard(images[i]) - standard(truths[j])) ** 2).sum())
            assert found[i, j].item() == pytest.approx(expected, rel=1e-4)


def test_light_and_contrast_do_not_count():
    image = torch.randint(100, (1, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert true_distances(image, 2 * image + 10).item() == pytest.approx(0, abs=1e-2)


def test_the_rules():
    assert nearest_is_own(DISTANCES, SUBJECTS).tolist() == [True, False, True, True, True, False]
    assert by_subject(DISTANCES, SUBJECTS).tolist() == [
        False,
        True,
        False,
    ]  # Half of the images are not more than half.
    assert by_subject(DISTANCES, SUBJECTS, "mean").tolist() == [False, True, True]  # 5, 1.5, 6; 5, 1, 5; 2.5, 6, 2.


def test_words_and_sizes_that_do_not_fit_are_told():
    with pytest.raises(MethodError, match="rule majority or mean, found 'median'"):
        by_subject(DISTANCES, SUBJECTS, "median")
    with pytest.raises(MethodError, match="of one size"):
        true_distances(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 5, 5))
