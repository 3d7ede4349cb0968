"""HEAR task folders: metadata, label vocabulary, splits and the clips in them.

A folder holds ``task_metadata.json``, ``labelvocabulary.csv``, a ``<split>.json`` for every split and the audio in
``<sample rate>/<split>/<file>``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hear_byols.errors import TaskError
from hear_byols.evaluation.task_files import duration, entries, number, one_of, read_json, read_vocabulary, strings

EMBEDDING_TYPES = ("scene", "event")
PREDICTION_TYPES = ("multiclass", "multilabel")
FOLD_MODES = ("new_split_kfold", "presplit_kfold")
SPLIT_MODES = ("trainvaltest", *FOLD_MODES)


@dataclass(frozen=True)
class Event:
    """A labelled stretch of a clip.

    Args:
        label: of the vocabulary.
        start: in milliseconds.
        end: in milliseconds.
    """

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class TaskClip:
    """A file of a task with its labels.

    Args:
        name: of the file, unique in its split.
        split: the split it belongs to.
        labels: of the whole clip (scene tasks).
        events: in the clip (event tasks).
    """

    name: str
    split: str
    labels: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class DataSplit:
    """Which splits train, select and test one predictor.

    Args:
        train: names of splits.
        valid: names of splits.
        test: names of splits.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A task in the HEAR format. Made by :func:`read_task`.

    Args:
        folder: where it lies.
        name: of the task, as its metadata has it.
        version: likewise.
        embedding_type: ``"scene"`` or ``"event"``.
        prediction_type: ``"multiclass"`` (one label a clip) or ``"multilabel"``.
        split_mode: ``"trainvaltest"``, ``"new_split_kfold"`` or ``"presplit_kfold"``.
        splits: names, in the metadata's order.
        sample_duration: length of every clip in seconds; None if they differ.
        evaluation: names of scores; the first is the criterion of model selection.
        vocabulary: labels, each at its index.
        clips: of every split, in the order of its file.
        params: the metadata's ``evaluation_params``.
        metadata: everything the metadata says.
    """

    folder: Path
    name: str
    version: str
    embedding_type: str
    prediction_type: str
    split_mode: str
    splits: tuple[str, ...]
    sample_duration: float | None
    evaluation: tuple[str, ...]
    vocabulary: tuple[str, ...]
    clips: Mapping[str, tuple[TaskClip, ...]]
    params: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_event(self) -> bool:
        """Whether events in time are asked for, not labels of whole clips."""
        return self.embedding_type == "event"

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Index of every label."""
        return {label: index for index, label in enumerate(self.vocabulary)}

    def audio_path(self, clip: TaskClip, sample_rate: int) -> Path:
        """Where a clip's audio at a rate lies."""
        return self.folder / str(sample_rate) / clip.split / clip.name

    def all_clips(self) -> list[TaskClip]:
        """Every clip, split by split."""
        return [clip for split in self.splits for clip in self.clips[split]]

    def data_splits(self) -> list[DataSplit]:
        """What to train, select and test on: once, or once a fold.

        With k folds in alphabetical order, fold i is the test, fold i + 1 the validation and the rest the training.
        """
        if self.split_mode == "trainvaltest":
            return [DataSplit(("train",), ("valid",), ("test",))]
        folds = sorted(self.splits)
        result = []
        for i, test in enumerate(folds):
            valid = folds[(i + 1) % len(folds)]
            result.append(DataSplit(tuple(f for f in folds if f not in (test, valid)), (valid,), (test,)))
        return result

    def targets(self, labels: Iterable[str], where: str) -> np.ndarray:
        """Labels as a binary vector, float32 [shape=(n_labels,)].

        Raises:
            TaskError: a label is not in the vocabulary.
        """
        vector = np.zeros(len(self.vocabulary), np.float32)
        for label in labels:
            if label not in self.index_of:
                raise TaskError(
                    f"{where}: the label {label!r} is not in {self.folder / 'labelvocabulary.csv'}; "
                    f"'hear-byols tasks check {self.folder}' lists everything of the kind"
                )
            vector[self.index_of[label]] = 1
        return vector


def read_task(folder: str | os.PathLike[str]) -> Task:
    """Read a task's metadata, vocabulary and labels; the audio is not touched.

    Args:
        folder: in HEAR format.

    Raises:
        TaskError: a file is missing or not in the format; the message names it.
    """
    folder = Path(folder)
    path = folder / "task_metadata.json"
    if not path.is_file():
        raise TaskError(f"{folder} is not a task folder in HEAR format: it has no task_metadata.json")
    metadata = read_json(path, dict)
    splits = strings(metadata, "splits", path)
    mode = one_of(metadata, "split_mode", SPLIT_MODES, path)
    if mode == "trainvaltest" and not {"train", "valid", "test"} <= set(splits):
        raise TaskError(f"{path}: split_mode trainvaltest needs the splits train, valid and test, got {splits}")
    if mode in FOLD_MODES and len(set(splits)) < 3:
        raise TaskError(f"{path}: {mode} needs at least three different folds, got {splits}")
    embedding_type = one_of(metadata, "embedding_type", EMBEDDING_TYPES, path)
    read = _read_events if embedding_type == "event" else _read_labels
    return Task(
        folder=folder,
        name=str(metadata.get("task_name") or folder.name),
        version=str(metadata.get("version", "")),
        embedding_type=embedding_type,
        prediction_type=one_of(metadata, "prediction_type", PREDICTION_TYPES, path),
        split_mode=mode,
        splits=splits,
        sample_duration=duration(metadata, path),
        evaluation=strings(metadata, "evaluation", path),
        vocabulary=read_vocabulary(folder / "labelvocabulary.csv"),
        clips={split: read(folder / f"{split}.json", split) for split in splits},
        params=metadata.get("evaluation_params") or {},
        metadata=metadata,
    )


def find_tasks(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Task folders: each path is one, or a folder of such.

    Raises:
        TaskError: a path holds no task.
    """
    found = []
    for path in map(Path, paths):
        inner = [path] if (path / "task_metadata.json").is_file() else sorted(path.glob("*/task_metadata.json"))
        if not inner:
            raise TaskError(f"{path} is neither a task folder in HEAR format nor a folder of such")
        found += [each if each == path else each.parent for each in inner]
    return list(dict.fromkeys(found))


def _read_labels(path: Path, split: str) -> tuple[TaskClip, ...]:
    clips = []
    for name, labels in entries(path):
        if not isinstance(labels, list) or not all(isinstance(label, (str, int)) for label in labels):
            raise TaskError(f"{path}: {name} must have a list of labels, got {labels!r}")
        clips.append(TaskClip(name, split, labels=tuple(map(str, labels))))
    return tuple(clips)


def _read_events(path: Path, split: str) -> tuple[TaskClip, ...]:
    clips = []
    for name, events in entries(path):
        try:
            read = tuple(Event(str(e["label"]), number(e["start"]), number(e["end"])) for e in events)
        except (KeyError, TypeError, ValueError) as error:
            raise TaskError(f"{path}: {name} must have a list of events with label, start and end in ms") from error
        clips.append(TaskClip(name, split, events=read))
    return tuple(clips)
