import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Sums then have one order, so that equal seeds give equal bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def random_batch():
    """slices (N, B, D) float64 around one centre a class, labels (B,) with any class sizes, thresholds (N,)."""

    def draw(slices, batch, width, classes, seed=0, spread=1.0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(classes, (batch,), generator=generator)
        centres = torch.randn(slices, classes, width, generator=generator, dtype=dtype)
        noise = torch.randn(slices, batch, width, generator=generator, dtype=dtype)
        return centres[:, labels] + spread * noise, labels, torch.linspace(0.15, 0.75, slices, dtype=dtype)

    return draw
