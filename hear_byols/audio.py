"""Audio files to mono samples, by one documented rule.

Channels are averaged in the file's own rate, then resampled to the model's rate with soxr at its "HQ" quality; samples
stay float32 and are neither clipped nor scaled. The formats are libsndfile's: wav, flac, ogg, opus, mp3, aiff ...
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from hear_byols.errors import InputError

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"})


def load_audio(path: str | os.PathLike[str], sample_rate: int = 16000) -> np.ndarray:
    """Read a file as mono float32 samples at ``sample_rate``.

    Args:
        path: any format that libsndfile reads, any rate and number of channels.
        sample_rate: wanted rate in Hz, a model's ``sample_rate``.

    Returns:
        float32 samples, nominally in [-1, 1] [shape=(n_samples,)].

    Raises:
        InputError: the file is missing, unreadable, empty or holds NaN or infinite samples.
    """
    path = Path(path)
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        reason = "no such file" if not path.exists() else "is a folder" if path.is_dir() else error
        raise InputError(f"{path}: cannot be read as audio ({reason})") from error
    mono = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)
    if mono.size == 0:
        raise InputError(f"{path}: holds no samples")
    if not np.isfinite(mono).all():
        raise InputError(f"{path}: holds NaN or infinite samples")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
        if mono.size == 0:
            raise InputError(f"{path}: too short to resample from {rate} to {sample_rate} Hz")
    return np.ascontiguousarray(mono, dtype=np.float32)
