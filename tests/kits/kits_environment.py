"""An environment of its own for the real HEAR kits and X-ARES, with this package installed in it by ``pip install``.

The kits date from 2021: their own pins cannot be installed any more, so they come without dependencies and with those
packages that they import. X-ARES comes likewise, since the torchaudio that it asks for fits another torch. The
environment is kept between runs under the user's cache (``HEAR_BYOLS_KITS_ENV`` names another folder; CI starts from
nothing), but the package is installed anew in every run.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checkout import run

KITS = ("heareval==2021.1.3", "hearvalidator==2021.0.2", "xares==0.1.3")
# What the kits import. Lightning 1 needs pkg_resources, which setuptools 81 dropped.
IMPORTS = (
    "torch==2.13.0",
    "tensorflow-cpu==2.21.0",
    "pytorch-lightning==1.9.5",
    "setuptools<81",
    "click",
    "dcase_util",
    "intervaltree",
    "loguru",
    "more-itertools",
    "pandas",
    "python-slugify",
    "scikit-learn",
    "scipy",
    "sed_eval",
    "soundfile",
    "torchinfo",
    "tqdm",
)
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


def environment_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "HEAR_BYOLS_KITS_ENV" in os.environ:
        return Path(os.environ["HEAR_BYOLS_KITS_ENV"]).resolve()
    if "CI" in os.environ:
        return tmp_path_factory.mktemp("kits") / "environment"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256("\n".join([_python(), *KITS, *IMPORTS]).encode()).hexdigest()[:12]
    return cache / "hear_byols-tests" / f"kits-{key}"


def create_environment(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    run([_python(), "-m", "venv", folder], cwd=folder.parent)
    pip = [folder / "bin" / "pip", "install", "-q"]
    run([*pip, *IMPORTS], cwd=folder)
    run([*pip, "--no-deps", *KITS], cwd=folder)
    (folder / "ready").touch()


def _python() -> str:
    """Python 3.11, the newest that the kits' dependencies agree on, or else this one."""
    if sys.version_info[:2] != (3, 11) and (found := shutil.which("python3.11")):
        working = subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0
        return found if working else sys.executable
    return sys.executable
