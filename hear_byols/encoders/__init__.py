"""The paper's four encoders: log-mel spectrogram (batch, 1, mel, time) in, embedding (batch, size) out."""

from hear_byols.encoders.build import EMBEDDING_SIZES, ENCODERS, build_encoder

__all__ = ["EMBEDDING_SIZES", "ENCODERS", "build_encoder"]
