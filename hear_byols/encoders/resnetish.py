"""ResNetish-34 (paper, section 2.1.1; Hershey et al. 2017): a 34-layer residual network with a stride-1 stem."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.conv_block import conv_norm
from hear_byols.encoders.multilayer import MultilayerEncoder, channels_last, time_major

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut, projected by 1x1 where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(conv_norm(x, self.conv1, self.bn1))
        return F.relu(conv_norm(out, self.conv2, self.bn2) + self.downsample(x))


def _stage(in_channels: int, out_channels: int, depth: int, stride: int) -> nn.Sequential:
    blocks = [BasicBlock(in_channels, out_channels, stride)]
    blocks += [BasicBlock(out_channels, out_channels, 1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class ResNetish34(MultilayerEncoder):
    """Residual network of [3, 4, 6, 3] basic blocks without classifier (64 mel bands: 2048).

    ``"multi"`` layers add the maxima of the second and third stage (64 mel bands: 4096).
    """

    min_frames = 1
    column_frames = 16
    map_frames = (4, 8)
    border_frames = 240  # 226 are seen: the sum of the steps aside of 35 layers, each times its stride so far

    def __init__(self, n_mels: int = 64, layers: str = "last", head_components: int = 0) -> None:
        hidden_size = WIDTHS[1] * (n_mels // 4) + WIDTHS[2] * (n_mels // 8)
        super().__init__(WIDTHS[-1] * (n_mels // 16), hidden_size, layers, head_components)
        self.conv1 = nn.Conv2d(1, WIDTHS[0], 7, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], depth=3, stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], depth=4, stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], depth=6, stride=2)
        self.layer4 = _stage(WIDTHS[2], WIDTHS[3], depth=3, stride=2)
        # The filters lie as the maps do: else every call would copy them first.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def columns(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See :class:`MultilayerEncoder`; a column covers 16 frames."""
        x = conv_norm(channels_last(x), self.conv1, self.bn1)
        x = F.relu(F.max_pool2d(x, 3, stride=2, padding=1))
        second = self.layer2(self.layer1(x))
        third = self.layer3(second)
        return time_major(self.layer4(third)), (second, third)
