"""Embeddings of a task with any module of the HEAR API, kept on disk.

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
from itertools import count, groupby
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch

from hear_byols._util.device import find_device
from hear_byols._util.files import file_digest, output_path
from hear_byols._util.memory import peak_memory
from hear_byols._util.progress import progress as progress_of
from hear_byols.audio import load_audio
from hear_byols.errors import InputError, OutputError, TaskError
from hear_byols.evaluation.models import ModelSpec
from hear_byols.evaluation.tasks import Task, TaskClip, audio_info
from hear_byols.inputs import by_length

_PART_SECONDS = 60.0  # of computing, after which what is done is written
_PART_BYTES = 256e6
# Clips, their embeddings and timestamps in ms, seconds that it took and of audio.
_Computed = tuple[Sequence[TaskClip], np.ndarray, np.ndarray, float, float]


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


def embed_task(
    module: ModuleType, model: Any, task: Task, folder: Path, *, device: str = "auto", progress: bool = False
) -> None:
    """Compute what a cache folder lacks of a task's embeddings with a module of the HEAR API and a model of it.

    Clips of equal length are embedded together, as many as hear-eval-kit takes. The task has audio at the model's rate;
    ``device`` is ``"auto"`` or a torch device.

    Raises:
        InputError: a file cannot be read, or the model's embeddings break the HEAR API; names the clip.
        OutputError: the folder cannot be written.
    """
    place = find_device(device)
    if isinstance(model, torch.nn.Module):
        model.to(place).eval()
    sample_rate = int(cast("Any", model).sample_rate)
    done = read_embeddings(folder).vectors
    pending = [clip for clip in task.all_clips() if (clip.split, clip.name) not in done]

    def embedded() -> Iterator[_Computed]:
        for clips, audio in _batches(task, pending, sample_rate):
            start = time.perf_counter()
            vectors, times = _call(module, model, task.is_event, torch.from_numpy(audio).to(place))
            seconds = time.perf_counter() - start
            _check(clips, vectors, times, task.is_event)
            yield clips, vectors, times, seconds, audio.size / sample_rate
            advance(len(clips))

    with progress_of(len(pending), "clip", shown=progress, title=task.name) as advance:
        _write_parts(folder, str(place), embedded())


def batch_size(sample_duration: float, sample_rate: int) -> int:
    """How many clips hear-eval-kit embeds at a time."""
    return max(1, int(0.7 * (120 / sample_duration) * (16000 / sample_rate)))


def _batches(task: Task, clips: Sequence[TaskClip], sample_rate: int) -> Iterator[tuple[list[TaskClip], np.ndarray]]:
    """Consecutive clips of equal length; the audio of one batch is held at a time."""
    lengths = {clip: audio_info(task.audio_path(clip, sample_rate), sample_rate).frames for clip in clips}
    for length, group in groupby(sorted(clips, key=lengths.__getitem__), key=lengths.__getitem__):
        same = list(group)
        step = batch_size(max(length, 1) / sample_rate, sample_rate)
        for first in range(0, len(same), step):
            batch = same[first : first + step]
            audio = [load_audio(task.audio_path(clip, sample_rate), sample_rate) for clip in batch]
            # What a lossy format holds may differ from its header by a few samples.
            for places in by_length(audio):
                yield [batch[i] for i in places], np.stack([audio[i] for i in places])


def _call(module: ModuleType, model: Any, is_event: bool, audio: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings, and centres in ms: none where whole clips are embedded."""
    with torch.no_grad():
        if is_event:
            vectors, times = module.get_timestamp_embeddings(audio, model)
        else:
            vectors, times = module.get_scene_embeddings(audio, model), torch.empty(len(audio), 0)
    return vectors.detach().float().cpu().numpy(), times.detach().double().cpu().numpy()


def _check(clips: Sequence[TaskClip], vectors: np.ndarray, timestamps: np.ndarray, is_event: bool) -> None:
    if vectors.ndim != 2 + is_event or len(vectors) != len(clips):
        expected = f"({len(clips)}, {'n_timestamps, ' * is_event}size)"
        raise InputError(f"the model's embeddings have the shape {vectors.shape}; the HEAR API says {expected}")
    if is_event and timestamps.shape != vectors.shape[:2]:
        raise InputError(f"the model's timestamps have the shape {timestamps.shape}, its embeddings {vectors.shape}")
    for clip, vector in zip(clips, vectors, strict=True):
        if not np.isfinite(vector).all():
            raise InputError(f"{clip}: the model's embedding holds NaN or infinite values")


def _write_parts(folder: Path, device: str, embedded: Iterable[_Computed]) -> None:
    """Write embeddings that are computed on a device to a cache folder, those of about a minute at a time."""
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
