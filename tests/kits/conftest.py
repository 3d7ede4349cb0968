"""Fixtures of the tests with the real HEAR kits."""

import hashlib
from pathlib import Path

import pytest
from checkout import copy_checkout, run
from filelock import FileLock
from kits_environment import Kits, create_environment, environment_folder

HERE = Path(__file__).parent
TASK = "fsdd_digits-v1-full"
TASKS = HERE.parents[2] / "shared" / "data" / "tasks"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker ``kits``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kits)


def content_digest(folder: Path) -> str:
    """SHA-256 of all names and files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Kits:
    """The kits, with the present state of the package beside them."""
    checkout = copy_checkout(tmp_path_factory.mktemp("kits") / "checkout")
    folder = environment_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # other processes of pytest-xdist share it
        if not (folder / "ready").is_file():
            create_environment(folder)
        installed, digest = folder / "installed", content_digest(checkout)
        if not installed.is_file() or installed.read_text() != digest:
            installed.unlink(missing_ok=True)
            run([folder / "bin" / "pip", "uninstall", "-qy", "hear_byols"], cwd=checkout)
            run([folder / "bin" / "pip", "install", "-q", ".[opensmile]"], cwd=checkout)
            installed.write_text(digest)
    return Kits(folder, checkout)


@pytest.fixture(scope="session")
def task() -> Path:
    """A benchmark task of 3000 spoken digits; read only."""
    if not (TASKS / TASK).is_dir():
        pytest.skip(f"the task {TASK} is not in {Path(*TASKS.parts[-3:])} beside the project")
    return TASKS / TASK
