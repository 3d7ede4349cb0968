"""Files that are whole or not there, and their digests."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hear_byols.errors import HearByolsError, OutputError

CONTINUES = "make room, the same command continues"


@contextmanager
def atomic_path(path: Path, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it on success and vanishes on failure.

    Its content is on the disk before it gets its name, so that a power cut leaves the old file or the new one. Without
    ``sync`` the folder may not be; call :func:`sync_folder` later.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part{path.suffix}")  # short, however long the name is
    # Not tempfile: its files are private, and undoing that needs the process-wide umask, which threads share.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        sync_file(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove what a process that was killed left of :func:`atomic_path` in a folder; nobody may be writing there."""
    for part in folder.glob(".*.part*"):
        part.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can tell (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # a file system that syncs no folders
        pass
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path, advice: str = "make room, or choose another output") -> Iterator[None]:
    """Turn a refusal to write, the system's or a library's, into one clear error.

    Raises:
        OutputError: ``path`` cannot be written; the message ends with the advice.
    """
    try:
        yield
    except HearByolsError:
        raise
    except Exception as error:
        text = str(error)  # torch and safetensors have errors of their own for a full disk
        if not (isinstance(error, OSError) or "inline_container" in text or "I/O error" in text):
            raise
        reason = "not all of it was taken" if "inline_container" in text else getattr(error, "strerror", None) or text
        raise OutputError(f"{path} cannot be written ({reason}); {advice}") from error


@contextmanager
def output_path(path: Path, advice: str = "make room, or choose another output") -> Iterator[Path]:
    """:func:`atomic_path`, with the one error of :func:`writing`."""
    with writing(path, advice), atomic_path(path) as part:
        yield part


def file_digest(path: str | os.PathLike[str], algorithm: str = "sha256", before: bytes = b"") -> str:
    """Digest of a file, or of bytes before it and the file, in hexadecimal."""
    digest = hashlib.new(algorithm, before, usedforsecurity=algorithm == "sha256")
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def git_blob_id(path: Path) -> str:
    """Git's identifier of a file's content: sha1 of ``blob <size>\\0`` and the bytes."""
    return file_digest(path, "sha1", b"blob %d\0" % path.stat().st_size)
