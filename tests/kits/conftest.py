"""An environment of its own for the real HEAR kits and X-ARES, with this package installed in it by ``pip install``.

The kits date from 2021: their own pins cannot be installed any more, so they come without dependencies and with those
packages that they import. X-ARES comes likewise, since the torchaudio that it asks for fits another torch. The
environment is kept between runs under the user's cache (``HEAR_BYOLS_KITS_ENV`` names another folder), but the package
is installed anew in every run.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT, copy_checkout, run
from filelock import FileLock

HERE = Path(__file__).parent
TASK = "fsdd_digits-v1-full"
TASKS = HERE.parents[2] / "shared" / "data" / "tasks"
# What the manual installs: first what the kits import, then the kits. X-ARES and its loguru come likewise.
MANUAL = (ROOT / "docs" / "hear-kits.md").read_text(encoding="utf-8").replace("\\\n", "")
COMMANDS = [shlex.split(command) for command in re.findall(r"^kits/bin/pip (install .*)", MANUAL, re.MULTILINE)]
INSTALL = [[*COMMANDS[0], "loguru"], [*COMMANDS[1], "xares==0.1.3"]]
SEPARATOR = "==== next module\n"
VALIDATE_ALL = f"""
import json, sys
from hearvalidator.validate import main
for arguments in json.loads(sys.argv[1]):
    print({SEPARATOR!r}, end="")
    sys.argv = ["hear-validator", *arguments]
    main()
"""


@dataclass(frozen=True)
class Kits:
    """The kits' environment."""

    folder: Path  # of the virtual environment
    checkout: Path  # the copy of this project that is installed in it

    @property
    def weights(self) -> Path:
        """The shipped weights, as a file: hear-eval-kit's ``--model`` must exist on disk."""
        return self.checkout / "checkpoints" / "cvt_hybrid.pth"

    def run(self, command: list[str | Path], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in ``cwd``; an error shows its output."""
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        return run([self.folder / "bin" / command[0], *command[1:]], cwd, **quiet, **environment)

    def validate_all(self, runs: Sequence[Sequence[str]], cwd: Path) -> list[str]:
        """What ``hear-validator`` prints for each module, all in one process, which imports tensorflow once."""
        return self.run(["python", "-c", VALIDATE_ALL, json.dumps(runs)], cwd).stdout.split(SEPARATOR)[1:]

    def embed(self, home: Path, task: Path, module: str, *options: str | Path) -> Path:
        """Embed a task by hear-eval-kit, in a new folder ``home / "tasks"``, as the kit takes all that is there.

        Returns:
            The folder of its embeddings in ``home / "embeddings"``.
        """
        tasks, embeddings = home / "tasks", home / "embeddings"
        tasks.mkdir()
        (tasks / task.name).symlink_to(task, target_is_directory=True)
        folders: list[str | Path] = ["--tasks-dir", tasks, "--embeddings-dir", embeddings]
        self.run(["python", "-m", "heareval.embeddings.runner", module, *options, *folders], home)
        (found,) = embeddings.iterdir()
        return found / task.name

    def predict(self, folder: Path, *options: str, launcher: Sequence[str] = ("-m",)) -> Any:
        """Run hear-eval-kit's predictions on embeddings, and return its scores; it unpickles checkpoints of its own."""
        arguments = [*launcher, "heareval.predictions.runner", folder, "--grid-points", "2", *options]
        self.run(["python", *arguments], folder, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
        return json.loads((folder / "test.predicted-scores.json").read_text())


def environment_folder() -> Path:
    if "HEAR_BYOLS_KITS_ENV" in os.environ:
        return Path(os.environ["HEAR_BYOLS_KITS_ENV"]).resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(str([_python(), *INSTALL]).encode()).hexdigest()[:12]
    return cache / "hear_byols-tests" / f"kits-{key}"


def _python() -> str:
    """Python 3.11, the newest that the kits' dependencies agree on, or else this one."""
    if sys.version_info[:2] != (3, 11) and (found := shutil.which("python3.11")):
        working = subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0
        return found if working else sys.executable
    return sys.executable


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
            shutil.rmtree(folder, ignore_errors=True)
            run([_python(), "-m", "venv", folder], cwd=folder.parent)
            for command in INSTALL:
                run([folder / "bin" / "pip", "-q", *command], cwd=folder)
            (folder / "ready").touch()
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
