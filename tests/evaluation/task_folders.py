"""Small task folders in HEAR format, made on the spot."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16000
SPLITS = ("train", "valid", "test")


def write_task(folder: Path, splits: dict[str, dict[str, Any]], vocabulary: list[str], **metadata: Any) -> Path:
    """A task folder without audio: metadata, vocabulary and labels."""
    folder.mkdir(parents=True)
    defaults: dict[str, Any] = {
        "task_name": folder.name.split("-")[0],
        "version": "v1",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "sample_duration": 0.5,
        "evaluation": ["top1_acc"],
        "evaluation_params": {},
        "splits": list(splits),
    }
    (folder / "task_metadata.json").write_text(json.dumps({**defaults, **metadata}))
    rows = [f"{i},{label}" for i, label in enumerate(vocabulary)]
    (folder / "labelvocabulary.csv").write_text("\n".join(["idx,label", *rows, ""]))
    for split, labels in splits.items():
        (folder / f"{split}.json").write_text(json.dumps(labels))
    return folder


def event(label: str, start: float, end: float) -> dict[str, Any]:
    """An event as a task's files have it, in ms."""
    return {"label": label, "start": start, "end": end}


def write_event_task(
    parent: Path, clips: dict[str, list[dict[str, Any]]], vocabulary: Iterable[str] = "xy", **metadata: Any
) -> Path:
    """An event task without audio, with clips of these events in every split, ``<split>_<name>``."""
    splits = {split: {f"{split}_{name}": events for name, events in clips.items()} for split in SPLITS}
    kinds = {"embedding_type": "event", "prediction_type": "multilabel", "evaluation": ["event_onset_200ms_fms"]}
    return write_task(parent / "events-v1", splits, list(vocabulary), **{**kinds, **metadata})


def write_clip(folder: Path, split: str, name: str, samples: np.ndarray, rate: int = RATE) -> Path:
    """A file of audio in its place."""
    path = folder / str(rate) / split / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def tone(hz: float, seconds: float = 0.5, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone in faint noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time)) * 0.01
    return (0.3 * np.sin(2 * np.pi * hz * time) + noise).astype(np.float32)


PITCHES = {"low": 300.0, "mid": 900.0, "high": 2700.0}


def scene_task(parent: Path, splits: tuple[str, ...] = SPLITS, n: int = 4, rate: int = RATE, **metadata: Any) -> Path:
    """Tones of three pitches, ``n`` clips a pitch and split."""
    names = {split: {f"{split}_{label}{i}.wav": [label] for label in PITCHES for i in range(n)} for split in splits}
    folder = write_task(parent / "tones-v1-test", names, list(PITCHES), **metadata)
    for number, (split, labels) in enumerate(names.items()):
        for i, (name, (label,)) in enumerate(labels.items()):
            samples = tone(PITCHES[label] * (1 + 0.02 * i), rate=rate, seed=100 * number + i)
            write_clip(folder, split, name, samples, rate)
    return folder
