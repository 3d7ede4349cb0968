"""Embeddings of a task with any module of the HEAR API."""

import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch

from hear_byols._util.device import find_device
from hear_byols._util.progress import progress as progress_of
from hear_byols.audio import load_audio
from hear_byols.errors import InputError
from hear_byols.evaluation.store import Computed, read_embeddings, write_parts
from hear_byols.evaluation.tasks import Task, TaskClip, audio_info
from hear_byols.inputs import by_length


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

    def embedded() -> Iterator[Computed]:
        for clips, audio in _batches(task, pending, sample_rate):
            start = time.perf_counter()
            vectors, times = _call(module, model, task.is_event, torch.from_numpy(audio).to(place))
            seconds = time.perf_counter() - start
            _check(clips, vectors, times, task.is_event)
            yield clips, vectors, times, seconds, audio.size / sample_rate
            advance(len(clips))

    with progress_of(len(pending), "clip", shown=progress, title=task.name) as advance:
        write_parts(folder, str(place), embedded())


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
