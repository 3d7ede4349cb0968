"""Labelled clips for the examples: synthesized, or read from FOLDER/<class>/*.wav (or flac, mp3, ogg ...)."""

from pathlib import Path

import numpy as np

from hear_byols.extraction.files import search

SAMPLE_RATE = 16000


def synthesize(n_per_class: int = 24, seconds: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make three classes of sounds, each clip of its own pitch, loudness and background noise.

    Args:
        n_per_class: clips of each class.
        seconds: length of a clip.
        seed: of the random numbers.

    Returns:
        Samples in [-1, 1] [shape=(3 * n_per_class, n_samples)], and class names [shape=(3 * n_per_class,)].
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    makers = {"hum": _hum, "sweep": _sweep, "clicks": _clicks}
    clips, labels = [], []
    for name, make in makers.items():
        for _ in range(n_per_class):
            sound = make(time, rng)
            loudness, noise = rng.uniform(0.05, 0.5), rng.uniform(0.005, 0.05)
            clips.append(loudness * sound / np.abs(sound).max() + noise * rng.uniform(-1, 1, time.size))
            labels.append(name)
    return np.stack(clips).astype(np.float32), np.array(labels)


def find_files(folder: str) -> tuple[list[Path], np.ndarray]:
    """List FOLDER/<class>/<audio file> in alphabetical order, with the class of each.

    Raises:
        SystemExit: fewer than two classes.
    """
    paths = [file.path for file in search(Path(folder)) if file.name.count("/") == 1]
    labels = np.array([path.parent.name for path in paths])
    if len(set(labels)) < 2:
        raise SystemExit(
            f"{folder}: expected audio files in two or more folders, one a class; found {len(paths)} files"
        )
    return paths, labels


def _hum(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A steady tone with harmonics."""
    pitch = rng.uniform(100, 400)
    return sum(np.sin(2 * np.pi * pitch * n * time + rng.uniform(0, 6)) / n for n in range(1, 6))


def _sweep(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tone that rises over two octaves."""
    pitch = rng.uniform(150, 500)
    octaves = 2 * time / time[-1]
    return np.sin(2 * np.pi * np.cumsum(pitch * 2**octaves) / SAMPLE_RATE)


def _clicks(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Short bursts of noise at a steady pace."""
    pace = rng.uniform(4, 12)  # per second
    return rng.uniform(-1, 1, time.size) * np.exp(-60 * ((time * pace + rng.uniform()) % 1) / pace)
