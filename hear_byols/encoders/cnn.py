"""AudioNTT CNN, the paper's "default" encoder (section 2; Niizumi et al. 2021)."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.conv_block import ConvBlock, block_steps
from hear_byols.encoders.linear import Linear
from hear_byols.encoders.multilayer import MultilayerEncoder, Step, channels_last, time_major

CHANNELS = 64


class AudioNTT(MultilayerEncoder):
    """Three convolution blocks of 64 filters, then two linear layers applied to each time step.

    These are as wide as the embedding (the paper: 2048; BYOL-A: 512, 1024, 2048); ``n_mels`` is a multiple of 8.
    ``"multi"`` layers add the maxima of the second and third block (64 mel bands: 1536).
    """

    min_frames = 8
    column_frames = 8
    map_frames = (4, 8)
    border_frames = 8  # 7 are seen: a step aside before each of the three halvings

    def __init__(
        self, embedding_size: int = 2048, n_mels: int = 64, layers: str = "last", head_components: int = 0
    ) -> None:
        super().__init__(embedding_size, CHANNELS * (n_mels // 4 + n_mels // 8), layers, head_components)
        self.blocks = nn.Sequential(*(ConvBlock(1 if i == 0 else CHANNELS, CHANNELS) for i in range(3)))
        self.fc1 = Linear(CHANNELS * (n_mels // 8), embedding_size)
        self.dropout = nn.Dropout(0.3)
        self.fc2 = Linear(embedding_size, embedding_size)

    def columns(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See :class:`MultilayerEncoder`; a column covers 8 frames."""
        first, second, third = self.blocks
        second_maps = second(first(channels_last(x)))
        third_maps = third(second_maps)
        sequence = self.dropout(F.relu(self.fc1(time_major(third_maps))))  # (batch, time / 8, embedding_size)
        return F.relu(self.fc2(sequence)), (second_maps, third_maps)

    def steps(self) -> Iterator[Step]:
        yield from block_steps(self.blocks)
        yield Step(lambda x: F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)), inplace=True)), inplace=True))
