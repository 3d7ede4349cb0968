"""Convolutional LSTM (paper, section 2.1.2; Passricha and Aggarwal 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.conv_block import ConvBlock
from hear_byols.encoders.multilayer import MultilayerEncoder
from hear_byols.encoders.pooling import channels_last, time_major

FILTERS = 256


class LastOutputLSTM(nn.LSTM):
    """A bidirectional layer that gives only the output of the last step, and takes only the steps that this needs.

    The backward direction begins at the last step, so its output there is one step's work.

    Args:
        input_size: numbers a step.
        hidden_size: numbers a direction.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """Read sequences: (batch, steps, input_size) -> (batch, 2 * hidden_size), forward direction first."""
        if x.is_cuda:  # cuDNN wants all weights of the layer in one piece
            return super().forward(x)[0][:, -1]
        zeros = x.new_zeros(len(x), self.hidden_size)
        states = [zeros[None], zeros[None]]
        _, forward, _ = torch.lstm(x, states, self.weights(""), True, 1, 0.0, self.training, False, True)
        backward, _ = torch.lstm_cell(x[:, -1], [zeros, zeros], *self.weights("_reverse"))
        return torch.cat([forward[0], backward], dim=1)

    def weights(self, direction: str) -> list[Tensor]:
        """The weights of a direction, "" or "_reverse": of the input, of the state, and their biases."""
        return [getattr(self, f"{name}_l0{direction}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


class CLSTM(MultilayerEncoder):
    """Two 256-filter convolutions (9x9, 4x3), one bidirectional LSTM of 512, one linear layer of 1024.

    Only the last time step of the LSTM is used, so the embedding leans towards the end of a clip.

    Args:
        n_mels: mel bands of the input.
        layers: ``"last"`` or ``"multi"``, which adds the maxima of the second block (64 mel bands: 3584).
    """

    min_frames = 10

    def __init__(self, n_mels: int = 64, layers: str = "last") -> None:
        mels = ((n_mels - 6) // 2 - 1) // 2
        super().__init__(1024, FILTERS * mels, layers)
        self.blocks = nn.Sequential(ConvBlock(1, FILTERS, (9, 9)), ConvBlock(FILTERS, FILTERS, (4, 3)))
        self.lstm = LastOutputLSTM(FILTERS * mels, 512)
        self.fc = nn.Linear(1024, 1024)

    def forward(self, x: Tensor) -> Tensor:
        """Embed log-mel spectrograms: (batch, 1, n_mels, time >= 10) -> (batch, embedding_size)."""
        maps = self.blocks(channels_last(x))
        sequence = time_major(maps)  # (batch, time / 4, 256 * mels / 4)
        return self.fuse(F.relu(self.fc(self.lstm(sequence))), maps)
