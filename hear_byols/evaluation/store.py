"""Embeddings on disk.

A folder a part of a model and task holds ``part-*.npz``, written whole, each with the embeddings of some clips; what is
in them is never computed again, so a run that was killed loses at most the last minute.
"""

from __future__ import annotations

import hashlib
import time
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import torch

from hear_byols._util.files import file_digest, output_path
from hear_byols._util.memory import peak_memory
from hear_byols.errors import OutputError, TaskError
from hear_byols.evaluation.models import ModelSpec
from hear_byols.evaluation.tasks import Task, TaskClip

_PART_SECONDS = 60.0  # of computing, after which what is done is written
_PART_BYTES = 256e6
# Clips, their embeddings and timestamps in ms, seconds that it took and of audio.
Computed = tuple[Sequence[TaskClip], np.ndarray, np.ndarray, float, float]


@dataclass(frozen=True)
class Cost:
    """What computing embeddings took."""

    seconds: float = 0.0  # within the model, reading and writing aside
    audio_seconds: float = 0.0  # that were embedded
    peak_bytes: int = 0  # of the process's memory, the model's own included
    device: str = ""

    def __add__(self, other: Cost) -> Cost:
        """The cost of two models on the same audio."""
        device = " ".join(dict.fromkeys(filter(None, (self.device, other.device))))
        peak = max(self.peak_bytes, other.peak_bytes)
        audio = max(self.audio_seconds, other.audio_seconds)
        return Cost(self.seconds + other.seconds, audio, peak, device)


@dataclass
class Embeddings:
    """Embeddings of clips by ``(split, name)``."""

    # float32 [shape=(size,)] a clip of a scene task, [shape=(n_timestamps, size)] one of an event task
    vectors: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    # centres in ms, float64 [shape=(n_timestamps,)]; of event tasks only
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
            digest.update(f"{clip}:{file_digest(path)}\n".encode())
        except FileNotFoundError:
            if (task.folder / str(sample_rate)).is_dir():
                text = f"{path} is missing; 'hear-byols tasks check {task.folder}' lists everything of the kind"
                raise TaskError(text) from None
            raise TaskError(
                f"{task.folder} has no audio at {sample_rate} Hz, which the model needs; "
                f"'hear-byols tasks resample {task.folder} --rate {sample_rate}' makes it"
            ) from None
        except OSError as error:
            raise TaskError(f"{path} cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()[:12]


def read_embeddings(folder: Path) -> Embeddings:
    """Everything that is kept in a cache folder; an ``OutputError`` names a part that cannot be read."""
    found = Embeddings()
    for path in _parts(folder):
        with _opened(path) as content:
            keys = [tuple(key.split("/", 1)) for key in content["keys"].tolist()]
            bounds = np.cumsum(content["lengths"])[:-1]
            rows = np.split(content["vectors"], bounds)
            is_event = content["timestamps"].size > 0
            found.vectors.update(zip(keys, rows if is_event else [row[0] for row in rows], strict=True))
            if is_event:
                found.timestamps.update(zip(keys, np.split(content["timestamps"], bounds), strict=True))
            seconds, audio_seconds, peak = content["cost"].tolist()
            before, device = found.cost, str(content["device"])
            peak = max(before.peak_bytes, int(peak))
            found.cost = Cost(before.seconds + seconds, before.audio_seconds + audio_seconds, peak, device)
    return found


def is_complete(folder: Path, task: Task) -> bool:
    """Whether a cache folder covers a whole task; only names are read; errors as :func:`read_embeddings`."""
    keys: set[str] = set()
    for path in _parts(folder):
        with _opened(path) as content:
            keys.update(content["keys"].tolist())
    return all(str(clip) in keys for clip in task.all_clips())


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.npz"))


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    try:
        with np.load(path) as content:
            yield content
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise OutputError(f"{path} cannot be read ({error}); delete it and run again") from error


def write_parts(folder: Path, device: str, embedded: Iterable[Computed]) -> None:
    """Write embeddings that are computed on a device to a cache folder, those of about a minute at a time.

    Raises:
        OutputError: the folder cannot be written.
    """
    if device.startswith("cuda"):
        device = torch.cuda.get_device_name(device)
    else:
        n_threads = torch.get_num_threads()
        device += f", {n_threads} thread{'s' * (n_threads > 1)}"
    embedded = iter(embedded)
    for number in count(max((int(path.stem[5:10]) for path in _parts(folder)), default=-1) + 1):
        keys, rows, stamps, spent, n_bytes, started = [], [], [], np.zeros(2), 0, time.monotonic()
        for clips, vectors, times, *cost in embedded:
            keys += map(str, clips)
            rows += map(np.atleast_2d, vectors)
            stamps += [*times]
            spent += cost
            n_bytes += vectors.nbytes
            if time.monotonic() - started > _PART_SECONDS or n_bytes > _PART_BYTES:
                break
        if not keys:
            return
        on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        # Two processes in one folder do work twice, but never overwrite each other's parts.
        with output_path(folder / f"part-{number:05d}-{uuid.uuid4().hex[:6]}.npz") as part:
            np.savez(
                part,
                keys=np.array(keys),
                lengths=np.array([len(row) for row in rows]),
                vectors=np.concatenate(rows),
                timestamps=np.concatenate(stamps),
                cost=np.array([*spent, peak_memory() + on_gpu]),
                device=np.array(device),
            )
