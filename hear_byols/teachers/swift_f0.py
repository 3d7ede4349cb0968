"""SwiftF0: a small network that tracks pitch (arXiv 2508.18440)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.inputs import pad_short
from hear_byols.teachers.base import Teacher
from hear_byols.teachers.spectra import power_spectrum

_HOP = 256
_N_FFT = (1024, 2048, 512)  # of the three spectrograms, the network's input channels
_N_MELS = 128
_N_PITCHES = 95
_KEPT = 96  # rows of the maps, from the lowest, that pitches are read from
_WIDTH = 12
# Kernel and dilation of the residual blocks' two convolutions, each (frequency, time).
_BLOCKS = (((7, 3), 1), ((7, 1), 17), ((5, 1), 27), ((3, 1), 40), ((3, 1), 48), ((7, 3), 2))


class ResidualBlock(nn.Module):
    """Two convolutions, over (frequency, time) and dilated over frequency, added to their input."""

    def __init__(self, kernel: tuple[int, int], dilation: int) -> None:
        super().__init__()
        padding = kernel[0] // 2 * dilation, kernel[1] // 2
        self.conv1 = nn.Conv2d(_WIDTH, _WIDTH, kernel, padding=padding, dilation=(dilation, 1))
        self.conv2 = nn.Conv2d(_WIDTH, _WIDTH, kernel, padding=padding, dilation=(dilation, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n_clips, 12, n_mels, n_frames) -> the same shape."""
        return F.relu_(self.conv2(F.relu_(self.conv1(x))).add_(x))


class SwiftF0(Teacher):
    """Frames every 16 ms: logits of 95 pitches from 46.9 to 2094 Hz, their softmax, and the logit of voicing."""

    name = "swift_f0"
    frame_ms = 16.0
    first_ms = 0.0
    LAYERS = range(1, 2)
    DEFAULT_LAYERS = (1,)
    SIZES = (2 * _N_PITCHES + 1,)

    def build(self) -> None:
        for n_fft in _N_FFT:
            self.register_buffer(f"window{n_fft}", torch.hann_window(n_fft))
            self.register_buffer(f"mel{n_fft}", torch.zeros(n_fft // 2 + 1, _N_MELS))
        self.first = nn.Conv2d(len(_N_FFT), _WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(kernel, dilation) for kernel, dilation in _BLOCKS)
        self.narrow = nn.Conv2d(_WIDTH, 4, 3)
        self.pitch = nn.Conv2d(4, 1, 1)
        self.peak = nn.Conv2d(4, 4, (5, 1), padding=(2, 0))
        self.voicing1 = nn.Conv1d(5, 16, 3, padding=1)
        self.voicing2 = nn.Conv1d(16, 1, 1)

    def front_end(self, audio: Tensor) -> Tensor:
        """Three log-mel spectrograms: (n_clips, n_samples) -> (n_clips, 3, 128, n_samples // 256)."""
        audio = pad_short(audio, _HOP)
        n_frames = audio.shape[1] // _HOP
        spectra = []
        for n_fft in _N_FFT:
            frames_end = (n_frames - 1) * _HOP + n_fft // 2
            padded = F.pad(audio, (n_fft // 2, max(0, frames_end - audio.shape[1])))
            window, mel = self.get_buffer(f"window{n_fft}"), self.get_buffer(f"mel{n_fft}")
            magnitude = power_spectrum(padded, window, _HOP)[:, :n_frames].sqrt()
            spectra.append(torch.log(magnitude @ mel + 1e-8))
        return torch.stack(spectra, 1).transpose(2, 3)

    def network(self, features: Tensor) -> Tensor:
        """(n_clips, 3, 128, n) -> (n_clips, n, 191)."""
        x = F.relu_(self.first(features))
        for block in self.blocks:
            x = block(x)
        x = F.relu_(self.narrow(F.pad(x[:, :, :_KEPT], (1, 1, 1, 0))))
        logits = self.pitch(x)[:, 0].transpose(1, 2)
        evidence = torch.cat([self.peak(x).amax(2), features.mean((1, 2), keepdim=True)[:, 0]], 1)
        voicing = self.voicing2(F.relu(self.voicing1(evidence))).transpose(1, 2)
        return torch.cat([logits, logits.float().softmax(2), voicing], 2)
