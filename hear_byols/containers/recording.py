"""An audio file between two steps: surveyed, and then decoded, averaged and resampled."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import soundfile
import soxr

from hear_byols._util import memory
from hear_byols.containers import ffmpeg
from hear_byols.containers.content import Content, Part
from hear_byols.containers.kinds import FFMPEG, LIBSNDFILE, UNKNOWN, find_kind
from hear_byols.containers.slice import Slice
from hear_byols.errors import InputError, OptionError

MIN_RATE, MAX_RATE = 1000, 768_000  # Hz, of a file
_BLOCK = 1 << 17  # samples a channel that are decoded at a time
_CANCELLED = 0.1  # share of what averaging leaves of unrelated channels
_HELD = 8  # bytes for each sample while blocks become a whole
_UNKNOWN_FRAMES = 1 << 62


@dataclass(frozen=True)
class Audio:
    """A decoded file."""

    samples: np.ndarray  # mono float32 [shape=(n_samples,)]
    notes: tuple[str, ...] = ()  # what is worth knowing of it, such as channels that cancel each other


class Recording:
    """An audio file, by its path or its bytes, that was surveyed, and can be read; errors call it ``name``.

    ``n_bytes`` and ``mtime_ns`` (0 for bytes) are those of the file when it was surveyed.

    Raises:
        InputError: it is missing, unreadable, cut off or damaged.
    """

    def __init__(self, source: Path | bytes, name: str) -> None:
        self.name = name
        self._source = source
        with self._named(), self._open() as file:
            self.mtime_ns = os.fstat(file.fileno()).st_mtime_ns if isinstance(source, Path) else 0
            content = Content(file)
            self.n_bytes = content.size
            self._kind, self._start = find_kind(content)
            self._survey = self._kind.survey(content, self._start)

    @property
    def seconds(self) -> float:
        """Length by the file's own count, or its header's; 0 if neither can be told."""
        return sum(map(self._part_seconds, self._survey.parts))

    def read(self, sample_rate: int) -> Audio:
        """Decode, average and resample.

        Raises:
            InputError: less could be decoded than the file holds, or what was decoded is no audio.
        """
        rate, mixer, blocks = _checked_rate(sample_rate), _Mixer(), []
        room = memory.available_memory() // _HELD  # beyond it the system would end some process without a word
        with self._named():
            if sum(part.seconds or 0 for part in self._survey.parts) * rate > room:
                raise MemoryError
            for block in self._mono(rate, mixer):
                room -= len(block)
                if room < 0:
                    raise MemoryError
                blocks.append(block)
            samples = np.concatenate(blocks)
        return Audio(samples, (*self._survey.notes, *mixer.notes()))

    def stream(self, sample_rate: int) -> Iterator[np.ndarray]:
        """As :meth:`read`, block by block [shape=(n_samples,)]; the notes are left out.

        Raises:
            InputError: as in :meth:`read`, when the fault is met.
        """
        rate = _checked_rate(sample_rate)
        with self._named():
            yield from self._mono(rate, _Mixer())

    def _mono(self, rate: int, mixer: _Mixer) -> Iterator[np.ndarray]:
        """Blocks of all parts; in the end it is looked whether there were any, of a file that is still the same."""
        n_blocks = n_samples = 0
        for part in self._survey.parts:
            for block in self._decoded(part, rate, mixer):
                n_blocks, n_samples = n_blocks + 1, n_samples + len(block)
                yield block
        if n_samples == 0:
            raise InputError("holds no samples" + (f" at {rate} Hz" if n_blocks else ""))
        status = self._source.stat() if isinstance(self._source, Path) else None
        if status and (status.st_size, status.st_mtime_ns) != (self.n_bytes, self.mtime_ns):
            raise InputError("was written to while it was read; read it again when it is whole")

    def _decoded(self, part: Part, sample_rate: int, mixer: _Mixer) -> Iterator[np.ndarray]:
        """Mono blocks of a part at ``sample_rate``; in the end their length is compared with the part's."""
        with self._decoder(part, mixer) as (rate, wanted, blocks):
            if not MIN_RATE <= rate <= MAX_RATE:
                raise InputError(f"has a rate of {rate} Hz; rates from {MIN_RATE} to {MAX_RATE} Hz are read")
            n_samples = 0

            def mono() -> Iterator[np.ndarray]:
                nonlocal n_samples
                try:
                    for block in blocks:
                        n_samples += len(block)
                        yield mixer.mix(block)
                except soundfile.LibsndfileError as error:
                    seconds = f"{n_samples / rate:.2f}" + (f" of {wanted:.2f}" if wanted else "")
                    raise InputError(f"is damaged: {seconds} s could be read ({_plain_text(error)})") from error

            yield from _resampled(mono(), rate, sample_rate)
            if n_samples / rate < wanted - part.slack - 0.5 / rate:
                raise InputError(f"is damaged: {n_samples / rate:.2f} s could be read, and it holds {wanted:.2f} s")

    @contextmanager
    def _decoder(self, part: Part, mixer: _Mixer) -> Iterator[tuple[int, float, Iterator[np.ndarray]]]:
        """Open a part: its rate, the seconds it should have, and its blocks [shape=(n_samples, n_channels)]."""
        refusal: Exception | None = None
        if LIBSNDFILE in self._kind.readers:
            # First as it is; behind a header of ours only if a decoder would else stop too early.
            for header in (b"", part.header) if part.header else (b"",):
                with self._part_file(part, header) as file:
                    try:
                        sound = soundfile.SoundFile(file, closefd=False)  # pyright: ignore[reportArgumentType]
                    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
                        refusal = error
                        continue
                    with sound:
                        if self._kind is UNKNOWN and sound.format != "MP3":
                            raise InputError(
                                f"is {sound.format_info}, which is not read, since it cannot be seen whether such a "
                                "file is whole; convert it to WAV"
                            )
                        needed = (part.seconds or 0.0) * sound.samplerate - 0.5
                        if header == part.header or needed <= sound.frames < _UNKNOWN_FRAMES:
                            yield sound.samplerate, _length(part, sound), _blocks(sound)
                            return
        if FFMPEG not in self._kind.readers or not ffmpeg.is_available():
            raise InputError(f"cannot be read as audio ({self._reason(refusal)})") from refusal
        with self._open() as file, ffmpeg.open_decoder(file) as decoder:
            mixer.n_streams = decoder.n_streams
            yield decoder.rate, part.seconds or 0.0, decoder.blocks()

    def _part_seconds(self, part: Part) -> float:
        if part.seconds is not None:
            return part.seconds
        try:
            with (
                self._part_file(part, b"") as file,
                soundfile.SoundFile(file, closefd=False) as sound,  # pyright: ignore[reportArgumentType]
            ):
                return _length(part, sound)
        except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError):
            return 0.0

    @contextmanager
    def _part_file(self, part: Part, header: bytes) -> Iterator[int | str | BinaryIO]:
        """What libsndfile opens: the file itself if the part is all of it.

        It is not given the name, since it would then look for a companion, ``._NAME``, and take MP3 for Sound Designer.
        """
        start = part.body if header else part.start
        if isinstance(self._source, Path) and not header and start <= self._start and part.stop == self.n_bytes:
            with self._open() as file:
                yield str(self._source) if os.name == "nt" else file.fileno()
            return
        with io.BufferedReader(Slice(self._open(), start, part.stop, header), _BLOCK) as file:
            yield cast(BinaryIO, file)

    def _open(self) -> BinaryIO:
        if isinstance(self._source, bytes):
            return io.BytesIO(self._source)
        if not stat.S_ISREG(self._source.stat().st_mode):  # a pipe would be waited for without end
            raise InputError("is a folder" if self._source.is_dir() else "is not a file (a pipe or a device)")
        return open(self._source, "rb")

    def _reason(self, refusal: Exception | None) -> str:
        """Why the file was refused, and what to do."""
        if not self._kind.readers or self._kind is UNKNOWN:
            return f"it is {self._kind.name}"
        if FFMPEG in self._kind.readers:
            return f"{self._kind.name} needs PyAV: pip install 'hear_byols[formats]'"
        return f"{self._kind.name}, damaged or of a kind that libsndfile does not read: {_plain_text(refusal)}"

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Put the file's name before what goes wrong, whichever library says it."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error
        except FileNotFoundError as error:
            raise InputError(f"{self.name}: no such file") from error
        except MemoryError as error:
            advice = "there is not enough memory to decode it; cut it into shorter files"
            raise InputError(f"{self.name}: {advice}") from error
        except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError, ValueError, struct.error) as error:
            raise InputError(f"{self.name}: cannot be read as audio ({_plain_text(error)})") from error


