"""Which audio files to embed, in a fixed order, each with a name that nothing else shares."""

import codecs
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hear_byols.audio import EXTENSIONS, FFMPEG_EXTENSIONS
from hear_byols.errors import OptionError

PathLike = str | os.PathLike[str]
SEARCHED = EXTENSIONS | FFMPEG_EXTENSIONS  # without the extra "formats" the latter are named as not embedded


@dataclass(frozen=True)
class AudioFile:
    """An audio file to embed."""

    name: str  # how outputs call it: its place below the folder it was found in, with forward slashes
    path: Path
    error: str = ""  # why it cannot be read, where a search has seen that: a folder that cannot be opened


def collect(paths: Iterable[PathLike], relative_to: PathLike | None = None) -> list[AudioFile]:
    """List audio files.

    A folder gives the files below it whose extension is in ``SEARCHED``, sorted, without hidden ones and without
    following links to folders; their names are relative to that folder. A folder in it that cannot be opened is listed
    with its error. Any other path is taken as it is, whatever its extension and whether or not it exists, and named by
    its last part.

    Args:
        paths: files, folders, or ``"-"`` for a list of such on standard input, one a line (or ended by NUL bytes).
        relative_to: folder that all names are relative to instead.

    Returns:
        The files in order; one that is named twice is listed once.

    Raises:
        OptionError: no files, an empty path, two files with one name, or a file outside ``relative_to``.
    """
    if relative_to is not None and not os.fspath(relative_to):
        raise OptionError("the folder that names are to be relative to (--relative-to) is empty")
    found: dict[str, AudioFile] = {}
    for given in _expand(paths):
        for file in search(given) if os.path.isdir(given) else [AudioFile(given.name, given)]:
            if relative_to is not None:
                name = Path(os.path.relpath(file.path, relative_to))
                if name.parts[:1] == ("..",):
                    what = f"{file.path} does not lie in {Path(relative_to)}"
                    raise OptionError(f"{what}, the folder that names are to be relative to")
                file = replace(file, name=name.as_posix())
            other = found.setdefault(file.name, file)
            if os.path.abspath(other.path) != os.path.abspath(file.path):
                raise OptionError(
                    f"{other.path} and {file.path} would both be called {file.name!r}; give the folder that holds "
                    "both, or name them relative to a common folder (--relative-to)"
                )
    if not found:
        raise OptionError(f"no audio files; folders are searched for {', '.join(sorted(SEARCHED))}")
    return list(found.values())


def _expand(paths: Iterable[PathLike]) -> Iterator[Path]:
    for path in paths:
        if os.fspath(path) == "-":
            yield from map(Path, read_list(sys.stdin.buffer.read(), "the list on standard input"))
        elif os.fspath(path):
            yield Path(path)
        else:
            raise OptionError('a path is empty; name the current folder as "." if it is meant')


def read_list(data: bytes, what: str) -> list[str]:
    """The paths in a list, one a line or ended by NUL, in the file system's encoding or UTF-16 with its mark.

    Raises:
        OptionError: ``what`` is in UTF-16 without its mark, or is no text.
    """
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            data = data.decode("utf-16").encode("utf-8", "surrogateescape")
    except UnicodeError as error:
        raise OptionError(f"{what} is not whole UTF-16 ({error}); save it as UTF-8") from error
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    if len(data) > 3 and b"\0" in data and all(len(line) < 2 for line in lines):
        raise OptionError(f"{what} seems to be encoded in UTF-16 without a byte-order mark; save it as UTF-8")
    return [os.fsdecode(line) for line in lines if line.strip()]


def search(folder: Path, extensions: frozenset[str] = SEARCHED) -> list[AudioFile]:
    """Files below a folder by their extension, sorted; how every command finds its audio.

    Hidden files and folders are left out, and links to folders are not followed. A folder that cannot be opened is
    listed too, with its error.
    """

    def name_of(path: str | os.PathLike[str]) -> str:
        return Path(path).relative_to(folder).as_posix()

    def refused(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename or folder))
        files.append(AudioFile(name_of(path), path, f"{path}: the folder cannot be searched ({error.strerror})"))

    files: list[AudioFile] = []
    for parent, folders, names in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in extensions and not name.startswith("."):
                files.append(AudioFile(name_of(path), path))
    return sorted(files, key=lambda file: file.name)
