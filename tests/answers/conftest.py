"""Labelled sounds, and their vectors, that every test of this folder shares."""

import pytest
from made_sounds import MODEL, write_classes

from hear_byols import embed_to_folder


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """A folder with five clips of each of three classes."""
    return write_classes(tmp_path_factory.mktemp("sounds"), n=5)


@pytest.fixture(scope="session")
def embedded(sounds, tmp_path_factory):
    """The output folder of ``embed`` for them."""
    folder = tmp_path_factory.mktemp("embedded")
    embed_to_folder([sounds], folder, model=MODEL)
    return folder
