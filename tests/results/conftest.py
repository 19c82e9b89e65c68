"""What all tests of the record share."""

import os

import pytest

from results import Store


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """A test does not outlive a power cut; what is synchronised when has a test of its own."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "tables")
