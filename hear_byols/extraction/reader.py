"""Decoding audio in threads while the model works, in order and with a bounded amount of audio in memory."""

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition

import numpy as np
import torch

from hear_byols.audio import open_audio
from hear_byols.containers.recording import Recording
from hear_byols.errors import InputError
from hear_byols.extraction.files import AudioFile
from hear_byols.inputs import check_values

MAX_SECONDS = 600.0  # of decoded audio that waits for the model: 38 MB at 16 kHz
MAX_CLIPS = 256  # that wait
_MAX_THREADS = 16


@dataclass(frozen=True)
class Clip:
    """A decoded file, or why it could not be decoded."""

    file: AudioFile
    samples: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))  # mono float32 [shape=(n_samples,)]
    size: int = 0  # of the file in bytes, before it was decoded
    mtime_ns: int = 0  # its time of modification, likewise
    error: str = ""  # why it cannot be embedded
    notes: tuple[str, ...] = ()  # what is worth knowing of it


def read_ahead(files: Iterable[AudioFile], sample_rate: int, max_seconds: float = MAX_SECONDS) -> Generator[Clip]:
    """Decode files in threads, in order.

    Of audio that is not asked for yet, ``max_seconds`` may be decoded; a longer file is read alone.
    """
    budget = _Budget(round(max_seconds * sample_rate))
    waiting: deque[Future[tuple[Clip, int]]] = deque()
    pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), thread_name_prefix="hear_byols-reader")

    def read(ticket: int, file: AudioFile) -> tuple[Clip, int]:
        begun = _survey(file)
        n_samples = round(begun.seconds * sample_rate) if isinstance(begun, Recording) else 0
        budget.acquire(ticket, n_samples)  # in every case: others wait for this ticket
        return _decode(file, begun, sample_rate), n_samples

    def next_clip() -> Clip:
        clip, n_samples = waiting.popleft().result()
        budget.release(n_samples)
        return clip

    try:
        for ticket, file in enumerate(files):
            waiting.append(pool.submit(read, ticket, file))
            if len(waiting) >= MAX_CLIPS:
                yield next_clip()
        while waiting:
            yield next_clip()
    finally:
        budget.close()
        pool.shutdown(cancel_futures=True)


def read_clip(file: AudioFile, sample_rate: int) -> Clip:
    """Decode and check one file; whatever is wrong with it is in the result's ``error``."""
    return _decode(file, _survey(file), sample_rate)


def _survey(file: AudioFile) -> Recording | Clip:
    """A file that can be decoded, or with why it cannot."""
    try:
        return Clip(file, error=file.error) if file.error else open_audio(file.path)
    except (InputError, MemoryError) as error:
        return _failed(file, error)


def _decode(file: AudioFile, begun: Recording | Clip, sample_rate: int) -> Clip:
    if isinstance(begun, Clip):
        return begun
    try:
        audio = begun.read(sample_rate)
        check_values(torch.from_numpy(audio.samples)[None], [str(file.path)])
    except (InputError, MemoryError) as error:
        return _failed(file, error)
    return Clip(file, audio.samples, begun.n_bytes, begun.mtime_ns, notes=audio.notes)


def _failed(file: AudioFile, error: Exception) -> Clip:
    lack = f"{file.path}: there is not enough memory to read it"
    return Clip(file, error=str(error) if isinstance(error, InputError) else lack)


class _Budget:
    """Admits requests in the order of their tickets while their sum stays below a limit.

    The order rules out a deadlock: the request that the consumer waits for is never behind one that it does not yet
    wait for.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._turn = 0
        self._closed = False
        self._changed = Condition()

    def acquire(self, ticket: int, amount: int) -> None:
        """Wait for the ticket's turn and for room; anything fits when nothing else is held."""

        def may_pass() -> bool:
            fits = self._used == 0 or self._used + amount <= self._limit
            return self._closed or (ticket == self._turn and fits)

        with self._changed:
            self._changed.wait_for(may_pass)
            self._used += amount
            self._turn += 1
            self._changed.notify_all()

    def release(self, amount: int) -> None:
        """Give room back."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody through: nobody waits for the results any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
