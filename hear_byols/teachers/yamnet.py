"""YAMNet: Google's MobileNet for the sounds of AudioSet."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.teachers.base import Teacher
from hear_byols.teachers.spectra import power_spectrum

_WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_HALVING = (1, 4, 8, 12, 24)  # convolutions that halve time and frequency, counted from 1
_WINDOW, _HOP = 15600, 15360  # samples that a frame sees, and from frame to frame
_LOST = 800  # samples that may remain at the end without a frame of their own


class YAMNet(Teacher):
    """Frames of 1024 values every 0.96 s, and the means of the layers' maps behind them.

    Layers count the convolutions: 1 the first, then pairs of a depthwise and a pointwise one, 27 the last, whose mean
    is the embedding and always there.
    """

    name = "yamnet"
    frame_ms = 960.0
    first_ms = _WINDOW / 32  # the middle of the first window
    LAYERS = range(1, 27)
    DEFAULT_LAYERS = (13, 17, 21)
    SIZES = tuple(_WIDTHS[number // 2] for number in range(26))
    OWN_SIZE = _WIDTHS[-1]
    offset: Tensor

    def build(self) -> None:
        self.convs = nn.ModuleList([nn.Conv2d(1, _WIDTHS[0], 3, 2)])
        for pair, (given, wanted) in enumerate(pairwise(_WIDTHS)):
            halving = 2 * pair + 2 in _HALVING
            depthwise = nn.Conv2d(given, given, 3, 2 if halving else 1, 0 if halving else 1, groups=given)
            self.convs += [depthwise, nn.Conv2d(given, wanted, 1)]
        self.register_buffer("window", torch.hann_window(400))
        self.register_buffer("mel", torch.zeros(257, 64))
        self.register_buffer("offset", torch.full((64,), 1e-3))

    def frames(self, audio: Tensor) -> Tensor:
        """Window by window, zeros after the last sample."""
        n_clips, n_samples = audio.shape
        n_frames = 1 + max(0, -((_WINDOW + _LOST - n_samples) // _HOP))
        audio = F.pad(audio, (0, max(0, (n_frames - 1) * _HOP + _WINDOW - n_samples)))
        windows = audio.unfold(1, _WINDOW, _HOP).reshape(-1, _WINDOW)
        return torch.cat(list(map(super().frames, windows.split(64)))).unflatten(0, (n_clips, -1))

    def front_end(self, audio: Tensor) -> Tensor:
        """Log-mel magnitudes: (n, 15600) -> (n, 1, 96, 64)."""
        magnitude = power_spectrum(audio, self.window, 160, 512).sqrt()
        return torch.log(magnitude @ self.mel + self.offset)[:, None]

    def network(self, features: Tensor) -> Tensor:
        """(n, 1, 96, 64) -> (n, size)."""
        x, means = features, {}
        for number, conv in enumerate(self.convs, 1):
            if number in _HALVING:
                x = F.pad(x, (0, 1, 0, 1))
            x = F.relu6(conv(x), inplace=True)
            if number in self.layers:
                means[number] = x.mean((2, 3))
        return torch.cat([x.mean((2, 3)), *(means[number] for number in self.layers)], 1)
