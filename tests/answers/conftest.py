"""Labelled sounds that every test of this folder shares."""

from __future__ import annotations

import pytest
from made_sounds import write_classes


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """A folder with five clips of each of three classes."""
    return write_classes(tmp_path_factory.mktemp("sounds"), n=5)
