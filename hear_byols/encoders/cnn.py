"""AudioNTT CNN, the paper's "default" encoder (section 2; Niizumi et al. 2021)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.conv_block import ConvBlock
from hear_byols.encoders.pooling import channels_last, mean_max, time_major

CHANNELS = 64


class AudioNTT(nn.Module):
    """Three convolution blocks of 64 filters, then two linear layers applied to each time step.

    Args:
        embedding_size: width of the linear layers and of the embedding (the paper: 2048; BYOL-A: 512, 1024, 2048).
        n_mels: mel bands of the input, a multiple of 8.
    """

    min_frames = 8

    def __init__(self, embedding_size: int = 2048, n_mels: int = 64) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.blocks = nn.Sequential(*(ConvBlock(1 if i == 0 else CHANNELS, CHANNELS) for i in range(3)))
        self.fc1 = nn.Linear(CHANNELS * (n_mels // 8), embedding_size)
        self.dropout = nn.Dropout(0.3)
        self.fc2 = nn.Linear(embedding_size, embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed log-mel spectrograms: (batch, 1, n_mels, time >= 8) -> (batch, embedding_size)."""
        x = time_major(self.blocks(channels_last(x)))  # (batch, time / 8, 512)
        x = self.dropout(F.relu(self.fc1(x)))
        return mean_max(F.relu(self.fc2(x)))
