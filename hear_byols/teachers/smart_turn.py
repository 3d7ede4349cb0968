"""Smart Turn v3.2: the encoder of Whisper tiny, tuned to find ends of turns in 23 languages."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.teachers.base import Teacher, in_pieces
from hear_byols.teachers.spectra import power_spectrum, reflected, slaney_filters
from hear_byols.teachers.transformer import TransformerBlock, outputs_of

_WIDTH = 384
_HOP = 320  # samples from frame to frame
_MAX_FRAMES = 400  # 8 s
_HALF_WINDOW = 200


class SmartTurn(Teacher):
    """Frames of 384 values a block every 20 ms; layers count the blocks from 1, the fourth is normalized.

    The network was made for 8 s that end with the audio. Here it sees the audio alone, at those last positions, and no
    silence before it: its levels are normalized as if there were, so a clip differs from the original's by what
    attention to the silence would add. Longer clips go through in pieces of 8 s.
    """

    name = "smart_turn"
    frame_ms = 20.0
    LAYERS = range(1, 5)
    DEFAULT_LAYERS = (1, 2, 3, 4)
    SIZES = (_WIDTH,) * 4

    def build(self) -> None:
        self.conv1 = nn.Conv1d(80, _WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(_WIDTH, _WIDTH, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(_MAX_FRAMES, _WIDTH))
        self.blocks = nn.ModuleList(TransformerBlock(_WIDTH, 6, biased=True) for _ in range(4))
        self.norm = nn.LayerNorm(_WIDTH)
        self.register_buffer("mel", slaney_filters(80), persistent=False)
        self.register_buffer("window", torch.hann_window(2 * _HALF_WINDOW), persistent=False)

    def frames(self, audio: Tensor) -> Tensor:
        """In pieces of 8 s; silence goes before the clip, up to whole frames."""
        audio = F.pad(audio, (_missing(audio.shape[1]), 0))
        return in_pieces(super().frames, audio, audio.shape[1] // _HOP, _HOP, 0, _MAX_FRAMES)

    def front_end(self, audio: Tensor) -> Tensor:
        """Whisper's log-mel spectrogram of standardized audio: (n_clips, n * 320) -> (n_clips, 80, n * 2)."""
        n = _MAX_FRAMES * _HOP
        mean = audio.sum(1, keepdim=True) / n
        variance = audio.square().sum(1, keepdim=True) / n - mean.square()
        standardized = (audio - mean) / (variance + 1e-7).sqrt()
        power = power_spectrum(reflected(standardized, _HALF_WINDOW), self.window, _HOP // 2)[:, :-1]
        log_mel = (power @ self.mel).clamp_min(1e-10).log10()
        log_mel = torch.maximum(log_mel, log_mel.amax((1, 2), keepdim=True) - 8)
        return ((log_mel + 4) / 4).transpose(1, 2)

    def network(self, features: Tensor) -> Tensor:
        """(n_clips, 80, n * 2) -> (n_clips, n, 384 a layer)."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(features)))).transpose(1, 2)
        return outputs_of(self.layers, x + self.positions[-x.shape[1] :], self.blocks, self.norm)

    def first_frame_ms(self, n_samples: int) -> float:
        """Half a frame, less the silence before the clip."""
        return 10 - _missing(n_samples) / 16


def _missing(n_samples: int) -> int:
    """Samples of silence before a clip: it has two frames or more, and only whole ones."""
    return max(0, 2 * _HOP - n_samples) or -n_samples % _HOP
