"""Audio files to mono samples, by one documented rule (``docs/embedding.md``).

Channels are averaged in the file's own rate, then resampled to the model's rate with soxr at its "HQ" quality; samples
stay float32 and are neither clipped nor scaled. The formats are libsndfile's: wav, flac, ogg, opus, mp3, aiff ...
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from hear_byols.errors import InputError

_BLOCK = 1 << 17  # samples a channel that are decoded at a time

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"})


def load_audio(path: str | os.PathLike[str], sample_rate: int = 16000) -> np.ndarray:
    """Read a file as mono float32 samples at ``sample_rate``.

    The file is decoded block by block: beside the result only one block is held in its own rate and channels.

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
        return _decode(path, str(path), sample_rate)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as audio ({_reason(path, error)})") from error


def decode_bytes(content: bytes, name: str, sample_rate: int = 16000) -> np.ndarray:
    """As :func:`load_audio`, for a file that is in memory, such as a member of an archive.

    Args:
        content: the file's bytes.
        name: what errors call it.
        sample_rate: wanted rate in Hz.

    Raises:
        InputError: as in :func:`load_audio`.
    """
    try:
        return _decode(io.BytesIO(content), name, sample_rate)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        raise InputError(f"{name}: cannot be read as audio ({error})") from error


def _decode(source: Path | io.BytesIO, name: str, sample_rate: int) -> np.ndarray:
    """Decode, average and resample, with libsndfile's own errors for what it cannot read."""
    with soundfile.SoundFile(source) as file:
        rate = file.samplerate
        blocks = list(_resampled(_mono_blocks(file, name), rate, sample_rate))
    mono = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if mono.size == 0:
        raise InputError(f"{name}: holds no samples" + (f" at {sample_rate} Hz" if blocks else ""))
    return mono


def audio_seconds(path: str | os.PathLike[str]) -> float:
    """Length of a file in seconds as its header says, 0 if that cannot be read."""
    try:
        return soundfile.info(path).duration
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError):
        return 0.0


def _mono_blocks(file: soundfile.SoundFile, name: str) -> Iterator[np.ndarray]:
    """Average the channels, [shape=(n_samples,)] at a time."""
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise InputError(f"{name}: holds NaN or infinite samples")
        yield np.ascontiguousarray(mono)


def _resampled(blocks: Iterator[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Resample a stream of blocks, with the same result as the whole signal at once."""
    if rate == sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _reason(path: Path, error: Exception) -> object:
    if not path.exists():
        return "no such file"
    return "is a folder" if path.is_dir() else error
