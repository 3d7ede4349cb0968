"""An encoder for X-ARES, the eXtensive Audio Representation and Evaluation Suite.

``xares`` takes a file that defines the encoder; one line is enough::

    from hear_byols.ecosystem.xares import HearByolsEncoder as Encoder
"""

from typing import Any

from torch import Tensor, nn

from hear_byols.extraction.files import PathLike
from hear_byols.hear import load_model


class HearByolsEncoder(nn.Module):
    """Timestamp embeddings every ``hop_ms`` milliseconds under X-ARES's names; options are those of ``load_model``."""

    def __init__(self, model: PathLike = "", *, hop_ms: float = 50, **options: Any) -> None:
        super().__init__()
        self.model = load_model(model, hop_ms=hop_ms, **options)
        self.sampling_rate = self.model.sample_rate
        self.output_dim = self.model.timestamp_embedding_size
        self.hop_size_in_ms = hop_ms

    def forward(self, audio: Tensor) -> Tensor:
        """Embed clips: (n_clips, n_samples), or one (n_samples,), -> (n_clips, n_vectors, output_dim)."""
        return self.model.timestamp_embeddings(audio if audio.ndim == 2 else audio[None])[0]
