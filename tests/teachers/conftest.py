"""Where teachers are kept, empty and filled."""

import dataclasses

import pytest
from random_teachers import random_teacher
from safetensors.torch import save_file

from hear_byols.weights.digest import content_digest
from hear_byols.weights.teachers import TEACHERS


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
        state = random_teacher(name).state_dict()
        save_file(state, home / "teachers" / f"{name}.safetensors")
        monkeypatch.setitem(TEACHERS, name, dataclasses.replace(TEACHERS[name], weights=(content_digest(state),)))
    return home
