"""Making and writing figures: matplotlib without its global state, and files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hear_byols._util.files import output_path
from hear_byols._util.imports import require
from hear_byols.errors import OptionError, OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, which lays itself out.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    return require("matplotlib.figure", "a figure", "analysis").Figure((width, height), dpi=100, layout="constrained")


def check_output(path: str | os.PathLike[str], suffixes: Sequence[str] = FIGURE_SUFFIXES) -> Path:
    """Find out before any work is done whether a file can be written.

    Raises:
        OptionError: the name has another ending than those.
        OutputError: its folder cannot be made or written, or it is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise OptionError(f"the output's name must end in {', '.join(suffixes)}; got {str(path)!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made ({error.strerror or error}); choose another output") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} is a folder or lies in one that cannot be written; choose another output")
    return path


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending says; errors as :func:`output_path`."""
    with output_path(path) as part:
        figure.savefig(part)


def printable(text: str, most: int = 1000) -> str:
    """Text that can be drawn and written: without the bytes of file names that are no UTF-8, and cut to its end."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= most else f"...{text[3 - most :]}"
