import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Sums then have one order, so that equal seeds give equal bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