class _Mixer:
    """Averages channels, and watches whether they cancel each other."""

    def __init__(self) -> None:
        self.n_streams = 1
        self._apart = self._together = 0.0  # energy of the channels, on average, and of their average

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Average [shape=(n_samples, n_channels)] to [shape=(n_samples,)]."""
        n_channels = block.shape[1]
        with np.errstate(all="ignore"):  # the host may have asked for errors
            mono = np.ascontiguousarray(block[:, 0] if n_channels == 1 else block.mean(axis=1))
            if n_channels > 1:
                self._apart += float(np.square(block).sum(dtype=np.float64)) / n_channels**2
                self._together += float(np.square(mono).sum(dtype=np.float64))
        if not np.isfinite(mono).all():
            raise InputError("holds NaN or infinite samples")
        return mono

    def notes(self) -> list[str]:
        """Lines if most of the sound is lost by averaging, and if there is other sound besides."""
        cancel = self._together < _CANCELLED * self._apart  # unrelated channels keep all of what is counted here
        return [
            *["its channels are in opposite phase and cancel each other: little of it was embedded"] * cancel,
            *[f"has {self.n_streams} streams of audio: only the first was read"] * (self.n_streams > 1),
        ]


def _checked_rate(sample_rate: int) -> int:
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, Integral) or not 1 <= sample_rate <= MAX_RATE:
        raise OptionError(f"sample_rate must be an integer from 1 to {MAX_RATE} Hz, got {sample_rate!r}")
    return int(sample_rate)


def _length(part: Part, sound: soundfile.SoundFile) -> float:
    """Seconds that a part has: by its own count, or by what its header says; 0 if neither tells."""
    if part.seconds is not None:
        return part.seconds
    return sound.frames / sound.samplerate if sound.frames < _UNKNOWN_FRAMES and sound.samplerate > 0 else 0.0


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block


def _resampled(blocks: Iterator[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Resample a stream of blocks, with the same result as the whole signal at once."""
    if rate == sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _plain_text(error: Exception | None) -> str:
    """What an error says, without libsndfile's guess that a file may be a pipe."""
    text = getattr(error, "error_string", "") or getattr(error, "strerror", "") or str(error)
    return text.rstrip(".") or type(error).__name__
