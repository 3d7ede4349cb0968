"""Convolutional vision transformer (paper, section 2.1.3; Wu et al. 2021), one transformer block per stage.

Feature maps lie as (batch, mel, time, channels) throughout: norms then run over neighbouring values and 1x1
convolutions are plain matrix products, which on CPUs are several times faster than over (batch, channels, mel, time).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.conv_block import conv_norm
from hear_byols.encoders.linear import WHOLE, linear
from hear_byols.encoders.multilayer import MultilayerEncoder, channels_last, time_major

WIDTHS = (64, 256, 512)
HEAD_SIZE = 64
_TINY = 1e-30  # keeps the inverse deviation of equal values finite


def _channels_first(x: Tensor) -> Tensor:
    """(batch, mel, time, channels) -> (batch, channels, mel, time) as convolutions take it; a view."""
    return x.permute(0, 3, 1, 2)


def _pointwise(conv: nn.Conv2d, x: Tensor, *, gelu: bool = False) -> Tensor:
    """1x1 convolution of the last axis, then GELU where wanted."""
    return linear(x, conv.weight.flatten(1), conv.bias, gelu=gelu)


class ChannelNorm(nn.Module):
    """Layer norm over the last axis. As in the original, eps stands outside the root."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cpu and x.dtype == torch.float32 and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            # The usual layer norm in one pass over memory, and what the other place of eps makes of it.
            scaled, _, inverse = torch.native_layer_norm(x, x.shape[-1:], self.weight, None, _TINY)
            return scaled.mul_(torch.reciprocal(1 + self.eps * inverse)).add_(self.bias)
        centred = x - x.mean(-1, keepdim=True)
        # var_mean is ten times slower
        std = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return torch.addcmul(self.bias, centred / (std + self.eps), self.weight)


class DepthwiseProjection(nn.Module):
    """Convolutional projection: depthwise 3x3, batch norm, 1x1; a stride of 2 thins keys and values."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.norm = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        thinned = conv_norm(_channels_first(x), self.depthwise, self.norm)
        return _pointwise(self.pointwise, thinned.permute(0, 2, 3, 1))


class Attention(nn.Module):
    """Multi-head self-attention over all positions of a feature map, without a materialized score matrix."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        inner = heads * HEAD_SIZE
        self.heads = heads
        self.query = DepthwiseProjection(channels, inner, stride=1)
        self.key_value = DepthwiseProjection(channels, 2 * inner, stride=2)
        self.output = nn.Conv2d(inner, channels, 1)

    def _split(self, x: Tensor) -> Tensor:
        """(batch, mel, time, heads * 64) -> (batch, heads, mel * time, 64), a view."""
        return x.unflatten(3, (self.heads, HEAD_SIZE)).flatten(1, 2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        query = self._split(self.query(x))
        key, value = (self._split(half) for half in self.key_value(x).chunk(2, dim=3))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return _pointwise(self.output, mixed.transpose(1, 2).flatten(2).unflatten(1, x.shape[1:3]))


class FeedForward(nn.Module):
    """Position-wise 1x1 convolutions, four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.contract = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _pointwise(self.contract, _pointwise(self.expand, x, gelu=True))


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
        x = self.embed_norm(self.embed(_channels_first(x)).permute(0, 2, 3, 1))
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class CvT(MultilayerEncoder):
    """Three stages of widths 64, 256 and 512; the mel axis ends at a sixteenth of the input's (64 mel bands: 2048).

    ``"multi"`` layers add the maxima of the first and second stage (64 mel bands: 3072).
    """

    min_frames = 1
    column_frames = 16
    batch_multiple = WHOLE

    def __init__(self, n_mels: int = 64, layers: str = "last", head_components: int = 0) -> None:
        hidden_size = WIDTHS[0] * (n_mels // 4) + WIDTHS[1] * (n_mels // 8)
        super().__init__(WIDTHS[2] * (n_mels // 16), hidden_size, layers, head_components)
        self.stages = nn.Sequential(
            Stage(1, WIDTHS[0], kernel=7, stride=4, heads=1),
            Stage(WIDTHS[0], WIDTHS[1], kernel=3, stride=2, heads=3),
            Stage(WIDTHS[1], WIDTHS[2], kernel=3, stride=2, heads=6),
        )
        # The filters lie as the maps do: else every call would copy them first.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def columns(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See :class:`MultilayerEncoder`; a column covers 16 frames."""
        first, second, third = self.stages
        first_maps = first(channels_last(x).permute(0, 2, 3, 1))
        second_maps = second(first_maps)
        sequence = time_major(_channels_first(third(second_maps)))
        return sequence, (_channels_first(first_maps), _channels_first(second_maps))
