"""Spectrograms and mel filters of the teachers' front ends."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def power_spectrum(audio: Tensor, window: Tensor, hop: int, n_fft: int | None = None) -> Tensor:
    """Squared magnitudes of windowed frames: (n_clips, n_samples) -> (n_clips, n_frames, n_fft // 2 + 1).

    Every frame lies inside the audio and has the window's length, up to ``n_fft`` followed by zeros.
    """
    frames = audio.unfold(1, len(window), hop) * window
    spectrum = torch.fft.rfft(frames, n_fft)
    return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)


def reflected(audio: Tensor, n: int) -> Tensor:
    """Continue clips by ``n`` mirrored samples on both sides; by zeros where they are too short to be mirrored."""
    if audio.shape[1] <= n:
        return F.pad(audio, (n, n))
    return F.pad(audio[:, None], (n, n), mode="reflect")[:, 0]


def slaney_filters(n_mels: int) -> Tensor:
    """Area-normalized triangles on Slaney's mel scale, linear below 1 kHz, to 8 kHz; float32 (201, n_mels)."""
    log_step = math.log(6.4) / 27
    mels = torch.linspace(0, 15 + math.log(8) / log_step, n_mels + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * log_step))
    bins = torch.linspace(0, 8000, 201, dtype=torch.float64)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp_min(0)
    return (triangles * 2 / (high - low)).float()


def kaldi_filters(n_mels: int, n_bins: int, bin_hz: float, highest_hz: float) -> Tensor:
    """Triangles of height 1, straight over mels (1127 ln(1 + f / 700)), as Kaldi's; float32 (n_bins, n_mels)."""
    step = 1127 * math.log(1 + highest_hz / 700) / (n_mels + 1)
    bins = 1127 * torch.log1p(torch.arange(n_bins, dtype=torch.float64) * bin_hz / 700)[:, None]
    centre = step * torch.arange(1, n_mels + 1, dtype=torch.float64)
    return (1 - (bins - centre).abs() / step).clamp_min(0).float()
