"""What all teachers have in common: audio in, frames out, in the same arithmetic whatever surrounds the call."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from hear_byols._util.device import autocast
from hear_byols.config import PRECISIONS
from hear_byols.errors import InputError, OptionError


class Teacher(nn.Module):
    """A pretrained model that turns 16 kHz audio into frames; subclasses are the architectures.

    A clip's frames do not depend on the batch it is in, and clips may have any length from one sample.

    Args:
        layers: the layers whose outputs stand side by side in a frame; by default :attr:`DEFAULT_LAYERS`.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"`` arithmetic of the network; the front end and the
            result are float32 in any case.

    Raises:
        OptionError: no such layer, or no such precision.
    """

    name: ClassVar[str]
    frame_ms: ClassVar[float]  # distance of two frames
    first_ms: ClassVar[float]  # centre of a clip's first frame
    LAYERS: ClassVar[range]  # that there are
    DEFAULT_LAYERS: ClassVar[tuple[int, ...]]
    SIZES: ClassVar[tuple[int, ...]]  # numbers that each of LAYERS has in a frame
    OWN_SIZE: ClassVar[int] = 0  # numbers that stand before them in every frame
    sample_rate: int = 16000
    window: Tensor  # of the spectrogram, if there is one
    mel: Tensor  # its filters

    def __init__(self, layers: Sequence[int] | None = None, precision: str = "float32") -> None:
        super().__init__()
        self.layers = self.DEFAULT_LAYERS if layers is None else tuple(layers)
        if not self.layers or not set(self.layers) <= set(self.LAYERS):
            known = f"from {self.LAYERS[0]} to {self.LAYERS[-1]}"
            raise OptionError(f"layers of {self.name} are {known}, one or more; got {layers!r}")
        if precision not in PRECISIONS:
            raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
        self.precision = precision
        self.build()

    def build(self) -> None:
        """Make the modules and buffers of the architecture."""

    @property
    def timestamp_embedding_size(self) -> int:
        """Numbers in a frame."""
        return self.OWN_SIZE + sum(self.SIZES[self.LAYERS.index(layer)] for layer in self.layers)

    @property
    def scene_embedding_size(self) -> int:
        """Numbers in the vector of a clip: the frames' mean and maximum."""
        return 2 * self.timestamp_embedding_size

    @property
    def device(self) -> torch.device:
        """Where the model is, and where it expects audio."""
        return next(self.parameters()).device

    def forward(self, audio: Tensor) -> Tensor:
        """Compute frames, float32 [shape=(n_clips, n_frames, timestamp_embedding_size)].

        Args:
            audio: mono samples in [-1, 1] at 16 kHz, on the model's device [shape=(n_clips, n_samples)].

        Raises:
            InputError: the audio has another rank, or no samples.
        """
        if audio.ndim != 2 or audio.shape[1] == 0:
            raise InputError(f"audio must have the shape (n_clips, n_samples), got {tuple(audio.shape)}")
        with torch.autocast(audio.device.type, enabled=False), autocast("float32", audio.device):
            return self.frames(audio.float())

    def frames(self, audio: Tensor) -> Tensor:
        """Front end and, in the arithmetic of :attr:`precision`, network for float32 audio; see :meth:`forward`."""
        features = self.front_end(audio)
        with autocast(self.precision, audio.device):
            return self.network(features).float()

    def front_end(self, audio: Tensor) -> Tensor:
        """Samples to what the network takes, in float32; without one it takes the samples."""
        return audio

    def network(self, features: Tensor) -> Tensor:
        """What the front end gives to frames."""
        raise NotImplementedError

    def first_frame_ms(self, n_samples: int) -> float:
        """Centre of the first frame of a clip of so many samples."""
        return self.first_ms

    def times_ms(self, n_frames: int, n_samples: int) -> Tensor:
        """Centres of the frames of a clip in milliseconds, float32 [shape=(n_frames,)]."""
        return torch.arange(n_frames) * self.frame_ms + self.first_frame_ms(n_samples)


def over_time(frames: Tensor) -> Tensor:
    """Mean and maximum of frames: (n_clips, n_frames, size) -> (n_clips, 2 * size)."""
    return torch.cat([frames.mean(1), frames.amax(1)], 1)


def in_pieces(
    embed: Callable[[Tensor], Tensor], audio: Tensor, n_frames: int, hop: int, overlap: int, most: int
) -> Tensor:
    """Embed long clips piece by piece, for networks that were made for short ones.

    The last piece ends with the clip and is a full one, too: of its frames those that are still missing are kept.

    Args:
        embed: (n_clips, n * hop + overlap) samples, and less than a hop more, to (n_clips, n, size) frames.
        audio: at least ``n_frames * hop + overlap`` samples [shape=(n_clips, n_samples)].
        n_frames: of the whole clip, as in the result [shape=(n_clips, n_frames, size)].
        hop: samples from frame to frame.
        overlap: samples that a frame sees beyond its hop.
        most: frames in a piece.
    """
    if n_frames <= most:
        return embed(audio)
    result = []
    for first in range(0, n_frames, most):
        start = min(first, n_frames - most)
        result.append(embed(audio[:, start * hop : (start + most) * hop + overlap])[:, first - start :])
    return torch.cat(result, 1)
