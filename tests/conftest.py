"""Settings shared by all tests."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_network_by_accident(monkeypatch):
    """No test downloads by chance: those of the downloader lift this themselves."""
    monkeypatch.setenv("HEAR_BYOLS_OFFLINE", "1")


@pytest.fixture
def one_thread():
    """Run on one thread, and give the threads back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
