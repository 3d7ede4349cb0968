"""Audio files to mono samples, by one documented rule (``docs/embedding.md``).

Channels are averaged in the file's own rate, then resampled to the model's rate with soxr at its "HQ" quality; samples
stay float32 and are neither clipped nor scaled. The formats are libsndfile's: wav, flac, ogg, opus, mp3, aiff ..., and
with the extra ``formats`` those of FFmpeg: m4a, aac, webm, mp4, wma, amr ...

What a file holds is counted before it is decoded (:mod:`hear_byols.containers`), and compared with what was decoded: a
file is read whole or refused.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast, overload

import numpy as np

from hear_byols.containers.recording import Recording
from hear_byols.errors import AudioWarning, InputError

_LIBSNDFILE = "wav wave bwf rf64 w64 flac ogg oga opus mp3 mp2 mpga aif aiff aifc au snd caf"
_FFMPEG = (
    "m4a m4b aac mp4 m4v webm weba mka mkv mov 3gp wma asf wmv amr avi flv ogv spx wv ape tta mpc ac3 eac3 dts ra rm"
)
EXTENSIONS = frozenset(f".{name}" for name in _LIBSNDFILE.split())
FFMPEG_EXTENSIONS = frozenset(f".{name}" for name in _FFMPEG.split())  # opened with the extra "formats"

if TYPE_CHECKING:
    from torch import Tensor

AudioSource = str | bytes | os.PathLike[str] | os.PathLike[bytes] | BinaryIO


@overload
def load_audio(source: AudioSource, sample_rate: int = ..., *, as_tensor: Literal[False] = ...) -> np.ndarray: ...
@overload
def load_audio(source: AudioSource, sample_rate: int = ..., *, as_tensor: Literal[True]) -> Tensor: ...
def load_audio(source: AudioSource, sample_rate: int = 16000, *, as_tensor: bool = False) -> np.ndarray | Tensor:
    """Read a file as mono float32 samples at ``sample_rate``.

    The file is decoded block by block: beside the result only one block is held in its own rate and channels.

    Args:
        source: path of a file, or one that is open for reading bytes; any format, rate and number of channels.
        sample_rate: wanted rate in Hz, a model's ``sample_rate``.
        as_tensor: give a ``torch.Tensor`` on the CPU; by default a numpy array. Models take both.

    Returns:
        float32 samples [shape=(n_samples,)], nominally in [-1, 1].

    Raises:
        InputError: the file is missing, unreadable, cut off, damaged or empty, or holds NaN or infinite samples.
        OptionError: ``sample_rate`` is no rate.

    Warns:
        AudioWarning: channels that cancel each other, or an end that may be missing.
    """
    samples = _warned(open_audio(source), sample_rate)
    if not as_tensor:
        return samples
    import torch

    return torch.from_numpy(samples)


def decode_bytes(content: bytes, name: str, sample_rate: int = 16000) -> np.ndarray:
    """As :func:`load_audio`, for the bytes of a file that is in memory; errors call it ``name``."""
    return _warned(Recording(content, name), sample_rate)


def _warned(recording: Recording, sample_rate: int) -> np.ndarray:
    audio = recording.read(sample_rate)
    for note in audio.notes:
        warnings.warn(f"{recording.name}: {note}", AudioWarning, stacklevel=3)
    return audio.samples


def stream_audio(source: AudioSource, sample_rate: int = 16000) -> Iterator[np.ndarray]:
    """As :func:`load_audio`, block by block: nothing but a block is held, however long the file is.

    Yields:
        float32 samples [shape=(n_samples,)], which together are what :func:`load_audio` gives.
    """
    yield from open_audio(source).stream(sample_rate)


def audio_seconds(path: str | os.PathLike[str]) -> float:
    """Length of a file in seconds by its own count, 0 if that cannot be told."""
    try:
        return open_audio(path).seconds
    except InputError:
        return 0.0


def open_audio(source: AudioSource) -> Recording:
    """Survey a file, without decoding it.

    Raises:
        InputError: it is missing, unreadable, cut off or damaged.
    """
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the file"))
        try:
            content = cast(BinaryIO, source).read()
        except (OSError, ValueError) as error:  # closed, not open for reading, or the connection is gone
            raise InputError(f"{name}: cannot be read ({error})") from error
        if not isinstance(content, bytes):
            raise InputError(f"the file must be open for reading bytes (mode 'rb'), it gave {type(content).__name__}")
        return Recording(content, name)
    try:
        path = os.fsdecode(cast("str | os.PathLike[str]", source))
    except TypeError as error:
        raise InputError(f"a path or an open file is needed, got {type(source).__name__}") from error
    if not path:
        raise InputError("the path is empty")
    if "\0" in path:
        raise InputError(f"a path holds no NUL, got {path[:50]!r}; the bytes of a file are read as io.BytesIO(bytes)")
    return Recording(Path(path), path)
