"""Embeddings and labels as matrices: a row a clip (scene tasks) or a timestamp (event tasks)."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hear_byols.errors import InputError, TaskError
from hear_byols.evaluation.embeddings import Embeddings
from hear_byols.evaluation.tasks import Task, TaskClip

_INCLUSIVE = 1e-4  # ms: an event holds at the timestamp where it ends
_FARTHEST = 10.0  # standard deviations


@dataclass(frozen=True)
class ProbeData:
    """Some splits of a task."""

    x: np.ndarray  # embeddings, float32 [shape=(n_rows, size)]
    y: np.ndarray  # binary targets, float32 [shape=(n_rows, n_labels)]
    clips: tuple[TaskClip, ...]  # in the order of their rows
    lengths: tuple[int, ...]  # rows of each clip
    timestamps: np.ndarray  # of the rows in ms; empty for scene tasks

    def by_clip(self, values: np.ndarray) -> list[np.ndarray]:
        """Cut an array of the same rows into clips."""
        return np.split(values, np.cumsum(self.lengths)[:-1])


class Standardizer:
    """Mean and standard deviation of training rows [shape=(n_rows, size)], per feature (paper, section 3.4).

    Results are clipped to +-10, lest features that hardly vary in the training rows drown everything elsewhere.
    """

    def __init__(self, x: np.ndarray) -> None:
        self.mean = x.mean(0, dtype=np.float64)
        self.std = x.std(0, dtype=np.float64, ddof=1) + 1e-6

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Float64 [shape as given]."""
        return ((x - self.mean) / self.std).clip(-_FARTHEST, _FARTHEST)


def data_of_splits(task: Task, parts: Sequence[Embeddings]) -> dict[str, ProbeData]:
    """Every split's rows, the parts' embeddings side by side.

    Clips follow each other in hear-eval-kit's order: each split's list shuffled by ``random.Random(0)``, one generator
    for all splits. Its predictor trains without shuffling, so this decides which clips share a batch.

    Raises:
        InputError: parts whose timestamps differ cannot stand side by side.
        TaskError: a label is not in the vocabulary, or a multiclass clip has not one label.
    """
    generator, result = random.Random(0), {}
    for split in task.splits:
        clips = list(task.clips[split])
        generator.shuffle(clips)
        if not clips:
            raise TaskError(f"{task.folder / split}.json lists no clips")
        result[split] = _rows(task, clips, parts)
    return result


def join(splits: Mapping[str, ProbeData], names: Iterable[str]) -> ProbeData:
    """Several splits' rows as one, in the order of their names."""
    chosen = [splits[name] for name in names]
    if len(chosen) == 1:
        return chosen[0]
    return ProbeData(
        np.concatenate([rows.x for rows in chosen]),
        np.concatenate([rows.y for rows in chosen]),
        tuple(clip for rows in chosen for clip in rows.clips),
        tuple(length for rows in chosen for length in rows.lengths),
        np.concatenate([rows.timestamps for rows in chosen]),
    )


def _rows(task: Task, clips: Sequence[TaskClip], parts: Sequence[Embeddings]) -> ProbeData:
    x, y, times = [], [], []
    for clip in clips:
        key = (clip.split, clip.name)
        vectors = [np.atleast_2d(part.vectors[key]) for part in parts]
        if task.is_event:
            stamps = [part.timestamps[key] for part in parts]
            if any(other.shape != stamps[0].shape or np.abs(other - stamps[0]).max() > 1 for other in stamps[1:]):
                raise InputError("the parts' timestamps differ, so their embeddings cannot be joined")
            times.append(stamps[0])
            y.append(frame_targets(task, clip, stamps[0]))
        else:
            if task.prediction_type == "multiclass" and len(clip.labels) != 1:
                raise TaskError(f"{clip}: a multiclass task needs one label, got {list(clip.labels)}")
            y.append(task.targets(clip.labels, str(clip))[None])
        x.append(np.concatenate(vectors, 1) if len(vectors) > 1 else vectors[0])
    lengths = tuple(map(len, y))
    stamps = np.concatenate(times) if times else np.empty(0)
    return ProbeData(np.concatenate(x), np.concatenate(y), tuple(clips), lengths, stamps)


def frame_targets(task: Task, clip: TaskClip, timestamps: np.ndarray) -> np.ndarray:
    """Which labels' events hold at each timestamp, float32 [shape=(n_timestamps, n_labels)]."""
    task.targets((event.label for event in clip.events), str(clip))  # refuses unknown labels
    targets = np.zeros((len(timestamps), len(task.vocabulary)), np.float32)
    for event in clip.events:
        inside = (timestamps >= event.start) & (timestamps < event.end + _INCLUSIVE)
        targets[inside, task.index_of[event.label]] = 1
    return targets
