"""HEAR task folders: metadata, label vocabulary, splits and the clips in them.

A folder holds ``task_metadata.json``, ``labelvocabulary.csv``, a ``<split>.json`` for every split and the audio in
``<sample rate>/<split>/<file>``.
"""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hear_byols.errors import InputError, TaskError

METADATA = "task_metadata.json"
DataSplit = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # names of splits to train, select and test on


@dataclass(frozen=True)
class Event:
    """A labelled stretch of a clip, from ``start`` to ``end`` in milliseconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class TaskClip:
    """A file of a task, whose name is unique in its split; as text ``split/name``."""

    name: str
    split: str
    labels: tuple[str, ...] = ()  # of the whole clip (scene tasks)
    events: tuple[Event, ...] = ()  # in the clip (event tasks)

    def __str__(self) -> str:
        return f"{self.split}/{self.name}"


@dataclass(frozen=True)
class Task:
    """A task in the HEAR format. Made by :func:`read_task`."""

    folder: Path
    name: str  # as the metadata has it
    version: str
    embedding_type: str  # "scene" or "event"
    prediction_type: str  # "multiclass" (one label a clip) or "multilabel"
    split_mode: str  # "trainvaltest", "new_split_kfold" or "presplit_kfold"
    splits: tuple[str, ...]  # in the metadata's order
    sample_duration: float | None  # of every clip in seconds; None if they differ
    evaluation: tuple[str, ...]  # names of scores; the first is the criterion of model selection
    vocabulary: tuple[str, ...]  # labels, each at its index
    clips: Mapping[str, tuple[TaskClip, ...]]  # of every split, in the order of its file
    metadata: Mapping[str, Any] = field(repr=False)

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
            return [(("train",), ("valid",), ("test",))]
        folds = sorted(self.splits)
        return [
            (tuple(fold for fold in folds if fold not in (test, valid)), (valid,), (test,))
            for test, valid in zip(folds, folds[1:] + folds[:1], strict=True)
        ]

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
    """Read the metadata, vocabulary and labels of a folder in HEAR format; the audio is not touched.

    Raises:
        TaskError: a file is missing or not in the format; the message names it.
    """
    folder = Path(folder)
    path = folder / METADATA
    if not path.is_file():
        raise TaskError(f"{folder} is not a task folder in HEAR format: it has no task_metadata.json")
    metadata = _read_json(path)
    splits = _strings(metadata, "splits", path)
    mode = _one_of(metadata, "split_mode", ("trainvaltest", "new_split_kfold", "presplit_kfold"), path)
    if mode == "trainvaltest" and not {"train", "valid", "test"} <= set(splits):
        raise TaskError(f"{path}: split_mode trainvaltest needs the splits train, valid and test, got {splits}")
    if mode != "trainvaltest" and len(set(splits)) < 3:
        raise TaskError(f"{path}: {mode} needs at least three different folds, got {splits}")
    embedding_type = _one_of(metadata, "embedding_type", ("scene", "event"), path)
    return Task(
        folder=folder,
        name=str(metadata.get("task_name") or folder.name),
        version=str(metadata.get("version", "")),
        embedding_type=embedding_type,
        prediction_type=_one_of(metadata, "prediction_type", ("multiclass", "multilabel"), path),
        split_mode=mode,
        splits=splits,
        sample_duration=_duration(metadata, path),
        evaluation=_strings(metadata, "evaluation", path),
        vocabulary=_read_vocabulary(folder / "labelvocabulary.csv"),
        clips={split: tuple(_read_clips(folder, split, embedding_type)) for split in splits},
        metadata=metadata,
    )


def find_tasks(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Task folders: each path is one, or a folder of such.

    Raises:
        TaskError: a path holds no task.
    """
    found = []
    for path in map(Path, paths):
        files = list(path.glob(METADATA)) or sorted(path.glob(f"*/{METADATA}"))
        if not files:
            raise TaskError(f"{path} is neither a task folder in HEAR format nor a folder of such")
        found += [file.parent for file in files]
    return list(dict.fromkeys(found))


def audio_rates(folder: Path) -> list[int]:
    """Sample rates in Hz that a task folder has a folder of audio for, in rising order."""
    return sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit())


def audio_info(path: Path, sample_rate: int) -> Any:
    """What libsndfile says of a clip, or an ``InputError`` if it is no audio, or has another rate in Hz."""
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as audio ({error})") from error
    if info.samplerate != sample_rate:
        raise InputError(f"{path}: has {info.samplerate} Hz, its folder's name says {sample_rate} Hz")
    return info


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TaskError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise TaskError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise TaskError(f"{path} must hold a JSON object")
    return content


def _one_of(metadata: Mapping[str, Any], key: str, accepted: tuple[str, ...], path: Path) -> str:
    value = metadata.get(key)
    if value not in accepted:
        raise TaskError(f"{path}: {key} must be one of {', '.join(accepted)}, got {value!r}")
    return value


def _strings(metadata: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    value = metadata.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise TaskError(f"{path}: {key} must be a list of one or more names, got {value!r}")
    return tuple(value)


def _duration(metadata: Mapping[str, Any], path: Path) -> float | None:
    """The length of all clips in seconds, or None."""
    value = metadata.get("sample_duration")
    if value is None:
        return None
    with suppress(ValueError):
        if _number(value) > 0:
            return _number(value)
    raise TaskError(f"{path}: sample_duration must be a positive number of seconds or null, got {value!r}")


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    """Labels of ``labelvocabulary.csv``, each at its index."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [(int(row["idx"]), row["label"]) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise TaskError(f"{path} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise TaskError(f"{path} must have the columns idx (a number) and label ({error})") from error
    labels = dict(rows)
    if not rows or sorted(index for index, _ in rows) != list(range(len(rows))):
        raise TaskError(f"{path}: the column idx must hold every number from 0 to {max(len(rows) - 1, 0)} once")
    if None in labels.values() or len(set(labels.values())) < len(rows):
        raise TaskError(f"{path}: every label must occur once")
    return tuple(labels[index] for index in range(len(rows)))


def _read_clips(folder: Path, split: str, embedding_type: str) -> Iterator[TaskClip]:
    path = folder / f"{split}.json"
    for name, said in _read_json(path).items():
        if Path(name).name != name or name in ("", ".", ".."):
            raise TaskError(f"{path}: {name!r} is not the name of a file")
        if embedding_type == "event":
            try:
                events = tuple(Event(str(e["label"]), _number(e["start"]), _number(e["end"])) for e in said)
            except (KeyError, TypeError, ValueError) as error:
                raise TaskError(f"{path}: {name} must have a list of events with label, start and end in ms") from error
            yield TaskClip(name, split, events=events)
        elif isinstance(said, list) and all(isinstance(label, (str, int)) for label in said):
            yield TaskClip(name, split, labels=tuple(map(str, said)))
        else:
            raise TaskError(f"{path}: {name} must have a list of labels, got {said!r}")


def _number(value: object) -> float:
    """A finite number, or a ``ValueError``."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)
