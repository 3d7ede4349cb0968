"""Resemblyzer: a speaker encoder trained with the GE2E loss (arXiv 1710.10467)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.teachers.base import Teacher
from hear_byols.teachers.spectra import power_spectrum, slaney_filters

_WIDTH = 256
_HOP = 160
_EVERY = 16  # steps of the LSTM from frame to frame
_QUIETEST = 10 ** (-30 / 20)  # root mean square that quieter clips are raised to


class Resemblyzer(Teacher):
    """Frames of 256 values a layer every 160 ms, the last one at the clip's end.

    Layers 1 to 3 are those of the LSTM, which steps every 10 ms; 4 is the linear layer behind them, without the
    original's rectifier and norm.
    """

    name = "resemblyzer"
    frame_ms = 160.0
    LAYERS = range(1, 5)
    DEFAULT_LAYERS = (3, 4)
    SIZES = (_WIDTH,) * 4

    def build(self) -> None:
        self.lstm = nn.ModuleList(nn.LSTM(size, _WIDTH, batch_first=True) for size in (40, _WIDTH, _WIDTH))
        self.linear = nn.Linear(_WIDTH, _WIDTH)
        self.register_buffer("mel", slaney_filters(40), persistent=False)
        self.register_buffer("window", torch.hann_window(400), persistent=False)

    def front_end(self, audio: Tensor) -> Tensor:
        """Mel power, quiet clips raised to -30 dB: (n_clips, n_samples) -> (n_clips, n_steps, 40)."""
        level = audio.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
        audio = F.pad(audio * (_QUIETEST / level).clamp_min(1), (200, 200))
        return power_spectrum(audio, self.window, _HOP) @ self.mel

    def network(self, features: Tensor) -> Tensor:
        """(n_clips, n_steps, 40) -> (n_clips, n_frames, 256 a layer)."""
        x, outputs = features, {}
        for number, lstm in enumerate(self.lstm[: max(self.layers)], 1):
            x, _ = lstm(x)
            outputs[number] = x[:, (x.shape[1] - 1) % _EVERY :: _EVERY]
        if 4 in self.layers:
            outputs[4] = self.linear(outputs[3])
        return torch.cat([outputs[number] for number in self.layers], 2)

    def first_frame_ms(self, n_samples: int) -> float:
        """Frames are placed so that the last one is the LSTM's last step."""
        return 10 * (n_samples // _HOP % _EVERY)
