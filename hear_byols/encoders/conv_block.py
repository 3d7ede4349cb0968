"""Convolutions with the batch norm behind them folded in, and the block of the AudioNTT CNN and the CLSTM.

In evaluation mode both are one linear map. The folded weights are made anew in every call rather than kept: where
filters are small beside the feature maps that costs next to nothing, can never be stale, and leaves modules, state
dicts and gradients alone.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.multilayer import Step

_MAX_WEIGHTS = 500_000  # larger filters (late in ResNetish) may take longer to fold than their maps to normalize
_PIECE = 2_000_000  # values that a CPU computes before pooling them: 8 MB stay near, in memory already had


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Convolution padded with zeros, then batch norm; one convolution of folded weights in evaluation mode.

    [shape=(batch, conv.in_channels, mel, time)] -> [shape=(batch, conv.out_channels, mel', time')].
    """
    if norm.training or conv.weight.numel() > _MAX_WEIGHTS:
        return norm(conv(x))
    assert not isinstance(conv.padding, str)
    return F.conv2d(x, *folded(conv, norm), conv.stride, conv.padding, conv.dilation, conv.groups)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does both, by the batch norm's running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    return conv.weight * scale[:, None, None, None], norm.bias - mean * scale


class ConvBlock(nn.Module):
    """Convolution padded by 1, batch norm, ReLU, 2x2 max pooling: "Conv2d-BatchNorm-ReLU-MaxPool2d" (section 2).

    Filters have the size ``kernel``, (mel, time).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, mel, time) -> (batch, out_channels, mel' / 2, time' / 2), ' before pooling."""
        if self.norm.training or not x.is_cpu or torch.compiler.is_compiling():
            return _pooled(conv_norm(x, self.conv, self.norm))
        return self._in_pieces(x)

    def steps(self, is_map: bool = False) -> Iterator[Step]:
        """The same column by column: convolution and what of the pooling runs over mel; then the pooling over time.

        ``is_map`` says that the result is a feature map of the encoder.
        """
        weight, bias = folded(self.conv, self.norm)
        weight = weight.transpose(2, 3).contiguous(memory_format=torch.channels_last)

        def convolve(x: Tensor) -> Tensor:  # (n, 3, mel, channels): time lies where images have their height
            maps = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=(0, 1)).permute(0, 2, 3, 1)[:, 0]
            pairs = maps[:, : maps.shape[1] // 2 * 2].unflatten(1, (-1, 2))
            return torch.maximum(pairs[:, :, 0], pairs[:, :, 1])

        yield Step(convolve, self.conv.kernel_size[1], padding=1)
        yield Step(lambda x: F.relu(torch.maximum(x[:, 0], x[:, 1])), 2, stride=2, is_map=is_map)

    def _in_pieces(self, x: Tensor) -> Tensor:
        """The same, a few items or a stretch of one at a time: the large maps before pooling are never there whole."""
        weight, bias = folded(self.conv, self.norm)
        (n_mels, n_steps), kernel = x.shape[2:], self.conv.kernel_size
        column = (n_mels + 3 - kernel[0]) * self.conv.out_channels
        out_steps = n_steps + 3 - kernel[1]
        n_items = _PIECE // (column * out_steps)
        if n_items:
            return torch.cat([_pooled(F.conv2d(part, weight, bias, padding=1)) for part in x.split(n_items)])
        width = max(2, _PIECE // column // 2 * 2)  # even, so that no pair is torn that is pooled
        rows = []
        for item in x.split(1):
            stretches = []
            for first in range(0, out_steps // 2 * 2, width):
                last = min(first + width, out_steps)
                edges = int(first == 0), int(last == out_steps)
                stretch = F.pad(item[..., max(first - 1, 0) : last + kernel[1] - 2], edges)
                stretches.append(_pooled(F.conv2d(stretch, weight, bias, padding=(1, 0))))
            rows.append(torch.cat(stretches, dim=3))
        return torch.cat(rows)


def block_steps(blocks: Iterable[nn.Module]) -> Iterator[Step]:
    """Steps of blocks one after the other; all but the first make feature maps."""
    for i, block in enumerate(blocks):
        assert isinstance(block, ConvBlock)
        yield from block.steps(is_map=i > 0)


def _pooled(maps: Tensor) -> Tensor:
    return F.relu(F.max_pool2d(maps, 2))  # in this order the ReLU has a quarter to do
