"""Log-mel front end in plain torch (paper, section 2), on the device of its input.

One primitive serves every caller: windowed segments of the signal -> FFT -> HTK mel bank -> logarithm. A whole clip
takes its segments every ``hop_length`` samples; overlapping windows take each distinct segment once and share it
(:class:`SharedSpectrogram`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.config import FrontendConfig

LOG_OFFSET = torch.finfo(torch.float32).eps  # added to the mel power before the logarithm
_MAX_SEGMENTS = 8192  # FFT frames in memory at a time: 8192 x 513 complex values are 34 MB


def mel_filterbank(config: FrontendConfig) -> Tensor:
    """HTK mel bank without area normalisation.

    Args:
        config: the front end.

    Returns:
        Triangular filters, float32 [shape=(n_fft // 2 + 1, n_mels)].
    """

    def to_mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    # In float32 throughout, as torchaudio does it: the published weights have seen its rounding.
    mels = torch.linspace(to_mel(config.f_min), to_mel(config.f_max), config.n_mels + 2)
    corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(0, config.sample_rate // 2, config.n_fft // 2 + 1)
    rising = (bins[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp_min(0)


class LogMel(nn.Module):
    """Waveform to log-mel spectrogram: natural log of (mel power + float32 eps).

    Args:
        config: rates, window, bands.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, config: FrontendConfig | None = None) -> None:
        super().__init__()
        self.config = config or FrontendConfig()
        window = torch.hann_window(self.config.win_length, periodic=True)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bank", mel_filterbank(self.config), persistent=False)

    @property
    def context(self) -> int:
        """Samples that a frame sees before its centre (and one fewer after): half the analysis window."""
        return self.config.win_length // 2

    @property
    def min_samples(self) -> int:
        """Fewest samples of a clip: reflection at the edges needs more than half an analysis window."""
        return self.context + 1

    def n_frames(self, n_samples: int) -> int:
        """Number of spectrogram frames of a clip of ``n_samples``."""
        return 1 + n_samples // self.config.hop_length

    def segments_log_mel(self, segments: Tensor) -> Tensor:
        """Turn stretches of signal, each ``win_length`` samples long, into log-mel frames.

        Args:
            segments: [shape=(..., win_length)].

        Returns:
            [shape=(..., n_mels)].
        """
        # Centred in the FFT frame: the power spectrum would be the same anywhere in it, but not its rounding, which
        # shows in the quiet bands of pure tones.
        before = (self.config.n_fft - self.config.win_length) // 2
        after = self.config.n_fft - self.config.win_length - before
        spectrum = torch.fft.rfft(F.pad(segments * self.window, (before, after)))
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power @ self.bank + LOG_OFFSET)

    def forward(self, audio: Tensor) -> Tensor:
        """Compute the spectrogram of whole clips, edges reflected.

        Args:
            audio: float32 [shape=(n_clips, n_samples >= min_samples)].

        Returns:
            [shape=(n_clips, n_mels, 1 + n_samples // hop_length)].
        """
        padded = F.pad(audio[:, None], (self.context, self.context), mode="reflect")[:, 0]
        segments = padded.unfold(1, self.config.win_length, self.config.hop_length)  # a view
        n_clips, n_frames = segments.shape[:2]
        step = max(1, _MAX_SEGMENTS // n_clips)
        blocks = [self.segments_log_mel(segments[:, i : i + step]) for i in range(0, n_frames, step)]
        return torch.cat(blocks, dim=1).transpose(1, 2)


class SharedSpectrogram:
    """Spectrograms of overlapping windows at the cost of one: every distinct frame is computed once.

    A frame whose analysis window lies inside its window depends on the signal only, and is shared by all windows that
    contain it. The few frames at a window's edges see that window's own reflection and are computed for it alone. The
    result equals :class:`LogMel` applied to each window.

    Args:
        log_mel: the front end.
        frame_samples: length of a window in samples, at least ``log_mel.min_samples``.
    """

    def __init__(self, log_mel: LogMel, frame_samples: int) -> None:
        self.log_mel = log_mel
        self.frame_samples = frame_samples
        hop, context, length = log_mel.config.hop_length, log_mel.context, log_mel.config.win_length
        centres = torch.arange(log_mel.n_frames(frame_samples)) * hop
        inside = (centres >= context) & (centres - context + length <= frame_samples)
        self._inner = torch.nonzero(inside).flatten()
        self._edge = torch.nonzero(~inside).flatten()
        self._inner_offsets = centres[inside] - context
        self._edge_samples = _reflect(centres[~inside, None] - context + torch.arange(length), frame_samples)

    def __call__(self, audio: Tensor, starts: Tensor) -> Tensor:
        """Compute the spectrograms of windows.

        Args:
            audio: [shape=(n_clips, n_samples)], padded so that every window lies within it.
            starts: int64 [shape=(n_windows,)] first samples of the windows, on the CPU.

        Returns:
            [shape=(n_clips, n_windows, n_mels, n_frames)].
        """
        n_clips, n_windows = audio.shape[0], len(starts)
        n_mels = self.log_mel.config.n_mels
        n_frames = len(self._inner) + len(self._edge)
        frames = audio.new_empty((n_clips, n_windows, n_frames, n_mels))
        device = audio.device
        if len(self._inner):
            distinct, place = torch.unique(starts[:, None] + self._inner_offsets, return_inverse=True)
            views = audio.unfold(1, self.log_mel.config.win_length, 1)
            shared = self.log_mel.segments_log_mel(views[:, distinct.to(device)])
            frames[:, :, self._inner.to(device)] = shared[:, place.to(device)]
        samples = starts[:, None, None] + self._edge_samples
        frames[:, :, self._edge.to(device)] = self.log_mel.segments_log_mel(audio[:, samples.to(device)])
        return frames.transpose(2, 3)


def _reflect(positions: Tensor, length: int) -> Tensor:
    """Fold sample positions that stick out of [0, length) back in, the edge sample not repeated."""
    folded = positions.abs()
    return torch.where(folded >= length, 2 * (length - 1) - folded, folded)
