"""Batch norm folded into the convolution before it: in evaluation mode both are one linear map.

The folded weights are made anew in every call rather than kept: where filters are small beside the feature maps that
costs next to nothing, can never be stale, and leaves modules, state dicts and gradients alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAX_WEIGHTS = 500_000  # larger filters (late in ResNetish) may take longer to fold than their maps to normalize


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
