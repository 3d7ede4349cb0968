"""Which audio files to embed, in a fixed order, each with a name that nothing else shares."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hear_byols.audio import EXTENSIONS
from hear_byols.errors import OptionError

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class AudioFile:
    """An audio file to embed.

    Args:
        name: how outputs call it: its place below the folder it was found in, with forward slashes.
        path: where it is.
    """

    name: str
    path: Path


def collect(
    paths: Iterable[PathLike], relative_to: PathLike | None = None, stdin: BinaryIO | None = None
) -> list[AudioFile]:
    """List audio files.

    A folder gives the files below it whose extension is in ``audio.EXTENSIONS``, sorted, without hidden ones and
    without following links to folders; their names are relative to that folder. Any other path is taken as it is,
    whatever its extension and whether or not it exists, and named by its last part.

    Args:
        paths: files, folders, or ``"-"`` for a list of such on standard input, one a line (or ended by NUL bytes).
        relative_to: folder that all names are relative to instead.
        stdin: where ``"-"`` reads, by default the process's standard input.

    Returns:
        The files in order; one that is named twice is listed once.

    Raises:
        OptionError: no files, two files with one name, or a file outside ``relative_to``.
    """
    found: dict[str, AudioFile] = {}
    for given in _expand(paths, stdin):
        for file in _below(given) if given.is_dir() else [AudioFile(given.name, given)]:
            if relative_to is not None:
                file = AudioFile(_relative_name(file.path, Path(relative_to)), file.path)
            other = found.setdefault(file.name, file)
            if os.path.abspath(other.path) != os.path.abspath(file.path):
                raise OptionError(
                    f"{other.path} and {file.path} would both be called {file.name!r}; give the folder that holds "
                    "both, or name them relative to a common folder (--relative-to)"
                )
    if not found:
        raise OptionError(f"no audio files; folders are searched for {', '.join(sorted(EXTENSIONS))}")
    return list(found.values())


def _expand(paths: Iterable[PathLike], stdin: BinaryIO | None) -> Iterator[Path]:
    for path in paths:
        if os.fspath(path) != "-":
            yield Path(path)
            continue
        data = (stdin or sys.stdin.buffer).read()
        for line in data.split(b"\0") if b"\0" in data else data.splitlines():
            if line.strip():
                yield Path(os.fsdecode(line))


def _below(folder: Path) -> list[AudioFile]:
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in EXTENSIONS and not name.startswith(".") and path.is_file():
                files.append(AudioFile(path.relative_to(folder).as_posix(), path))
    return sorted(files, key=lambda file: file.name)


def _relative_name(path: Path, folder: Path) -> str:
    name = Path(os.path.relpath(path, folder))
    if name.parts[:1] == ("..",):
        raise OptionError(f"{path} does not lie in {folder}, the folder that names are to be relative to")
    return name.as_posix()
