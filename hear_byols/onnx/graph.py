"""What an ONNX file computes, as torch modules that the exporter can follow: waveform in, embeddings out.

They equal :class:`hear_byols.model.EmbeddingModel` within float32 rounding. What differs is the way: the Fourier
transform is a convolution with windowed cosines and sines, edges are one gathering of samples, and windows share the
frames of their spectrograms only where they begin whole frames apart.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from hear_byols.config import NormalizationConfig
from hear_byols.framing import Framing
from hear_byols.frontend import LOG_OFFSET, LogMel, SharedSpectrogram
from hear_byols.normalization import MIN_STD, halfway


class ConvolvedLogMel(nn.Module):
    """The log-mel front end on signals whose edges are already extended by ``context`` samples on both sides.

    Args:
        log_mel: the front end that it equals.
    """

    basis: Tensor
    bank: Tensor

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        config = log_mel.config
        self.hop_length = config.hop_length
        self.win_length = config.win_length
        self.context = log_mel.context
        bank = log_mel.bank.detach().cpu()
        bins = torch.nonzero(bank.amax(1)).flatten()  # the others reach no mel band
        time = torch.arange(config.win_length, dtype=torch.float64)
        angles = 2 * math.pi / config.n_fft * torch.outer(bins.double(), time)
        window = log_mel.window.detach().cpu().double()
        basis = torch.cat([angles.cos() * window, angles.sin() * window])
        self.register_buffer("basis", basis.float()[:, None])
        self.register_buffer("bank", bank[bins].t().contiguous())

    def forward(self, extended: Tensor) -> Tensor:
        """[shape=(batch, n_samples + 2 * context)] -> [shape=(batch, n_mels, 1 + n_samples // hop_length)]."""
        cosines, sines = torch.conv1d(extended[:, None], self.basis, stride=self.hop_length).chunk(2, dim=1)
        return torch.log(self.bank @ (cosines.square() + sines.square()) + LOG_OFFSET)


class SceneGraph(nn.Module):
    """One vector a clip; shorter clips count as followed by zeros up to ``min_samples``.

    Args:
        log_mel: front end.
        encoder: of the model.
        normalization: ``dataset``, ``clip`` or ``halfway``.
        min_samples: see above; more than half an analysis window.
    """

    def __init__(
        self, log_mel: LogMel, encoder: nn.Module, normalization: NormalizationConfig, min_samples: int
    ) -> None:
        super().__init__()
        self.log_mel = ConvolvedLogMel(log_mel)
        self.encoder = exportable(encoder)
        self.normalization = normalization
        self.min_samples = min_samples

    def forward(self, waveform: Tensor) -> Tensor:
        """[shape=(batch, n_samples)] -> [shape=(batch, size)]."""
        length = torch.sym_max(waveform.shape[1], self.min_samples)
        context = self.log_mel.context
        positions = _reflect(torch.arange(length + 2 * context) - context, length)
        spectrograms = self.log_mel(_gather(waveform, positions))
        return self.encoder(_standardize(spectrograms, self.normalization)[:, None])


class TimestampGraph(nn.Module):
    """A vector a window, and the windows' centres.

    Args:
        log_mel: front end.
        encoder: of the model.
        normalization: ``dataset``, ``clip`` or ``halfway``.
        framing: of the windows.
    """

    hop_ms: Tensor

    def __init__(
        self, log_mel: LogMel, encoder: nn.Module, normalization: NormalizationConfig, framing: Framing
    ) -> None:
        super().__init__()
        self.log_mel = ConvolvedLogMel(log_mel)
        self.encoder = exportable(encoder)
        self.normalization = normalization
        self.framing = framing
        inside = SharedSpectrogram(log_mel, framing.frame_samples).inside.tolist()
        whole_frames = framing.hop_samples % log_mel.config.hop_length == 0
        self.shares_frames = whole_frames and any(inside) and not inside[-1]
        self.inside = [place for place, is_inside in enumerate(inside) if is_inside]
        self.register_buffer("hop_ms", torch.tensor(framing.hop_ms, dtype=torch.float64))  # exported as it is

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """[shape=(batch, n_samples)] -> [shape=(batch, n_windows, size)], [shape=(batch, n_windows)] in ms."""
        batch, n_samples = waveform.shape
        top, bottom = self.framing.hop_samples.as_integer_ratio()
        windows = torch.arange(n_samples * bottom // top + 1)
        starts = (2 * windows * top + bottom) // (2 * bottom) - self.framing.padding[0]  # as Framing.starts
        if self.shares_frames:
            spectrograms = self._shared_spectrograms(waveform, starts)
        else:
            spectrograms = self._spectrograms(waveform, starts, self._positions())
        vectors = self.encoder(_standardize(spectrograms, self.normalization).flatten(0, 1)[:, None])
        times = (windows.double() * self.hop_ms).float()
        return vectors.unflatten(0, (batch, windows.shape[0])), times.expand(batch, -1)

    def _positions(self) -> Tensor:
        """Of the samples that a window's spectrogram takes, counted from the window's start."""
        length, context = self.framing.frame_samples, self.log_mel.context
        return _reflect(torch.arange(length + 2 * context) - context, length)

    def _spectrograms(self, waveform: Tensor, starts: Tensor, positions: Tensor) -> Tensor:
        """Of samples at ``positions`` in windows: [shape=(batch, n_windows, n_mels, n_frames)]."""
        signals = _gather(waveform, starts[:, None] + positions)
        return self.log_mel(signals.flatten(0, 1)).unflatten(0, signals.shape[:2])

    def _shared_spectrograms(self, waveform: Tensor, starts: Tensor) -> Tensor:
        """The same of windows that begin whole frames apart: what depends on the signal alone is computed once."""
        hop, length = self.log_mel.hop_length, self.log_mel.win_length
        first, last = self.inside[0], self.inside[-1]
        step, positions = int(self.framing.hop_samples), self._positions()
        n_samples = (starts.shape[0] - 1) * step + (last - first) * hop + length
        frames = self.log_mel(_gather(waveform, starts[0] + positions[first * hop] + torch.arange(n_samples)))
        places = torch.arange(starts.shape[0])[:, None] * (step // hop) + torch.arange(last - first + 1)
        before = self._spectrograms(waveform, starts, positions[: (first - 1) * hop + length])
        after = self._spectrograms(waveform, starts, positions[(last + 1) * hop :])
        return torch.cat([before, frames[:, :, places].transpose(1, 2), after], 3)


def _gather(waveform: Tensor, positions: Tensor) -> Tensor:
    """Samples at positions [shape=(...)] of [shape=(batch, n_samples)], zeros outside: [shape=(batch, ...)]."""
    n_samples = waveform.shape[1]
    followed = torch.cat([waveform, waveform.new_zeros(waveform.shape[0], 1)], 1)
    return followed[:, torch.where(positions < 0, n_samples, positions.clamp(max=n_samples))]


def _reflect(positions: Tensor, length: Any) -> Tensor:
    """Fold positions that stick out of [0, length) back in, the edge sample not repeated."""
    last = length - 1
    return last - (last - positions.abs()).abs()


def _standardize(spectrograms: Tensor, normalization: NormalizationConfig) -> Tensor:
    """Standardize [shape=(n_clips, ...)] by fixed numbers, or each clip by its own (in double precision) or halfway."""
    if normalization.mode == "dataset":
        mean, std = normalization.of_dataset
        return (spectrograms - mean) / std
    values = spectrograms.flatten(1).double()
    mean = values.mean(1, keepdim=True)
    variance = (values - mean).square().sum(1, keepdim=True) / (values.shape[1] - 1)
    mean, std = mean.float(), variance.sqrt().float()
    if normalization.mode == "halfway":
        mean, std = halfway(mean, std, *normalization.of_dataset)
    trailing = (-1, *(1,) * (spectrograms.ndim - 1))
    return (spectrograms - mean.view(trailing)) / std.clamp_min(MIN_STD).view(trailing)


def exportable(encoder: nn.Module) -> nn.Module:
    """A copy on the CPU, in evaluation mode."""
    return copy.deepcopy(encoder).cpu().float().eval()
