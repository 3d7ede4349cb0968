"""Isolated sounds to mix event tasks from: the clips of a scene task, or sounds made from nothing.

A source is drawn by label and by split, so that no split hears a recording (or a made sound) of another.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hear_byols.audio import load_audio
from hear_byols.errors import TaskError
from hear_byols.evaluation.tasks import TaskClip, read_task

SPLITS = ("train", "valid", "test")
SAMPLE_RATE = 16000
_FRAME = SAMPLE_RATE // 100  # 10 ms
_QUIET_DB = -40.0  # below the loudest frame: silence that is trimmed

Draw = Callable[[str, str, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Sounds:
    """Isolated sounds by label."""

    origin: str  # where they are from, for the metadata
    labels: tuple[str, ...]  # that every split has sounds of
    draw: Draw  # gives one of a label and a split, without silence around it, float32 [shape=(n_samples,)]
    task: str = ""  # name of the task they are from; empty if they are made


def sounds_of_task(folder: str | os.PathLike[str]) -> Sounds:
    """The clips of a scene task at 16 kHz with one label each; its own splits or folds keep the recordings apart.

    Of k folds the last tests, the one before validates and the rest trains.

    Raises:
        TaskError: an event task, or no label that all three splits have clips of.
    """
    task = read_task(folder)
    if task.is_event:
        raise TaskError(f"{folder} is an event task; isolated sounds come from a scene task")
    *train, valid, test = SPLITS if task.split_mode == "trainvaltest" else sorted(task.splits)
    pool: dict[str, dict[str, list[TaskClip]]] = {split: {} for split in SPLITS}
    for split, own in zip(SPLITS, (train, [valid], [test]), strict=True):
        for clip in (clip for source in own for clip in task.clips[source] if len(clip.labels) == 1):
            pool[split].setdefault(clip.labels[0], []).append(clip)
    labels = tuple(label for label in task.vocabulary if all(pool[split].get(label) for split in SPLITS))
    if not labels:
        raise TaskError(f"{folder} has no label with clips in all of training, validation and test")

    def draw(label: str, split: str, random: np.random.Generator) -> np.ndarray:
        clips = pool[split][label]
        clip = clips[random.integers(len(clips))]
        return trim(load_audio(task.audio_path(clip, SAMPLE_RATE), SAMPLE_RATE))

    return Sounds(f"clips of {task.name} {task.version}".rstrip(), labels, draw, task.name)


def trim(samples: np.ndarray) -> np.ndarray:
    """Cut silence off both ends: frames of 10 ms that are 40 dB below the loudest."""
    n_frames = max(1, len(samples) // _FRAME)
    frames = np.array_split(samples.astype(np.float64), n_frames)
    power = np.array([np.mean(frame**2) for frame in frames])
    loud = np.flatnonzero(power >= max(power.max() * 10 ** (_QUIET_DB / 10), 1e-20))
    if loud.size == 0:
        return samples
    return np.concatenate(frames[loud[0] : loud[-1] + 1]).astype(np.float32)


def _time(seconds: float) -> np.ndarray:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _decay(time: np.ndarray, seconds: float) -> np.ndarray:
    return np.exp(-time / seconds) * np.minimum(1, time / 0.002)


def _noise(random: np.random.Generator, seconds: float, low: float, high: float) -> np.ndarray:
    """White noise of the frequencies from ``low`` to ``high``."""
    noise = random.normal(size=round(seconds * SAMPLE_RATE))
    spectrum, frequency = np.fft.rfft(noise), np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    spectrum[(frequency < low) | (frequency > high)] = 0
    return np.fft.irfft(spectrum, len(noise))


def _beep(random: np.random.Generator) -> np.ndarray:
    time = _time(random.uniform(0.2, 0.6))
    return np.sin(2 * np.pi * random.uniform(900, 2500) * time)


def _ring(random: np.random.Generator) -> np.ndarray:
    time, low = _time(random.uniform(0.7, 1.5)), random.uniform(400, 700)
    tone = np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * low * 1.25 * time)
    return tone * (0.5 + 0.5 * np.sign(np.sin(2 * np.pi * random.uniform(12, 25) * time)))


def _sweep(random: np.random.Generator) -> np.ndarray:
    time = _time(random.uniform(0.3, 0.8))
    first, last = random.uniform(300, 800), random.uniform(1500, 4000)
    return np.sin(2 * np.pi * (first * time + (last - first) * time**2 / (2 * time[-1])))


def _knocks(random: np.random.Generator) -> np.ndarray:
    one = _noise(random, 0.15, 80, random.uniform(400, 900)) * _decay(_time(0.15), 0.02)
    return np.tile(np.pad(one, (0, round(random.uniform(0.05, 0.15) * SAMPLE_RATE))), int(random.integers(2, 5)))


def _keys(random: np.random.Generator) -> np.ndarray:
    strokes = [_noise(random, 0.06, 2000, 7000) * _decay(_time(0.06), 0.006) for _ in range(random.integers(4, 9))]
    return np.concatenate([np.pad(s, (0, round(random.uniform(0.03, 0.12) * SAMPLE_RATE))) for s in strokes])


def _slam(random: np.random.Generator) -> np.ndarray:
    seconds = random.uniform(0.5, 0.9)
    return _noise(random, seconds, 40, random.uniform(200, 500)) * _decay(_time(seconds), 0.12)


def _hiss(random: np.random.Generator) -> np.ndarray:
    seconds = random.uniform(0.5, 1.2)
    return _noise(random, seconds, random.uniform(2500, 4000), 7500) * np.hanning(round(seconds * SAMPLE_RATE))


def _printer(random: np.random.Generator) -> np.ndarray:
    seconds = random.uniform(0.8, 1.5)
    teeth = np.maximum(0, np.sin(2 * np.pi * random.uniform(20, 40) * _time(seconds))) ** 4
    return _noise(random, seconds, 500, 3000) * teeth


_OFFICE = {make.__name__[1:]: make for make in (_beep, _hiss, _keys, _knocks, _printer, _ring, _slam, _sweep)}


def _note(pitch: int, random: np.random.Generator) -> np.ndarray:
    """Decaying harmonics, the timbre drawn anew."""
    time = _time(2.0)
    base = 440 * 2 ** ((pitch - 69) / 12) * 2 ** (random.normal(0, 3) / 1200)  # 3 cents off tune
    stiffness, slope, seconds = random.uniform(0, 3e-4), random.uniform(0.7, 1.6), random.uniform(0.5, 1.5)
    sound = np.zeros_like(time)
    for n in range(1, 16):
        frequency = n * base * np.sqrt(1 + stiffness * n**2)
        if frequency < SAMPLE_RATE / 2 - 200:
            partial = np.sin(2 * np.pi * frequency * time + random.uniform(0, 2 * np.pi))
            sound += n**-slope * partial * _decay(time, seconds / n**0.5)
    return sound


_PITCHES = tuple(map(str, range(48, 84)))  # C3 to B5, as MIDI numbers
# Every sound another, and no recordings are needed.
MADE = {
    "office": Sounds("made from noise and tones", tuple(_OFFICE), lambda label, _, rng: trim(_OFFICE[label](rng))),
    "notes": Sounds("made by adding harmonics", _PITCHES, lambda label, _, rng: trim(_note(int(label), rng))),
}
