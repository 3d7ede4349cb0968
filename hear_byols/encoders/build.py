"""From an encoder's name to the module (paper, Table 1)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from hear_byols.config import EncoderConfig
from hear_byols.encoders.clstm import CLSTM
from hear_byols.encoders.cnn import AudioNTT
from hear_byols.encoders.cvt import CvT
from hear_byols.encoders.resnetish import ResNetish34
from hear_byols.errors import OptionError

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "cnn": AudioNTT,
    "resnetish34": ResNetish34,
    "clstm": CLSTM,
    "cvt": CvT,
}
EMBEDDING_SIZES = {"cnn": 2048, "resnetish34": 2048, "clstm": 1024, "cvt": 2048}


def build_encoder(config: EncoderConfig | str, n_mels: int = 64) -> nn.Module:
    """Make an encoder with freshly initialised weights.

    Every encoder maps (batch, 1, n_mels, time) to (batch, ``encoder.embedding_size``) and states the fewest
    spectrogram frames it takes as ``encoder.min_frames``.

    Args:
        config: name and embedding size; a bare name takes the paper's size.
        n_mels: mel bands of the input.

    Raises:
        OptionError: the name is unknown, or the size is not one this encoder has.
    """
    name = config if isinstance(config, str) else config.name
    if name not in ENCODERS:
        raise OptionError(f"unknown encoder {name!r}; known are {', '.join(ENCODERS)}")
    size = EMBEDDING_SIZES[name] if isinstance(config, str) else config.embedding_size
    if name == "cnn":
        if not isinstance(size, int) or size < 1:
            raise OptionError(f"encoder 'cnn' needs a positive embedding_size, got {size!r}")
        return AudioNTT(size, n_mels)
    encoder = ENCODERS[name](n_mels)
    if encoder.embedding_size != size:
        raise OptionError(f"encoder {name!r} has embedding_size {encoder.embedding_size}, got {size!r}")
    return encoder
