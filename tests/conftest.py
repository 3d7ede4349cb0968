"""Settings shared by all tests."""

import os

import pytest
import torch


def pytest_configure() -> None:
    """Where pytest-xdist runs several processes, each has one thread, and those that it starts."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network_by_accident(monkeypatch):
    """No test downloads by chance: those of the downloader lift this themselves."""
    monkeypatch.setenv("HEAR_BYOLS_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _code_of_repositories(tmp_path_factory):
    """transformers keeps copies of the code that models come with; not in the user's cache."""
    os.environ["HF_MODULES_CACHE"] = str(tmp_path_factory.mktemp("modules"))


@pytest.fixture
def one_thread():
    """Run on one thread, and give the threads back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
