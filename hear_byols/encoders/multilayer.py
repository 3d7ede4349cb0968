"""What all encoders give: the last layer's embedding, and on request what the layers before it have seen."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """A part of an encoder that makes each column (step of time) of a few columns before it."""

    compute: Callable[[Tensor], Tensor]  # from (n, n_inputs, ...) to (n, ...)
    n_inputs: int = 1  # adjoining columns that it takes
    stride: int = 1  # of these from one column to the next
    padding: int = 0  # columns of zeros before the first and after the last
    is_map: bool = False  # whether its columns are a feature map that MultilayerEncoder.fuse takes


class MultilayerEncoder(nn.Module):
    """Base of the encoders; maps (batch, 1, n_mels, time) to (batch, ``embedding_size``).

    Args:
        own_size: of the embedding of the last layer.
        hidden_size: of the temporal maxima of all feature maps before it.
        layers: ``"last"``: the embedding of the last layer, the paper's. ``"multi"``: behind it the maximum over time
            of each feature map with a quarter of the mel resolution or less; fusing layers is Niizumi et al.'s idea
            (2022, Composing General Audio Representation by Fusing Multilayer Features of a Pre-trained Model).
            ``"heads"``: what a linear map of the last layer's embedding says of the teachers.
        head_components: outputs of that map; 0: there is none.
    """

    min_frames: int
    column_frames: int  # that a column of the last layer covers
    batch_multiple = 1  # of spectrograms that it takes in the least time each
    map_frames: tuple[int, ...] = ()  # that a column of each map before it covers
    # Frames beyond a stretch's edge that its columns see, where these are local: a multiple of column_frames. None: a
    # column sees the whole clip.
    border_frames: int | None = None

    def __init__(self, own_size: int, hidden_size: int, layers: str, head_components: int = 0) -> None:
        super().__init__()
        self.layers = layers
        self.own_size = own_size
        self.hidden_size = hidden_size
        self.head = nn.Linear(own_size, head_components) if head_components else None
        self.embedding_size = head_components if layers == "heads" else self.size_of(layers)

    def size_of(self, layers: str) -> int:
        """Length of the embedding of ``"last"`` or ``"multi"``."""
        return self.own_size + (self.hidden_size if layers == "multi" else 0)

    def columns(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last layer before it is pooled over time, and the feature maps before it, for :meth:`fuse`.

        Log-mel spectrograms [shape=(batch, 1, n_mels, time)] give a sequence [shape=(batch, time', own_size)] and maps.
        """
        raise NotImplementedError

    def steps(self) -> Iterator[Step]:
        """What :meth:`columns` does to a spectrogram's frames, each (n_mels, 1), step by step; maps lie (mel, channel).

        Only of encoders for which it pays to compute the columns that overlapping windows share once.
        """
        yield from ()

    def forward(self, x: Tensor) -> Tensor:
        """Embed log-mel spectrograms: (batch, 1, n_mels, time >= min_frames) -> (batch, embedding_size)."""
        sequence, maps = self.columns(x)
        return self.fuse(self.pool(sequence), *maps)

    def pool(self, sequence: Tensor) -> Tensor:
        """The last columns as one embedding: (batch, time, size) -> (batch, own_size)."""
        return mean_max(sequence)

    def fuse(self, embedding: Tensor, *maps: Tensor) -> Tensor:
        """The vector, of the last layer's embedding and the maps before it, each (batch, channels, mel, time)."""
        return self.join(embedding, *(map_maxima(maps) if self.layers == "multi" else ()))

    def join(self, embedding: Tensor, *maxima: Tensor) -> Tensor:
        """The vector, of the last layer's embedding and, if wanted, maxima of earlier maps [shape=(..., n) each]."""
        if self.layers == "heads":
            assert self.head is not None
            return self.head(embedding.to(self.head.weight.dtype))
        return torch.cat([embedding, *maxima], -1) if maxima else embedding


def channels_last(x: Tensor) -> Tensor:
    """The same values with the channel fastest in memory: convolutions and pooling are faster so, on CPUs and GPUs."""
    return x.to(memory_format=torch.channels_last)  # contiguous() would leave a single channel as it is


def time_major(features: Tensor) -> Tensor:
    """Feature maps by time step, the channel fastest: (batch, channels, mel, time) -> (batch, time, mel * channels)."""
    return features.permute(0, 3, 2, 1).flatten(2)


def mean_max(sequence: Tensor) -> Tensor:
    """Sum of temporal mean and maximum, which the paper keeps of BYOL-A: (batch, time, size) -> (batch, size)."""
    return sequence.mean(1) + torch.amax(sequence, 1)


def map_maxima(maps: Iterable[Tensor]) -> Iterator[Tensor]:
    """Maxima over time of feature maps, (batch, channels, mel, time) -> (batch, channels * mel)."""
    return (torch.amax(x, 3).flatten(1) for x in maps)
