"""Where teachers are kept, empty and filled."""

import pytest
from random_teachers import record_random
from safetensors.torch import save_file


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty HEAR_BYOLS_HOME."""
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def added(home, monkeypatch):
    """Three teachers, with random weights, as if they had been added."""
    (home / "teachers").mkdir(parents=True)
    for name in ("mn04", "resemblyzer", "swift_f0"):
        save_file(record_random(monkeypatch, name), home / "teachers" / f"{name}.safetensors")
    return home
