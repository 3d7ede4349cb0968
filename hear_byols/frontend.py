"""Log-mel front end in plain torch (paper, section 2), on the device of its input and always in float32.

One primitive serves every caller: windowed segments of the signal -> FFT -> HTK mel bank -> logarithm. A whole clip
takes its segments every ``hop_length`` samples; overlapping windows take each distinct segment once and share it
(:class:`SharedSpectrogram`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols._util.host import no_autocast
from hear_byols.config import FrontendConfig
from hear_byols.errors import OptionError
from hear_byols.framing import SharedColumns
from hear_byols.normalization import Moments

LOG_OFFSET = torch.finfo(torch.float32).eps  # added to the mel power before the logarithm
_MAX_VALUES = {"cpu": 512 * 1024}  # of FFT frames in memory at a time: a processor keeps so many near
_MAX_VALUES_GPU = 8192 * 1024  # whose spectra are 34 MB
_MAX_KNOWN = 4 * 1024 * 1024  # values of frames that are held to be used again, 17 MB: minutes of windows of 50 ms hop


def mel_filterbank(config: FrontendConfig) -> Tensor:
    """HTK mel bank without area normalization: triangular filters, float32 [shape=(n_fft // 2 + 1, n_mels)].

    Raises:
        OptionError: the bands are so narrow that two edges are one in float32.
    """

    def to_mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    # In float32 throughout, as torchaudio does it: the published weights have seen its rounding.
    plain = {"dtype": torch.float32, "device": "cpu"}
    mels = torch.linspace(to_mel(config.f_min), to_mel(config.f_max), config.n_mels + 2, **plain)
    corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(0, config.sample_rate // 2, config.n_fft // 2 + 1, **plain)
    rising = (bins[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    if not bool((corners[1:] > corners[:-1]).all()):
        raise OptionError(
            f"{config.n_mels} mel bands do not fit between f_min={config.f_min!r} and f_max={config.f_max!r} Hz"
        )
    return torch.minimum(rising, falling).clamp_min(0)


class LogMel(nn.Module):
    """Waveform to log-mel spectrogram: natural log of (mel power + float32 eps).

    It stays float32 when the module that holds it is converted, and within autocast.

    Raises:
        OptionError: there is no room for the mel bands.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, config: FrontendConfig | None = None) -> None:
        super().__init__()
        self.config = config or FrontendConfig()
        self.context = self.config.win_length // 2  # samples that a frame sees before its centre (one fewer after)
        self.min_samples = self.context + 1  # of a clip: reflection at the edges needs more than half a window
        window, bank = _constants(self.config)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bank", bank, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LogMel:
        """What ``to``, ``half``, ``cuda`` and their like do: only the device is taken over."""
        super()._apply(fn, recurse)
        device = self.window.device
        if device.type != "meta":
            self.window, self.bank = (constant.to(device) for constant in _constants(self.config))
        return self

    def n_frames(self, n_samples: int) -> int:
        """Number of spectrogram frames of a clip of ``n_samples``."""
        return 1 + n_samples // self.config.hop_length

    def n_together(self, audio: Tensor) -> int:
        """Frames of each clip of [shape=(n_clips, n_samples)] that are transformed at a time."""
        return max(1, _MAX_VALUES.get(audio.device.type, _MAX_VALUES_GPU) // self.config.n_fft // len(audio))

    def segments_log_mel(self, segments: Tensor) -> Tensor:
        """Turn pieces of signal into log-mel frames: [shape=(..., win_length)] -> [shape=(..., n_mels)]."""
        # Centred in the FFT frame: the power spectrum would be the same anywhere in it, but not its rounding, which
        # shows in the quiet bands of pure tones.
        before = (self.config.n_fft - self.config.win_length) // 2
        after = self.config.n_fft - self.config.win_length - before
        with no_autocast(segments.device):
            spectrum = torch.fft.rfft(F.pad(segments.float() * self.window, (before, after)))
            power = spectrum.real.square() + spectrum.imag.square()
            return torch.log(power @ self.bank + LOG_OFFSET)

    def forward(self, audio: Tensor) -> Tensor:
        """Spectrogram of whole clips, edges reflected: [shape=(n_clips, n_mels, 1 + n_samples // hop_length)].

        Args:
            audio: float32 [shape=(n_clips, n_samples >= min_samples)].
        """
        return self.stretch(audio, 0, self.n_frames(audio.shape[1]))

    def stretch(self, audio: Tensor, first: int, stop: int) -> Tensor:
        """Only frames ``first`` to ``stop - 1`` of :meth:`forward`: [shape=(n_clips, n_mels, stop - first)]."""
        hop, length = self.config.hop_length, self.config.win_length
        step = self.n_together(audio)
        blocks = []
        for i in range(first, stop, step):
            start = i * hop - self.context
            signal = _reflected(audio, start, start + (min(i + step, stop) - i - 1) * hop + length)
            blocks.append(self.segments_log_mel(signal.unfold(1, length, hop)))  # a view
        return torch.cat(blocks, dim=1).transpose(1, 2)


def _constants(config: FrontendConfig) -> tuple[Tensor, Tensor]:
    """Analysis window and mel bank, float32 on the CPU."""
    window = torch.hann_window(config.win_length, periodic=True, dtype=torch.float32, device="cpu")
    return window, mel_filterbank(config)


def _reflected(audio: Tensor, start: int, stop: int) -> Tensor:
    """Samples ``start`` to ``stop - 1`` of clips, the signal reflected where these lie outside of it."""
    n_samples = audio.shape[1]
    inside = audio[:, max(start, 0) : min(stop, n_samples)]
    before, after = max(-start, 0), max(stop - n_samples, 0)
    if not before and not after:
        return inside
    last = n_samples - 1
    return torch.cat([audio[:, 1 : 1 + before].flip(1), inside, audio[:, last - after : last].flip(1)], dim=1)


class SharedSpectrogram:
    """Spectrograms of overlapping windows at the cost of one: every distinct frame is computed once.

    A frame whose analysis window lies inside its window depends on the signal only, and is shared by all windows that
    contain it. The few frames at a window's edges see that window's own reflection and are computed for it alone. The
    result equals :class:`LogMel` applied to each window, of at least ``log_mel.min_samples``.
    """

    def __init__(self, log_mel: LogMel, frame_samples: int) -> None:
        self.log_mel = log_mel
        centres = torch.arange(log_mel.n_frames(frame_samples), device="cpu") * log_mel.config.hop_length
        samples = centres[:, None] - log_mel.context + torch.arange(log_mel.config.win_length, device="cpu")
        self.inside = (samples[:, 0] >= 0) & (samples[:, -1] < frame_samples)
        self._samples = reflect(samples, frame_samples)

    def shared(self) -> SharedColumns:
        """Frames of the windows of a signal: what gives each distinct one once, by :meth:`frames`."""
        return SharedColumns(self.inside, self.log_mel.config.hop_length)

    def frames(self, audio: Tensor, starts: Tensor, windows: Tensor, places: Tensor) -> Iterator[Tensor]:
        """Compute frames of windows.

        Args:
            audio: [shape=(n_clips, n_samples)], padded so that every window lies within it.
            starts: int64 [shape=(n_windows,)] first samples of the windows, on the CPU.
            windows: the number of each frame's window [shape=(n,)].
            places: its place therein, likewise.

        Yields:
            [shape=(n_clips, n, n_mels)] in parts along the second axis.
        """
        step = self.log_mel.n_together(audio)
        length = self.log_mel.config.win_length
        views = F.pad(audio, (0, max(0, length - audio.shape[1]))).unfold(1, length, 1)  # shorter: none is inside
        for window, place in zip(windows.split(step), places.split(step), strict=True):
            inside = self.inside[place]
            first = (starts[window] + self._samples[place, 0])[inside].to(audio.device)
            samples = (starts[window, None] + self._samples[place])[~inside].to(audio.device)
            yield self.log_mel.segments_log_mel(torch.cat([views[:, first], audio[:, samples]], 1))

    def moments(self, stretches: Iterable[tuple[int, Tensor, Tensor]], known: list[Tensor] | None = None) -> Moments:
        """Statistics of the spectrograms of all windows of clips of equal length, from ``Framing.stretches``.

        ``known`` takes what :meth:`frames` gave for the first stretches, as many as there is room for.
        """
        moments, shared, room = Moments(), self.shared(), _MAX_KNOWN
        for _, starts, signal in stretches:
            columns = shared(starts, partial(self.frames, signal, starts - starts[0]))
            moments.update(columns.rows, torch.bincount(columns.at.flatten(), minlength=columns.rows.shape[1]))
            room -= columns.new.numel()
            if known is not None and room >= 0:
                known.append(columns.new)
        return moments

    def __call__(self, audio: Tensor, starts: Tensor) -> Tensor:
        """Spectrograms of windows, arguments as of :meth:`frames`: [shape=(n_clips, n_windows, n_mels, n_frames)]."""
        columns = self.shared()(starts, partial(self.frames, audio, starts))
        return columns.of_windows().transpose(2, 3)


def reflect(positions: Tensor, length: Any) -> Tensor:
    """Fold sample positions that stick out of [0, length) back in, the edge sample not repeated."""
    last = length - 1
    return last - (last - positions.abs()).abs()
