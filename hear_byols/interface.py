"""What every model of the package offers, whatever is inside: the contract of ``load_model``'s result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from hear_byols.framing import Framing
    from hear_byols.inputs import BatchLike

M = TypeVar("M", bound="AudioModel")


class AudioModel(Protocol):
    """An audio embedding model: an encoder, openSMILE, or several models side by side.

    Attributes:
        sample_rate: of the audio it takes, in Hz.
        framing: windows of timestamp embeddings.
        scene_embedding_size: numbers a clip.
        timestamp_embedding_size: numbers a window.
        provenance: where the weights come from; JSON-able.
    """

    sample_rate: int
    framing: Framing
    scene_embedding_size: int
    timestamp_embedding_size: int
    provenance: dict[str, Any]

    @property
    def device(self) -> torch.device:
        """Where the model is, and where it expects audio."""
        ...

    @property
    def normalization(self) -> Any:
        """Mode of the spectrograms' normalization: a name, a list of the parts' names, or None where there is none."""
        ...

    @property
    def batch_invariant(self) -> bool:
        """Whether a clip's embedding is the same alone and among others of a call."""
        ...

    def scene_embeddings(self, audio: BatchLike) -> Tensor:
        """Embed whole clips: float32 [shape=(n_clips, scene_embedding_size)]."""
        ...

    def timestamp_embeddings(self, audio: BatchLike) -> tuple[Any, Any]:
        """Embed windows: vectors [shape=(n_clips, n_windows, timestamp_embedding_size)], centres in ms."""
        ...

    def __call__(self, audio: Tensor, /) -> Tensor:
        """Embed whole clips, differentiably where that can be."""
        ...

    def to(self: M, device: torch.device | str, /) -> M:
        """Move to a device."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Weights by name."""
        ...
