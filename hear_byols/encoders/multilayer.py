"""What all encoders give: the last layer's embedding, and on request what the layers before it have seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hear_byols.encoders.pooling import mean_max


class MultilayerEncoder(nn.Module):
    """Base of the encoders; maps (batch, 1, n_mels, time) to (batch, ``embedding_size``).

    Args:
        own_size: of the embedding of the last layer.
        hidden_size: of the temporal maxima of the feature maps before it.
        layers: ``"last"``: the embedding of the last layer, the paper's. ``"multi"``: behind it the maximum over time
            of each feature map with a quarter of the mel resolution or less; fusing layers is Niizumi et al.'s idea
            (2022, Composing General Audio Representation by Fusing Multilayer Features of a Pre-trained Model).
    """

    min_frames: int
    column_frames: int  # that a column of the last layer covers

    def __init__(self, own_size: int, hidden_size: int, layers: str) -> None:
        super().__init__()
        self.layers = layers
        self.own_size = own_size
        self.embedding_size = own_size + (hidden_size if layers == "multi" else 0)

    def columns(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last layer before it is pooled over time, and the feature maps before it.

        Args:
            x: log-mel spectrograms [shape=(batch, 1, n_mels, time)].

        Returns:
            The sequence [shape=(batch, time', own_size)], and maps for :meth:`fuse`.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Embed log-mel spectrograms: (batch, 1, n_mels, time >= min_frames) -> (batch, embedding_size)."""
        sequence, maps = self.columns(x)
        return self.fuse(mean_max(sequence), *maps)

    def fuse(self, embedding: Tensor, *maps: Tensor) -> Tensor:
        """The embedding, and if asked for the feature maps' maxima [each map's shape=(batch, channels, mel, time)]."""
        if self.layers == "last":
            return embedding
        return torch.cat([embedding, *(torch.amax(x, 3).flatten(1) for x in maps)], 1)
