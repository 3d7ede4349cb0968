"""A clean copy of this checkout, for tests that build or install the package."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "*.pyc", "build", "dist", "venv", "runs", "*.part*"
)


def copy_checkout(target: Path) -> Path:
    """Copy what belongs to the project, and nothing that a build or a test run left behind.

    In a git clone that is every tracked or new file that is not ignored; elsewhere (an unpacked sdist) all but the
    usual build products.

    Args:
        target: a folder that does not exist yet.

    Returns:
        ``target``.
    """
    if not (ROOT / ".git").exists():
        return Path(shutil.copytree(ROOT, target, ignore=_LEFT_OUT))
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def plain_environment(**extra: str) -> dict[str, str]:
    """The process's environment without what would lead another Python to this checkout."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    return {**inherited, **extra}


def run(command: list[str | os.PathLike[str]], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in another folder; its output is in the result, and in the error if it fails.

    Raises:
        AssertionError: the command's exit status is not 0.
    """
    result = subprocess.run(
        command, cwd=cwd, env=plain_environment(**environment), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    return result
