"""Convolutional vision transformer (paper, section 2.1.3; Wu et al. 2021), one transformer block per stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.pooling import mean_max, time_major

WIDTHS = (64, 256, 512)
KERNELS = (7, 3, 3)
STRIDES = (4, 2, 2)
HEADS = (1, 3, 6)
HEAD_SIZE = 64


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a feature map. As in the original, eps stands outside the root."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        scale = self.weight[:, None, None] / (var.sqrt() + self.eps)
        return (x - mean) * scale + self.bias[:, None, None]


class DepthwiseProjection(nn.Sequential):
    """Convolutional projection: depthwise 3x3, batch norm, 1x1; a stride of 2 thins keys and values."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.norm = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)


class Attention(nn.Module):
    """Multi-head self-attention over all positions of a feature map, without a materialised score matrix."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        inner = heads * HEAD_SIZE
        self.heads = heads
        self.query = DepthwiseProjection(channels, inner, stride=1)
        self.key_value = DepthwiseProjection(channels, 2 * inner, stride=2)
        self.output = nn.Conv2d(inner, channels, 1)

    def _split(self, x: Tensor) -> Tensor:
        """(batch, heads * 64, mel, time) -> (batch, heads, mel * time, 64)."""
        return x.flatten(2).unflatten(1, (self.heads, HEAD_SIZE)).transpose(2, 3).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        query = self._split(self.query(x))
        key, value = (self._split(half) for half in self.key_value(x).chunk(2, dim=1))
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:])
        return self.output(mixed)


class FeedForward(nn.Module):
    """Position-wise 1x1 convolutions, four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.contract = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(x)))


class Stage(nn.Module):
    """Convolutional token embedding, then one pre-norm transformer block."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2)
        self.embed_norm = ChannelNorm(channels)
        self.attention_norm = ChannelNorm(channels)
        self.attention = Attention(channels, heads)
        self.feed_forward_norm = ChannelNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed_norm(self.embed(x))
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class CvT(nn.Module):
    """Three stages of widths 64, 256 and 512; the mel axis ends at a sixteenth of the input's.

    Args:
        n_mels: mel bands of the input; 64 give the paper's embedding size 2048.
    """

    min_frames = 1

    def __init__(self, n_mels: int = 64) -> None:
        super().__init__()
        self.embedding_size = WIDTHS[-1] * (n_mels // 16)
        inputs = (1, *WIDTHS[:-1])
        self.stages = nn.Sequential(
            *(Stage(*spec) for spec in zip(inputs, WIDTHS, KERNELS, STRIDES, HEADS, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed log-mel spectrograms: (batch, 1, n_mels, time) -> (batch, 2048)."""
        return mean_max(time_major(self.stages(x)))
