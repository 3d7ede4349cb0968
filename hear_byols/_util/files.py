"""Files that are whole or not there, and their digests."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hear_byols.errors import OutputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it on success and vanishes on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part{path.suffix}")
    # Not tempfile: its files are private, and undoing that needs the process-wide umask, which threads share.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, advice: str = "choose another output") -> Iterator[None]:
    """Turn the system's refusal to write into one clear error.

    Raises:
        OutputError: ``path`` cannot be written; the message ends with the advice.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}); {advice}") from error


@contextmanager
def output_path(path: Path) -> Iterator[Path]:
    """:func:`atomic_path`, with the one error of :func:`writing`."""
    with writing(path), atomic_path(path) as part:
        yield part


def file_digest(path: str | os.PathLike[str], algorithm: str = "sha256") -> str:
    """Digest of a file, in hexadecimal."""
    digest = hashlib.new(algorithm, usedforsecurity=algorithm == "sha256")
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
