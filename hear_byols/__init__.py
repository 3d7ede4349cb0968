"""Small, fast, trustworthy audio embeddings: BYOL-S (HEAR 2021) and beyond.

Public names load on first use, so that ``import hear_byols`` itself is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0"

_HOMES = {
    "load_model": "hear",
    "from_pretrained": "ecosystem.hub",
    "get_scene_embeddings": "hear",
    "get_timestamp_embeddings": "hear",
    "list_models": "weights.registry",
    "find_record": "weights.registry",
    "load_audio": "audio",
    "embed_files": "extraction.arrays",
    "embed_to_folder": "extraction.extract",
    "encode": "extraction.arrays",
    "read_embeddings": "extraction.folder",
    "EmbeddingModel": "model",
    "save_checkpoint": "weights.checkpoint",
    "HearByolsError": "errors",
}
__all__ = [
    "EmbeddingModel",
    "HearByolsError",
    "__version__",
    "embed_files",
    "embed_to_folder",
    "encode",
    "find_record",
    "from_pretrained",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "list_models",
    "load_audio",
    "load_model",
    "read_embeddings",
    "save_checkpoint",
]

if TYPE_CHECKING:
    from hear_byols.audio import load_audio
    from hear_byols.ecosystem.hub import from_pretrained
    from hear_byols.errors import HearByolsError
    from hear_byols.extraction.arrays import embed_files, encode
    from hear_byols.extraction.extract import embed_to_folder
    from hear_byols.extraction.folder import read_embeddings
    from hear_byols.hear import get_scene_embeddings, get_timestamp_embeddings, load_model
    from hear_byols.model import EmbeddingModel
    from hear_byols.weights.checkpoint import save_checkpoint
    from hear_byols.weights.registry import find_record, list_models


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
