"""Google's speech_embedding: the shared part of many keyword spotters (arXiv 2002.01322)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.inputs import pad_short
from hear_byols.teachers.base import Teacher
from hear_byols.teachers.spectra import power_spectrum

_WIDTHS = (24, 24, 24, *[48] * 4, *[72] * 4, *[96] * 9)
_POOLS = {2: (2, 2), 6: (1, 2), 10: (2, 2), 14: (1, 2), 18: (2, 2)}  # time and frequency, behind these convolutions
_MIN_SAMPLES = 12512  # a frame
_STEPS = 8  # spectrogram frames from frame to frame


class SpeechEmbedding(Teacher):
    """Frames of 96 values every 80 ms, each of which sees 0.77 s, and the means of the layers' maps behind them.

    Layers count the convolutions from 1 to 18; their maps are averaged over frequency and over each frame's span. The
    last convolution gives the embedding, which is always there. Shorter clips are followed by zeros.
    """

    name = "speech_embedding"
    frame_ms = 80.0
    first_ms = _MIN_SAMPLES / 32  # half of what a frame sees
    LAYERS = range(1, 19)
    DEFAULT_LAYERS = (10, 14, 16, 18)
    SIZES = _WIDTHS[1:]
    OWN_SIZE = 96

    def build(self) -> None:
        self.convs = nn.ModuleList([nn.Conv2d(1, _WIDTHS[0], 3)])
        for number in range(1, 19):
            kernel, padding = ((1, 3), (0, 1)) if number % 2 else ((3, 1), 0)
            self.convs.append(nn.Conv2d(_WIDTHS[number - 1], _WIDTHS[number], kernel, padding=padding))
        self.last = nn.Conv2d(96, 96, (3, 1), bias=False)
        self.register_buffer("window", torch.hann_window(512))
        self.register_buffer("mel", torch.zeros(257, 32))

    def front_end(self, audio: Tensor) -> Tensor:
        """Log-mel spectrogram in tens of decibels: (n_clips, n_samples) -> (n_clips, 1, n, 32)."""
        audio = pad_short(audio, _MIN_SAMPLES) * 32767
        decibels = 10 * torch.log10((power_spectrum(audio, self.window, 160) @ self.mel).clamp_min(1e-10))
        floor = decibels.amax((1, 2), keepdim=True) - 80
        return (torch.maximum(decibels, floor) / 10 + 2)[:, None]

    def network(self, features: Tensor) -> Tensor:
        """(n_clips, 1, n, 32) -> (n_clips, n_frames, size)."""
        x, stride = F.pad(features, (1, 1)), 1
        maps: dict[int, tuple[Tensor, int]] = {}
        for number, conv in enumerate(self.convs):
            x = F.leaky_relu_(conv(x), 0.2).clamp_min_(-0.4)
            if number in self.layers:
                maps[number] = x.mean(3), _STEPS // stride
            if number in _POOLS:
                x = torch.max_pool2d(x, _POOLS[number])
                stride *= _POOLS[number][0]
        parts = [self.last(x)[..., 0]]
        n_frames = parts[0].shape[2]
        for number in self.layers:  # means over the span of each frame
            x, stride = maps[number]
            parts.append(F.avg_pool1d(x, x.shape[2] - (n_frames - 1) * stride, stride))
        return torch.cat(parts, 1).transpose(1, 2)
