"""Example audio made from nothing: eight short sounds, two of a kind, in various formats, rates (Hz) and channels."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

_SCALE_HZ = (262, 294, 330, 392, 440, 392, 330, 294)
# First three formants in Hz of the vowels in "father", "see", "boot", "bed", "law" (Peterson & Barney 1952, men).
_VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
_FORMANT_WIDTH_HZ = 90


def write_examples(folder: str | os.PathLike[str]) -> list[Path]:
    """Write two melodies, voices, series of bursts of noise and chirps, the same at every call; their paths.

    The folder is made if necessary.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (rate, make) in _EXAMPLES.items():
        soundfile.write(folder / name, 0.5 * make(rate), rate)
    return [folder / name for name in _EXAMPLES]


def melody(rate: int, transpose: float = 1.0, note_s: float = 0.3) -> np.ndarray:
    """Decaying notes with overtones, in stereo, all pitches times ``transpose``: [shape=(n_samples, 2)] in [-1, 1]."""
    time = np.arange(round(note_s * rate)) / rate
    notes = []
    for pitch in _SCALE_HZ:
        tones = (np.sin(2 * np.pi * pitch * transpose * k * time) / k**2 for k in range(1, 6))
        notes.append(sum(tones) * np.exp(-5 * time) * np.minimum(1, time / 0.005) / 1.5)
    left = np.concatenate(notes)
    return np.stack([left, 0.6 * left], axis=1)


def voice(rate: int, pitch_hz: float, syllable_s: float = 0.25) -> np.ndarray:
    """Vowels on a wavering pitch, harmonics weighted by the vowels' formants: [shape=(n_samples,)] in [-1, 1]."""
    n = round(syllable_s * rate)
    time = np.arange(8 * n) / rate
    phase = np.cumsum(pitch_hz * (1 + 0.08 * np.sin(2 * np.pi * 0.7 * time))) / rate
    fade = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 0.5
    syllables = []
    for i in range(8):
        formants = np.array(_VOWELS_HZ[i % len(_VOWELS_HZ)])
        harmonics = np.arange(1, int(min(4000, 0.45 * rate) / pitch_hz))
        distance = (harmonics[:, None] * pitch_hz - formants) / _FORMANT_WIDTH_HZ
        weights = (1 / (1 + distance**2) / (1, 2, 4)).sum(1) + 0.01
        waves = np.sin(2 * np.pi * harmonics[:, None] * phase[i * n : (i + 1) * n])
        syllable = weights @ waves
        syllables.append(syllable / np.abs(syllable).max() * fade)
    return np.concatenate(syllables)


def noise_bursts(rate: int, n_bursts: int = 6, burst_s: float = 0.35, seed: int = 0) -> np.ndarray:
    """White noise that starts suddenly and dies away, every ``burst_s``: [shape=(n_samples,)] in [-1, 1]."""
    n = round(burst_s * rate)
    noise = np.random.default_rng(seed).uniform(-1, 1, (n_bursts, n))
    return (noise * np.exp(-20 * np.arange(n) / rate)).reshape(-1)


def chirp(rate: int, from_hz: float = 100, to_hz: float = 3500, length_s: float = 2.0) -> np.ndarray:
    """A sine whose pitch changes exponentially: [shape=(n_samples,)] in [-1, 1]."""
    time = np.arange(round(length_s * rate)) / rate
    growth = np.log(to_hz / from_hz) / length_s
    return np.sin(2 * np.pi * from_hz * (np.exp(growth * time) - 1) / growth)


_EXAMPLES: dict[str, tuple[int, Callable[[int], np.ndarray]]] = {
    "melody.wav": (44100, melody),
    "melody_higher.flac": (22050, lambda rate: melody(rate, transpose=1.5)),
    "voice_low.wav": (16000, lambda rate: voice(rate, 110)),
    "voice_high.flac": (48000, lambda rate: voice(rate, 210)),
    "noise_bursts.flac": (32000, noise_bursts),
    "noise_bursts_faster.wav": (22050, lambda rate: noise_bursts(rate, n_bursts=9, burst_s=0.22, seed=1)),
    "chirp.wav": (8000, chirp),
    "chirp_falling.flac": (16000, lambda rate: chirp(rate, from_hz=3000, to_hz=150)),
}
