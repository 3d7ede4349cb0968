"""Several models as one: their embeddings side by side (paper, section 3.4 and the "+" rows of Tables 5 to 8)."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from hear_byols.errors import OptionError
from hear_byols.inputs import BatchLike, is_list
from hear_byols.interface import AudioModel
from hear_byols.model import EmbeddingModel


class ConcatenatedModel(nn.Module):
    """Embeds with every part and joins the embeddings along the last axis, in the order of the parts.

    The parts' values are joined as they are; parts of different scale want standardizing before a classifier.

    Args:
        models: two or more models with the interface of ``EmbeddingModel``, on one device, equal in ``sample_rate`` and
            ``framing``.

    Raises:
        OptionError: fewer than two parts, or parts that disagree in sample rate or framing.
    """

    def __init__(self, models: Sequence[AudioModel]) -> None:
        super().__init__()
        if len(models) < 2:
            raise OptionError(f"a concatenation needs two or more models, got {len(models)}")
        for name in ("sample_rate", "framing"):
            values = [getattr(model, name) for model in models]
            if any(value != values[0] for value in values):
                raise OptionError(f"the parts of a concatenation must agree in {name}, got {values}")
        self.parts = nn.ModuleList(cast("Sequence[nn.Module]", models))
        self.sample_rate: int = models[0].sample_rate
        self.framing = models[0].framing
        self.scene_embedding_size: int = sum(model.scene_embedding_size for model in models)
        self.timestamp_embedding_size: int = sum(model.timestamp_embedding_size for model in models)
        parts = [dict(model.provenance) for model in models]
        self.provenance = {"name": "+".join(str(part.get("name", "unnamed")) for part in parts), "parts": parts}
        self.training = self.parts.training = any(part.training for part in self.parts)  # leaves the parts' modes alone

    @property
    def models(self) -> Sequence[AudioModel]:
        """The parts as models."""
        return cast("Sequence[AudioModel]", self.parts)

    @property
    def normalization(self) -> list[Any]:
        """Mode of each part."""
        return [model.normalization for model in self.models]

    @property
    def batch_invariant(self) -> bool:
        """Whether a clip's embedding is the same alone and among others of a call."""
        return all(model.batch_invariant for model in self.models)

    @property
    def device(self) -> torch.device:
        """Where the model is, and where it expects audio."""
        return self.models[0].device

    def forward(self, audio: Tensor) -> Tensor:
        """Embed whole clips, differentiably in the parts that can be: (n_clips, n_samples) -> (n_clips, size)."""
        return torch.cat([model(audio) for model in self.models], -1)

    def scene_embeddings(self, audio: BatchLike) -> Tensor:
        """Embed whole clips with every part; arguments, result and errors as of ``EmbeddingModel``."""
        return torch.cat([model.scene_embeddings(audio) for model in self.models], -1)

    def timestamp_embeddings(self, audio: BatchLike) -> tuple[Any, Any]:
        """Embed windows with every part; arguments, result and errors as of ``EmbeddingModel``."""
        if is_list(audio):
            pairs = [model.timestamp_embeddings(audio) for model in self.models]
            joined = [torch.cat(vectors, -1) for vectors in zip(*(part for part, _ in pairs), strict=True)]
            return joined, pairs[0][1]
        result, times, place = None, None, 0
        for model in self.models:  # one after the other: besides the result, only one part's embeddings are held
            vectors, times = model.timestamp_embeddings(audio)
            if result is None:
                result = vectors.new_empty(*vectors.shape[:-1], self.timestamp_embedding_size)
            result[..., place : place + vectors.shape[-1]] = vectors
            place += vectors.shape[-1]
        return result, times


def require_encoder(model: Any, verb: str, done: str) -> EmbeddingModel:
    """The model, if it has an encoder of its own.

    Raises:
        OptionError: it has none, or is several models; the message says that such a model cannot be ``done``.
    """
    if isinstance(model, ConcatenatedModel):
        raise OptionError(f"concatenated models cannot be {done}; {verb} each part by itself and join the vectors")
    if not isinstance(model, EmbeddingModel):
        raise OptionError(f"only models with an encoder can be {done}, got {type(model).__name__}")
    return model
