"""Moonshine tiny: the encoder of an English speech recognizer that takes raw audio (arXiv 2410.15608)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.inputs import pad_short
from hear_byols.teachers.base import Teacher, in_pieces
from hear_byols.teachers.transformer import TransformerBlock, outputs_of

_WIDTH = 288
_HOP = 384  # samples from frame to frame
_OVERLAP = 511  # a frame sees 895 samples
_MAX_FRAMES = 1250  # 30 s, the longest the network was made for


class Moonshine(Teacher):
    """Frames of 288 values a layer every 24 ms; layer 0 is the blocks' input, 6 their normalized output.

    Clips shorter than 56 ms are followed by zeros; clips longer than 30 s go through in pieces.
    """

    name = "moonshine"
    frame_ms = 24.0
    first_ms = (_HOP + _OVERLAP) / 32  # half of what a frame sees
    LAYERS = range(7)
    DEFAULT_LAYERS = (2, 4, 6)
    SIZES = (_WIDTH,) * 7

    def build(self) -> None:
        self.conv1 = nn.Conv1d(1, _WIDTH, 127, stride=64, bias=False)
        self.group_norm = nn.GroupNorm(1, _WIDTH)
        self.conv2 = nn.Conv1d(_WIDTH, 2 * _WIDTH, 7, stride=3)
        self.conv3 = nn.Conv1d(2 * _WIDTH, _WIDTH, 3, stride=2)
        self.blocks = nn.ModuleList(TransformerBlock(_WIDTH, 8, biased=False, turn=turn) for _ in range(6))
        self.norm = nn.LayerNorm(_WIDTH, bias=False)

    def frames(self, audio: Tensor) -> Tensor:
        """In pieces of 30 s."""
        audio = pad_short(audio, _HOP + _OVERLAP)
        n_frames = (audio.shape[1] - _OVERLAP) // _HOP
        return in_pieces(super().frames, audio, n_frames, _HOP, _OVERLAP, _MAX_FRAMES)

    def network(self, features: Tensor) -> Tensor:
        """(n_clips, n * 384 + 511) samples -> (n_clips, n, 288 a layer)."""
        x = self.group_norm(self.conv1(features[:, None]).tanh())
        x = F.gelu(self.conv3(F.gelu(self.conv2(x)))).transpose(1, 2)
        return outputs_of(self.layers, x, self.blocks, self.norm)


def turn(x: Tensor) -> Tensor:
    """Rotary positions of queries or keys [shape=(..., n_frames, 36)]: neighbours turn with their frame's place."""
    rates = 10000 ** (-torch.arange(16, device=x.device) / 16)
    angles = F.pad(torch.arange(x.shape[-2], device=x.device)[:, None] * rates, (0, 2))  # the last two pairs stay
    cos, sin = angles.cos(), angles.sin()
    own = cos.repeat_interleave(2, 1).to(x.dtype)
    other = torch.stack([-sin, sin], -1).flatten(1).to(x.dtype)
    partners = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * own, partners, other)
