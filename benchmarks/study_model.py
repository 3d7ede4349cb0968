"""A HEAR module for ``studies.py``: a CNN's scene embeddings, pooled or padded in other ways than the package's."""

from __future__ import annotations

from torch import Tensor, nn

import hear_byols
from hear_byols.encoders import cnn, pooling
from hear_byols.model import EmbeddingModel

POOLINGS = {
    "mean and maximum": pooling.mean_max,
    "mean": lambda x: x.mean(1),
    "maximum": lambda x: x.amax(1),
}
PADDINGS = ("none", "silence", "repeat")
PADDED_SECONDS = 1.0  # the window of timestamp embeddings


class Changed(nn.Module):
    """A model, and how its clips are padded.

    Args:
        model: of the package.
        padding: the silence that ends a clip is cut off, and a clip shorter than a second is then left as it is
            (``"none"``), followed by zeros (``"silence"``) or repeated (``"repeat"``); ``""``: clips stay as they are.
    """

    def __init__(self, model: EmbeddingModel, padding: str) -> None:
        super().__init__()
        self.model = model
        self.padding = padding
        self.sample_rate = model.sample_rate
        self.scene_embedding_size = model.scene_embedding_size
        self.timestamp_embedding_size = model.timestamp_embedding_size

    def pad(self, clip: Tensor) -> Tensor:
        """Change one clip [shape=(n_samples,)]."""
        if not self.padding:
            return clip
        sounding = clip.nonzero()
        clip = clip[: int(sounding[-1]) + 1] if len(sounding) else clip[:1]
        missing = round(PADDED_SECONDS * self.sample_rate) - len(clip)
        if missing <= 0 or self.padding == "none":
            return clip
        if self.padding == "silence":
            return nn.functional.pad(clip, (0, missing))
        return clip.repeat(-(-missing // len(clip)) + 1)[: len(clip) + missing]


def load_model(path: str, pooling: str = "", padding: str = "") -> Changed:
    """Load a checkpoint of a CNN, pooled by one of :data:`POOLINGS` or padded by one of :data:`PADDINGS`."""
    for name, given, accepted in (("pooling", pooling, POOLINGS), ("padding", padding, PADDINGS)):
        if given and given not in accepted:
            raise ValueError(f"{name} must be one of {', '.join(accepted)}; got {given!r}")
    cnn.mean_max = POOLINGS[pooling or "mean and maximum"]  # of this process
    return Changed(hear_byols.load_model(path), padding)


def get_scene_embeddings(audio: Tensor, model: Changed) -> Tensor:
    """HEAR's: (n_clips, n_samples) -> (n_clips, scene_embedding_size)."""
    return hear_byols.get_scene_embeddings([model.pad(clip) for clip in audio], model.model)


def get_timestamp_embeddings(audio: Tensor, model: Changed) -> tuple[Tensor, Tensor]:
    """HEAR's, without padding; a window is never short."""
    return hear_byols.get_timestamp_embeddings(audio, model.model)
