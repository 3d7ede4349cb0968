"""Embeddings on disk.

A folder a part of a model and task holds ``part-*.npz``, written whole, each with the embeddings of some clips; what is
in them is never computed again, so a run that was killed loses at most the last minute.
"""

from __future__ import annotations

import hashlib
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from hear_byols._util.files import file_digest, output_path
from hear_byols._util.memory import peak_memory
from hear_byols.errors import OutputError, TaskError
from hear_byols.evaluation.models import ModelSpec
from hear_byols.evaluation.tasks import Task, TaskClip

T = TypeVar("T")

_PART_SECONDS = 60.0  # of computing, after which what is done is written
_PART_BYTES = 256e6


@dataclass(frozen=True)
class Cost:
    """What computing embeddings took.

    Args:
        seconds: within the model, reading and writing aside.
        audio_seconds: that were embedded.
        peak_bytes: of the process's memory, the model's own included.
        device: where.
    """

    seconds: float = 0.0
    audio_seconds: float = 0.0
    peak_bytes: int = 0
    device: str = ""

    def __add__(self, other: Cost) -> Cost:
        device = " ".join(dict.fromkeys(filter(None, (self.device, other.device))))
        peak = max(self.peak_bytes, other.peak_bytes)
        audio = max(self.audio_seconds, other.audio_seconds)
        return Cost(self.seconds + other.seconds, audio, peak, device)


@dataclass
class Embeddings:
    """Embeddings of clips by ``(split, name)``.

    Args:
        vectors: float32 [shape=(size,)] a clip of a scene task, [shape=(n_timestamps, size)] one of an event task.
        timestamps: centres in ms, float64 [shape=(n_timestamps,)] a clip; empty for scene tasks.
        cost: what they took.
    """

    vectors: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    timestamps: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)


def cache_folder(cache: Path, part: ModelSpec, task: Task, sample_rate: int) -> Path:
    """Where embeddings are kept: another model, other options or other audio have another folder."""
    return cache / f"{task.folder.name}-{audio_digest(task, sample_rate)}" / f"{part.name}-{part.identity()}"


def audio_digest(task: Task, sample_rate: int) -> str:
    """Digest of the names and contents of a task's audio.

    Raises:
        TaskError: a file is missing.
    """
    digest = hashlib.sha256(task.embedding_type.encode())
    for clip in task.all_clips():
        path = task.audio_path(clip, sample_rate)
        try:
            digest.update(f"{clip.split}/{clip.name}:{file_digest(path)}\n".encode())
        except FileNotFoundError:
            raise TaskError(_missing(task, path, sample_rate)) from None
        except OSError as error:
            raise TaskError(f"{path} cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()[:12]


def _missing(task: Task, path: Path, sample_rate: int) -> str:
    if not (task.folder / str(sample_rate)).is_dir():
        return (
            f"{task.folder} has no audio at {sample_rate} Hz, which the model needs; "
            f"'hear-byols tasks resample {task.folder} --rate {sample_rate}' makes it"
        )
    return f"{path} is missing; 'hear-byols tasks check {task.folder}' lists everything of the kind"


def read_embeddings(folder: Path) -> Embeddings:
    """Everything that is kept in a cache folder.

    Raises:
        OutputError: a part cannot be read; it names the file, which may be deleted.
    """
    found = Embeddings()
    for path in sorted(folder.glob("part-*.npz")):
        _opened(path, lambda content: _read_part(content, found))
    return found


def _read_part(content: Mapping[str, np.ndarray], found: Embeddings) -> None:
    keys = [tuple(key.split("/", 1)) for key in content["keys"].tolist()]
    bounds = np.cumsum(content["lengths"])[:-1]
    rows = np.split(content["vectors"], bounds)
    is_event = content["timestamps"].size > 0
    found.vectors.update(zip(keys, rows if is_event else [row[0] for row in rows], strict=True))
    if is_event:
        found.timestamps.update(zip(keys, np.split(content["timestamps"], bounds), strict=True))
    seconds, audio_seconds, peak = content["cost"].tolist()
    before, peak = found.cost, max(found.cost.peak_bytes, int(peak))
    device = str(content["device"])
    found.cost = Cost(before.seconds + seconds, before.audio_seconds + audio_seconds, peak, device)


def is_complete(folder: Path, task: Task) -> bool:
    """Whether a cache folder covers a whole task; only names are read.

    Raises:
        OutputError: as :func:`read_embeddings`.
    """
    keys = {key for path in sorted(folder.glob("part-*.npz")) for key in _opened(path, lambda c: c["keys"].tolist())}
    return all(f"{clip.split}/{clip.name}" in keys for clip in task.all_clips())


def _opened(path: Path, read: Callable[[Mapping[str, np.ndarray]], T]) -> T:
    try:
        with np.load(path) as content:
            return read(content)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise OutputError(f"{path} cannot be read ({error}); delete it and run again") from error


class PartWriter:
    """Collects embeddings and writes them from time to time.

    Args:
        folder: of the cache.
        device: where they are computed.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._device = _describe(device)
        self._items: list[tuple[TaskClip, np.ndarray, np.ndarray]] = []
        self._seconds = self._audio_seconds = 0.0
        self._started = time.monotonic()
        existing = [int(path.stem[5:10]) for path in folder.glob("part-*.npz")]
        self._next = max(existing, default=-1) + 1

    def add(
        self,
        clips: Sequence[TaskClip],
        vectors: np.ndarray,
        timestamps: np.ndarray | None,
        seconds: float,
        audio_seconds: float,
    ) -> None:
        """Take the embeddings of clips, and what they cost."""
        times = timestamps if timestamps is not None else np.empty((len(clips), 0))
        self._items += zip(clips, vectors, times, strict=True)
        self._seconds += seconds
        self._audio_seconds += audio_seconds
        held = sum(item[1].nbytes for item in self._items)
        if time.monotonic() - self._started > _PART_SECONDS or held > _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was collected.

        Raises:
            OutputError: it cannot be written.
        """
        if not self._items:
            return
        clips, vectors, times = zip(*self._items, strict=True)
        rows = [np.atleast_2d(vector) for vector in vectors]
        on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        content = {
            "keys": np.array([f"{clip.split}/{clip.name}" for clip in clips]),
            "lengths": np.array([len(row) for row in rows]),
            "vectors": np.concatenate(rows),
            "timestamps": np.concatenate(times),
            "cost": np.array([self._seconds, self._audio_seconds, peak_memory() + on_gpu]),
            "device": np.array(self._device),
        }
        # Two processes in one folder do work twice, but never overwrite each other's parts.
        name = f"part-{self._next:05d}-{uuid.uuid4().hex[:6]}.npz"
        with output_path(self._folder / name) as part:
            np.savez(part, **content)  # pyright: ignore[reportArgumentType]
        self._next += 1
        self._items, self._seconds, self._audio_seconds, self._started = [], 0.0, 0.0, time.monotonic()


def _describe(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
