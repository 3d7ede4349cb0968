"""Decoding by FFmpeg's libraries, which PyAV carries (extra ``formats``): what libsndfile cannot read."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np

from hear_byols.errors import InputError

_TELLS_LENGTH = ("mov", "matroska", "asf", "avi", "flv", "wv", "ape", "tta", "mpc", "caf")  # others only estimate it
_CHECKED = ("tta", "wavpack", "ape")  # codecs with checksums, which FFmpeg compares on wish only
_SLACK = 0.25  # seconds that an encoder's padding may take


def is_available() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


class Decoder:
    """The first audio stream of a file, which is a container of PyAV."""

    def __init__(self, container: Any) -> None:
        if not container.streams.audio:
            raise InputError("holds no audio stream")
        self._container = container
        self.n_streams = len(container.streams.audio)
        self._stream = container.streams.audio[0]
        codec = self._stream.codec_context
        if codec is None:
            raise InputError("its codec is not known to FFmpeg")
        if codec.name in _CHECKED:
            codec.options = {"err_detect": "crccheck+explode"}
        self.rate = int(self._stream.rate or 0)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 samples [shape=(n_samples, n_channels)].

        Raises:
            InputError: the stream is damaged, changes on its way, or is shorter than the file says.
        """
        from av.error import FFmpegError

        n_samples = 0
        try:
            for block in self._resampled():
                n_samples += len(block)
                yield block
        except FFmpegError as error:
            raise InputError(f"is damaged or cut off after {n_samples / self.rate:.2f} s ({error.strerror})") from error
        announced = self._announced()
        if n_samples / self.rate < announced - _SLACK:
            raise InputError(f"is cut off or damaged: {n_samples / self.rate:.2f} of {announced:.2f} s could be read")

    def _resampled(self) -> Iterator[np.ndarray]:
        """Frames as float32, in the stream's own rate and channels."""
        import av

        resampler = av.AudioResampler(format="fltp", rate=self.rate)
        layout = None
        for frame in self._container.decode(self._stream):
            layout = layout or frame.layout.name
            if frame.sample_rate != self.rate or frame.layout.name != layout:
                raise InputError("changes its rate or channels on its way; decode it to one of each")
            if frame.is_corrupt:
                raise InputError("is damaged: a frame cannot be decoded whole")
            yield from (block.to_ndarray().T for block in resampler.resample(frame))
        yield from (block.to_ndarray().T for block in resampler.resample(None))

    def _announced(self) -> float:
        """Seconds that the file says the stream has, 0 if it does not."""
        if not any(name in self._container.format.name for name in _TELLS_LENGTH):
            return 0.0
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        text = self._stream.metadata.get("DURATION")
        if text:
            hours, minutes, seconds = text.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if len(self._container.streams) > 1 or self._container.duration is None:
            return 0.0
        return self._container.duration / 1e6


@contextmanager
def open_decoder(source: BinaryIO) -> Iterator[Decoder]:
    """Open a file; PyAV's errors within become ours.

    Raises:
        InputError: FFmpeg cannot read it.
    """
    import av
    from av.error import FFmpegError

    try:
        with av.open(source) as container:
            yield Decoder(container)
    except (FFmpegError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read as audio (neither libsndfile nor FFmpeg: {reason})") from error
