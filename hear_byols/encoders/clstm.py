"""Convolutional LSTM (paper, section 2.1.2; Passricha and Aggarwal 2020)."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.conv_block import ConvBlock, block_steps
from hear_byols.encoders.multilayer import MultilayerEncoder, Step, channels_last, time_major

FILTERS = 256


class CLSTM(MultilayerEncoder):
    """Two 256-filter convolutions (9x9, 4x3), one bidirectional LSTM of 512, one linear layer of 1024.

    Only the last time step of the LSTM is used, so the embedding leans towards the end of a clip. ``"multi"`` layers
    add the maxima of the second block (64 mel bands: 3584).
    """

    min_frames = 10

    def __init__(self, n_mels: int = 64, layers: str = "last", head_components: int = 0) -> None:
        mels = ((n_mels - 6) // 2 - 1) // 2
        super().__init__(1024, FILTERS * mels, layers, head_components)
        self.blocks = nn.Sequential(ConvBlock(1, FILTERS, (9, 9)), ConvBlock(FILTERS, FILTERS, (4, 3)))
        self.lstm = nn.LSTM(FILTERS * mels, 512, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(1024, 1024)

    def forward(self, x: Tensor) -> Tensor:
        """Embed log-mel spectrograms: (batch, 1, n_mels, time >= 10) -> (batch, embedding_size)."""
        maps = self.blocks(channels_last(x))
        return self.fuse(self.pool(time_major(maps)), maps)  # (batch, time / 4, 256 * mels / 4)

    def pool(self, sequence: Tensor) -> Tensor:
        last = self.lstm(sequence)[0][:, -1]  # both directions' outputs of the last step
        return F.relu(self.fc(last))

    def steps(self) -> Iterator[Step]:
        """See :class:`MultilayerEncoder`; three quarters of the work."""
        return block_steps(self.blocks)
