import pytest
import torch

from mdml.metrics.projection import tsne


def test_groups_far_apart_stay_apart():
    """Every point lies nearer to the middle of its group than to that of another."""
    labels = torch.arange(60) % 3
    points = 20.0 * torch.eye(3)[labels] + torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    found = tsne(points)
    assert found.shape == (60, 2)
    assert found.dtype == torch.float32
    middles = torch.stack([found[labels == label].mean(0) for label in range(3)])
    assert torch.cdist(found, middles).argmin(1).tolist() == labels.tolist()
    torch.testing.assert_close(found, tsne(points), rtol=0, atol=0)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_few_points_have_coordinates_too(count):
    assert tsne(torch.randn(count, 5, generator=torch.Generator().manual_seed(0))).isfinite().all()


def test_collapsed_points_have_coordinates_too():
    assert tsne(torch.ones(12, 4)).isfinite().all()
