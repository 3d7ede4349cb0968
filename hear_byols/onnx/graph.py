"""What an ONNX file computes, as torch modules that the exporter can follow: waveform in, embeddings out.

They equal :class:`hear_byols.model.EmbeddingModel` within float32 rounding. What differs is the way: the Fourier
transform is a convolution with windowed cosines and sines, edges are one gathering of samples, and windows share the
frames of their spectrograms and the encoder's columns only where they begin whole samples apart.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hear_byols.config import NormalizationConfig
from hear_byols.frontend import LOG_OFFSET, LogMel, reflect
from hear_byols.model import EmbeddingModel
from hear_byols.normalization import halfway, standardize
from hear_byols.onnx.columns import Level, WindowColumns, blocks_of, embed_windows, last_level

Spectrograms = TypeVar("Spectrograms", Tensor, WindowColumns)


class ConvolvedLogMel(nn.Module):
    """The log-mel front end on signals whose edges are already extended by ``context`` samples on both sides."""

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

    def forward(self, extended: Tensor, hop: int | None = None) -> Tensor:
        """[shape=(batch, n_samples + 2 * context)] -> [shape=(batch, n_mels, 1 + n_samples // hop)]; hop in samples."""
        cosines, sines = torch.conv1d(extended[:, None], self.basis, stride=hop or self.hop_length).chunk(2, dim=1)
        return torch.log(self.bank @ (cosines.square() + sines.square()) + LOG_OFFSET)


class _Graph(nn.Module):
    """What both graphs consist of."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.log_mel = ConvolvedLogMel(model.log_mel)
        self.encoder = copy.deepcopy(model.encoder).cpu().float()
        self.normalization = model.config.normalization
        self.min_samples = model.min_clip_samples
        self.eval()

    def positions(self, n_samples: Any) -> Tensor:
        """Of the samples that the spectrogram of a signal takes, its edges reflected."""
        context = self.log_mel.context
        return reflect(torch.arange(n_samples + 2 * context) - context, n_samples)


class SceneGraph(_Graph):
    """One vector a clip, which zeros follow up to the model's ``min_clip_samples``."""

    def forward(self, waveform: Tensor) -> Tensor:
        """[shape=(batch, n_samples)] -> [shape=(batch, size)]."""
        positions = self.positions(torch.sym_max(waveform.shape[1], self.min_samples))
        spectrograms = self.log_mel(_gather(waveform, positions))
        return self.encoder(_standardize(spectrograms, self.normalization)[:, None])


class TimestampGraph(_Graph):
    """A vector a window, and the windows' centres."""

    hop_ms: Tensor

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__(model)
        self.framing = model.framing
        self.frames = self._level(model.shared_spectrogram.inside.tolist())
        shares = self.frames is not None and last_level(self.frames, self.encoder).pays
        self.shares_columns = shares and bool(blocks_of(self.encoder))
        self.register_buffer("hop_ms", torch.tensor(self.framing.hop_ms, dtype=torch.float64))  # exported as it is

    def _level(self, inside: list[bool]) -> Level | None:
        """Of the spectrograms' frames, where windows share enough of them."""
        hop = self.framing.hop_samples
        if hop.denominator > 1 or True not in inside or inside[-1]:
            return None
        stop = len(inside) - inside[::-1].index(True)
        level = Level(len(inside), inside.index(True), stop, self.log_mel.hop_length, int(hop))
        return level if level.pays else None

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """[shape=(batch, n_samples)] -> [shape=(batch, n_windows, size)], [shape=(batch, n_windows)] in ms."""
        batch, n_samples = waveform.shape
        top, bottom = self.framing.hop_samples.as_integer_ratio()
        windows = torch.arange(n_samples * bottom // top + 1)
        starts = (2 * windows * top + bottom) // (2 * bottom) - self.framing.padding[0]  # as Framing.starts
        times = (windows.double() * self.hop_ms).float().expand(batch, -1)
        if self.frames:
            frames = _standardize(self._shared_frames(waveform, starts, self.frames), self.normalization)
            if self.shares_columns:
                return embed_windows(frames, self.encoder), times
            spectrograms = frames.of_windows()
        else:
            signals = _gather(waveform, starts[:, None] + self.positions(self.framing.frame_samples))
            spectrograms = self.log_mel(signals.flatten(0, 1)).unflatten(0, signals.shape[:2])
            spectrograms = _standardize(spectrograms, self.normalization)
        vectors = self.encoder(spectrograms.flatten(0, 1)[:, None])
        return vectors.unflatten(0, (batch, windows.shape[0])), times

    def _shared_frames(self, waveform: Tensor, starts: Tensor, level: Level) -> WindowColumns:
        """Spectrograms of windows that begin whole samples apart: what depends on the signal alone is computed once."""
        hop, length = self.log_mel.hop_length, self.log_mel.win_length
        positions = self.positions(self.framing.frame_samples)
        n_samples = (starts.shape[0] - 1) * level.hop + (level.stop - level.first - 1) * hop + length
        begin = starts[0] + positions[level.first * hop]
        shared = self.log_mel(_gather(waveform, begin + torch.arange(n_samples)), level.grid)
        segments = positions.unfold(0, length, hop)

        def own(at: Tensor) -> Tensor:  # analysis windows side by side: few in a signal are slow to convolve
            frames = self.log_mel(_gather(waveform, starts[:, None, None] + at).flatten(1), length)
            return frames.unflatten(2, (-1, at.shape[0])).transpose(1, 2)

        before, after = own(segments[: level.first]), own(segments[level.stop :])
        return WindowColumns(level, before, shared, after)


def _gather(waveform: Tensor, positions: Tensor) -> Tensor:
    """Samples at positions [shape=(...)] of [shape=(batch, n_samples)], zeros outside: [shape=(batch, ...)]."""
    n_samples = waveform.shape[1]
    followed = torch.cat([waveform, waveform.new_zeros(waveform.shape[0], 1)], 1)
    return followed[:, torch.where(positions < 0, n_samples, positions.clamp(max=n_samples))]


def _standardize(spectrograms: Spectrograms, normalization: NormalizationConfig) -> Spectrograms:
    """Standardize [shape=(n_clips, ...)] by fixed numbers, or each clip by its own (in double precision) or halfway."""
    if normalization.mode == "dataset":
        return _each(spectrograms, lambda x: standardize(x, *normalization.of_dataset))
    exact = _each(spectrograms, Tensor.double)
    count = exact.n_values if isinstance(exact, WindowColumns) else exact[0].numel()
    mean = _sum(exact) / count
    variance = _sum(_each(exact, lambda x: (x - mean.view(-1, *(1,) * (x.ndim - 1))).square())) / (count - 1)
    own = mean.float(), variance.sqrt().float()
    own = halfway(*own, *normalization.of_dataset) if normalization.mode == "halfway" else own
    return _each(spectrograms, lambda x: standardize(x, *own))


def _each(spectrograms: Spectrograms, function: Callable[[Tensor], Tensor]) -> Spectrograms:
    return spectrograms.map(function) if isinstance(spectrograms, WindowColumns) else function(spectrograms)


def _sum(spectrograms: Spectrograms) -> Tensor:
    return spectrograms.sum() if isinstance(spectrograms, WindowColumns) else spectrograms.flatten(1).sum(1)
