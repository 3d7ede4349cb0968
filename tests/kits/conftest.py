"""Fixtures of the tests with the real HEAR kits."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import copy_checkout, run
from kits_environment import Kits, create_environment, environment_folder

HERE = Path(__file__).parent
TASK = "fsdd_digits-v1-full"
TASKS = HERE.parents[2] / "shared" / "data" / "tasks"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker ``kits``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kits)


@pytest.fixture(scope="session")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Kits:
    """The kits, with the present state of the package beside them."""
    checkout = copy_checkout(tmp_path_factory.mktemp("kits") / "checkout")
    folder = environment_folder(tmp_path_factory)
    if not (folder / "ready").is_file():
        create_environment(folder)
    run([folder / "bin" / "pip", "uninstall", "-qy", "hear_byols"], cwd=checkout)
    run([folder / "bin" / "pip", "install", "-q", ".[opensmile]"], cwd=checkout)
    return Kits(folder, checkout)


@pytest.fixture(scope="session")
def task() -> Path:
    """A benchmark task of 3000 spoken digits; read only."""
    if not (TASKS / TASK).is_dir():
        pytest.skip(f"the task {TASK} is not in {Path(*TASKS.parts[-3:])} beside the project")
    return TASKS / TASK
