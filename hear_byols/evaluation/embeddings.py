"""Embeddings of a task, computed once and kept on disk.

A folder a part of a model and task holds ``part-*.npz``, written whole, each with the embeddings of some clips; what is
in them is never computed again, so a run that was killed loses at most the last minute.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from hear_byols.audio import load_audio
from hear_byols.errors import InputError, OutputError, TaskError
from hear_byols.evaluation.models import Part
from hear_byols.evaluation.tasks import Clip, Task
from hear_byols.files import atomic_path, file_digest

logger = logging.getLogger(__name__)

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


def cache_folder(cache: Path, part: Part, task: Task, sample_rate: int) -> Path:
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
        try:
            with np.load(path) as content:
                _read_part(content, found)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise OutputError(f"{path} cannot be read ({error}); delete it and run again") from error
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
    device = str(content["device"])
    before = found.cost
    found.cost = Cost(
        before.seconds + seconds, before.audio_seconds + audio_seconds, max(before.peak_bytes, int(peak)), device
    )


def complete(folder: Path, task: Task) -> Embeddings | None:
    """The kept embeddings if they cover the whole task, else None."""
    found = read_embeddings(folder)
    return found if all((clip.split, clip.name) in found.vectors for clip in task.all_clips()) else None


def embed_task(
    module: ModuleType, model: Any, task: Task, folder: Path, *, device: str = "auto", progress: bool = False
) -> None:
    """Compute what a cache folder lacks of a task's embeddings.

    Clips of equal length are embedded together, as many as hear-eval-kit takes.

    Args:
        module: with the functions of the HEAR API.
        model: from its ``load_model``.
        task: with audio at the model's rate.
        folder: of the cache.
        device: ``"auto"`` for a GPU where there is one, or a torch device.
        progress: show a bar.

    Raises:
        InputError: a file cannot be read, or the model's embeddings break the HEAR API; names the clip.
        OutputError: the folder cannot be written.
    """
    device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(model, torch.nn.Module):
        model.to(device).eval()
    done = read_embeddings(folder).vectors
    pending = [clip for clip in task.all_clips() if (clip.split, clip.name) not in done]
    writer = _Writer(folder, device)
    with tqdm(total=len(pending), desc=task.name, unit="clip", disable=not progress) as bar:
        for clips, audio in _batches(task, pending, int(model.sample_rate)):
            start = time.perf_counter()
            vectors, timestamps = _call(module, model, task.is_event, torch.from_numpy(audio).to(device))
            seconds = time.perf_counter() - start
            _check(clips, vectors, timestamps, task.is_event)
            writer.add(clips, vectors, timestamps, seconds, audio.size / int(model.sample_rate))
            bar.update(len(clips))
    writer.flush()


def batch_size(sample_duration: float, sample_rate: int) -> int:
    """How many clips hear-eval-kit embeds at a time."""
    return max(1, int(0.7 * (120 / sample_duration) * (16000 / sample_rate)))


def _batches(task: Task, clips: Sequence[Clip], sample_rate: int) -> Iterator[tuple[list[Clip], np.ndarray]]:
    """Consecutive clips of equal length; the audio of one batch is held at a time."""

    def n_samples(clip: Clip) -> int:
        path = task.audio_path(clip, sample_rate)
        try:
            info = soundfile.info(path)
        except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
            raise InputError(f"{path}: cannot be read as audio ({error})") from error
        if info.samplerate != sample_rate:
            raise InputError(f"{path}: has {info.samplerate} Hz, its folder's name says {sample_rate} Hz")
        return info.frames

    for length, group in groupby(sorted(clips, key=n_samples), key=n_samples):
        same = list(group)
        step = batch_size(max(length, 1) / sample_rate, sample_rate)
        for first in range(0, len(same), step):
            batch = same[first : first + step]
            audio = [load_audio(task.audio_path(clip, sample_rate), sample_rate) for clip in batch]
            # What a lossy format holds may differ from its header by a few samples.
            for n, members in groupby(range(len(batch)), key=lambda i: len(audio[i])):
                chosen = list(members)
                yield [batch[i] for i in chosen], np.stack([audio[i][:n] for i in chosen])


def _call(module: ModuleType, model: Any, is_event: bool, audio: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    with torch.no_grad():
        if not is_event:
            return module.get_scene_embeddings(audio, model).detach().float().cpu().numpy(), None
        vectors, times = module.get_timestamp_embeddings(audio, model)
    return vectors.detach().float().cpu().numpy(), times.detach().double().cpu().numpy()


def _check(clips: Sequence[Clip], vectors: np.ndarray, timestamps: np.ndarray | None, is_event: bool) -> None:
    if vectors.ndim != 2 + is_event or len(vectors) != len(clips):
        expected = f"({len(clips)}, {'n_timestamps, ' * is_event}size)"
        raise InputError(f"the model's embeddings have the shape {vectors.shape}; the HEAR API says {expected}")
    if timestamps is not None and timestamps.shape != vectors.shape[:2]:
        raise InputError(f"the model's timestamps have the shape {timestamps.shape}, its embeddings {vectors.shape}")
    for clip, vector in zip(clips, vectors, strict=True):
        if not np.isfinite(vector).all():
            raise InputError(f"{clip.split}/{clip.name}: the model's embedding holds NaN or infinite values")


class _Writer:
    """Collects embeddings and writes them from time to time."""

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._device = _describe(device)
        self._items: list[tuple[Clip, np.ndarray, np.ndarray]] = []
        self._seconds = self._audio_seconds = 0.0
        self._started = time.monotonic()
        existing = [int(path.stem[5:]) for path in folder.glob("part-*.npz")]
        self._next = max(existing, default=-1) + 1

    def add(
        self,
        clips: Sequence[Clip],
        vectors: np.ndarray,
        timestamps: np.ndarray | None,
        seconds: float,
        audio_seconds: float,
    ) -> None:
        times = timestamps if timestamps is not None else np.empty((len(clips), 0))
        self._items += zip(clips, vectors, times, strict=True)
        self._seconds += seconds
        self._audio_seconds += audio_seconds
        held = sum(item[1].nbytes for item in self._items)
        if time.monotonic() - self._started > _PART_SECONDS or held > _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._items:
            return
        clips, vectors, times = zip(*self._items, strict=True)
        rows = [np.atleast_2d(vector) for vector in vectors]
        content = {
            "keys": np.array([f"{clip.split}/{clip.name}" for clip in clips]),
            "lengths": np.array([len(row) for row in rows]),
            "vectors": np.concatenate(rows),
            "timestamps": np.concatenate(times),
            "cost": np.array([self._seconds, self._audio_seconds, peak_bytes()]),
            "device": np.array(self._device),
        }
        try:
            with atomic_path(self._folder / f"part-{self._next:05d}.npz") as part:
                np.savez(part, **content)
        except OSError as error:
            raise OutputError(f"{self._folder} cannot be written ({error.strerror or error})") from error
        self._next += 1
        self._items, self._seconds, self._audio_seconds, self._started = [], 0.0, 0.0, time.monotonic()


def peak_bytes() -> int:
    """Most memory this process held so far; on a GPU the most that torch held there is added."""
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    try:
        import resource
    except ImportError:  # Windows
        return on_gpu
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit + on_gpu


def _describe(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
