"""EfficientAT mn04: a MobileNetV3 of width 0.4 for the sounds of AudioSet, distilled from PaSST (arXiv 2211.04772)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.teachers.base import Teacher
from hear_byols.teachers.spectra import kaldi_filters, power_spectrum, reflected

_BIN_HZ = 31.25
_N_BINS = 257
_N_MELS = 128


class BlockSizes(NamedTuple):
    """Of an inverted residual block: channels inside and out, kernel, stride, and those of the squeeze or 0."""

    inside: int
    out: int
    kernel: int
    stride: int = 1
    squeeze: int = 0
    hard: bool = False  # hardswish instead of a rectifier


_FIRST, _LAST = 8, 384
_BLOCKS = (
    BlockSizes(8, 8, 3),
    BlockSizes(24, 16, 3, 2),
    BlockSizes(32, 16, 3),
    BlockSizes(32, 16, 5, 2, 8),
    BlockSizes(48, 16, 5, 1, 16),
    BlockSizes(48, 16, 5, 1, 16),
    BlockSizes(96, 32, 3, 2, 0, True),
    BlockSizes(80, 32, 3, 1, 0, True),
    BlockSizes(72, 32, 3, 1, 0, True),
    BlockSizes(72, 32, 3, 1, 0, True),
    BlockSizes(192, 48, 3, 1, 48, True),
    BlockSizes(272, 48, 3, 1, 72, True),
    BlockSizes(272, 64, 5, 2, 72, True),
    BlockSizes(384, 64, 5, 1, 96, True),
    BlockSizes(384, 64, 5, 1, 96, True),
)


class SqueezeExcitation(nn.Module):
    """Weights channels by what they hold on the whole."""

    def __init__(self, n_channels: int, n_squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(n_channels, n_squeezed)
        self.excite = nn.Linear(n_squeezed, n_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n_clips, n_channels, n_mels, n_frames) -> the same shape."""
        weights = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return x * weights[:, :, None, None]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, weigh channels, project; add the input where shapes agree.

    Batch norms are folded into the convolutions.
    """

    def __init__(self, given: int, sizes: BlockSizes) -> None:
        super().__init__()
        inside = sizes.inside
        self.activation = F.hardswish if sizes.hard else F.relu_
        self.expand = nn.Conv2d(given, inside, 1) if inside != given else None
        self.depthwise = nn.Conv2d(inside, inside, sizes.kernel, sizes.stride, sizes.kernel // 2, groups=inside)
        self.squeeze = SqueezeExcitation(inside, sizes.squeeze) if sizes.squeeze else None
        self.project = nn.Conv2d(inside, sizes.out, 1)
        self.residual = sizes.stride == 1 and given == sizes.out

    def forward(self, x: Tensor) -> Tensor:
        """(n_clips, given, n_mels, n_frames) -> (n_clips, out, n_mels / stride, n_frames / stride)."""
        inside = x if self.expand is None else self.activation(self.expand(x))
        inside = self.activation(self.depthwise(inside))
        if self.squeeze is not None:
            inside = self.squeeze(inside)
        out = self.project(inside)
        return out.add_(x) if self.residual else out


class MN04(Teacher):
    """Frames of the layers' maps, averaged over frequency, every 320 ms; layer 16 is the 384-value embedding.

    The network was trained at 32 kHz. Its log-mel spectrogram of audio without anything above 8 kHz is computed from
    16 kHz samples: the same frames (25 ms every 10 ms) and bins (31.25 Hz), four times the power for half as many
    samples a frame, and the 32 kHz pre-emphasis as a gain a bin.
    """

    name = "mn04"
    frame_ms = 320.0
    first_ms = 160.0  # the middle of 32 spectrogram frames
    LAYERS = range(17)
    DEFAULT_LAYERS = (3, 6, 10, 12, 13, 14, 15, 16)
    SIZES = (_FIRST, *(sizes.out for sizes in _BLOCKS), _LAST)

    def build(self) -> None:
        self.first = nn.Conv2d(1, _FIRST, 3, 2, 1)
        self.blocks = nn.ModuleList(map(InvertedResidual, self.SIZES, _BLOCKS))
        self.last = nn.Conv2d(_BLOCKS[-1].out, _LAST, 1)
        # 400 samples in the middle of 512, every second of the 800-point window at 32 kHz
        window = F.pad(torch.hann_window(800, periodic=False)[::2], (56, 56))
        self.register_buffer("window", window, persistent=False)
        angles = -2j * math.pi * torch.arange(_N_BINS, dtype=torch.float64) * _BIN_HZ / 32000
        gain = 4 * (1 - 0.97 * torch.exp(angles)).abs().square()
        mel = kaldi_filters(_N_MELS, _N_BINS, _BIN_HZ, 15000) * gain.float()[:, None]
        self.register_buffer("mel", mel, persistent=False)

    def front_end(self, audio: Tensor) -> Tensor:
        """Log-mel spectrogram: (n_clips, n_samples) -> (n_clips, 1, 128, n)."""
        power = power_spectrum(reflected(audio, 256), self.window, 160)
        return ((torch.log(power @ self.mel + 1e-5) + 4.5) / 5).transpose(1, 2)[:, None]

    def network(self, features: Tensor) -> Tensor:
        """(n_clips, 1, 128, n) -> (n_clips, n / 32, size)."""
        x = F.hardswish(self.first(features))
        means = {0: x.mean(2)}
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in self.layers:
                means[number] = x.mean(2)
        if 16 in self.layers:
            means[16] = F.hardswish(self.last(x)).mean(2)
        parts = [F.adaptive_avg_pool1d(means[number], x.shape[3]) for number in self.layers]
        return torch.cat(parts, 1).transpose(1, 2)
