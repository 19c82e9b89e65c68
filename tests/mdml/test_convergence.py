import pytest
import torch

from mdml.convergence import crossing_step, epochs_to, relative_area, smoothed


def test_smoothing_begins_at_the_first_value():
    """1, .9 x 1 + .1 x 0, .9 x .9 + .1 x 2."""
    found = smoothed(torch.tensor([[1.0, 5.0], [0.0, 5.0], [2.0, 5.0]], dtype=torch.float64))
    assert found.T.tolist() == [pytest.approx([1, 0.9, 1.01]), pytest.approx([5, 5, 5])]


def test_the_crossing_must_last():
    """Below both others from step 3 on, but for step 5; so for three steps on end from step 6."""
    ap = torch.tensor([2.0, 2.0, 0.5, 0.5, 2.0, 0.5, 0.5, 0.5, 0.5])
    one = torch.ones(9)
    assert crossing_step(ap, one, one, patience=3) == 6
    assert crossing_step(ap, one, one, patience=2) == 3
    assert crossing_step(ap, one, one, patience=5) is None
    assert crossing_step(ap, one, torch.full((9,), 0.1), patience=1) is None
    assert crossing_step(ap, torch.full((9,), 0.5), one, patience=1) is None


def test_a_crossing_lasts_fifty_steps_by_default():
    near, far = torch.zeros(50), torch.ones(50)
    assert crossing_step(near, far, far) == 1
    assert crossing_step(near[1:], far[1:], far[1:]) is None


def test_the_first_epoch_that_reaches_a_level():
    assert epochs_to([0.5, 0.9, 0.8, 0.95], 0.9) == 2
    assert epochs_to([0.5, 0.9, 0.8, 0.95], 0.99) is None
    assert epochs_to([None, None], 0.9) is None
    assert epochs_to([], 0.9) is None


def test_a_collapsed_embedding_has_the_area_one():
    assert relative_area(torch.full((30,), 0.45, dtype=torch.float64), 0.45) == pytest.approx(1, abs=1e-12)
    assert relative_area(torch.tensor([0.3, 0.1]), 0.4) == pytest.approx(0.5)
    assert relative_area(torch.tensor([0.3]), 0.0) is None
