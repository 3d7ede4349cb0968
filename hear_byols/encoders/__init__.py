"""The paper's four encoders: log-mel spectrogram (batch, 1, mel, time) in, embedding (batch, size) out (Table 1)."""

from hear_byols.config import EncoderConfig
from hear_byols.encoders.clstm import CLSTM
from hear_byols.encoders.cnn import AudioNTT
from hear_byols.encoders.cvt import CvT
from hear_byols.encoders.multilayer import MultilayerEncoder
from hear_byols.encoders.resnetish import ResNetish34
from hear_byols.errors import OptionError

ENCODERS = {"cnn": AudioNTT, "resnetish34": ResNetish34, "clstm": CLSTM, "cvt": CvT}
EMBEDDING_SIZES = {"cnn": 2048, "resnetish34": 2048, "clstm": 1024, "cvt": 2048}


def build_encoder(config: EncoderConfig | str, n_mels: int = 64) -> MultilayerEncoder:
    """Make an encoder with freshly initialized weights.

    Every encoder maps (batch, 1, n_mels, time) to (batch, ``encoder.embedding_size``) and states the fewest
    spectrogram frames it takes as ``encoder.min_frames``. A bare name is the paper's size and its last layer.

    Raises:
        OptionError: the name is unknown, or the size is not one this encoder has.
    """
    if isinstance(config, str):
        config = EncoderConfig(config, EMBEDDING_SIZES.get(config, 1))
    name, size = config.name, config.embedding_size
    if name not in ENCODERS:
        raise OptionError(f"unknown encoder {name!r}; known are {', '.join(ENCODERS)}")
    if name == "cnn":
        return AudioNTT(size, n_mels, config.layers, config.head_components)
    encoder = ENCODERS[name](n_mels, config.layers, config.head_components)
    if encoder.own_size != size:
        raise OptionError(f"encoder {name!r} has embedding_size {encoder.own_size}, got {size!r}")
    return encoder
