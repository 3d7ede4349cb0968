"""Small, fast, trustworthy audio embeddings: BYOL-S (HEAR 2021) and beyond.

Public names load on first use, so that ``import hear_byols`` itself is quick.
"""

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "5.4.0"

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
__all__ = ["EmbeddingModel", "HearByolsError", "__version__", "embed_files", "embed_to_folder", "encode"]
__all__ += ["find_record", "from_pretrained", "get_scene_embeddings", "get_timestamp_embeddings", "list_models"]
__all__ += ["load_audio", "load_model", "read_embeddings", "save_checkpoint"]

_FORMER = {  # modules of versions before 1.0, and where they are now
    "checkpoint": "weights.checkpoint",
    "extract": "extraction.extract",
    "files": "_util.files",
    "formats": "extraction.formats",
    "memory": "_util.memory",
    "model_card": "weights.repository",
    "onnx_export": "onnx.export",
    "onnx_graph": "onnx.graph",
    "original": "weights.original",
    "outfolder": "extraction.output",
    "ray_engine": "extraction.ray",
    "sources": "extraction.files",
    "zoo": "weights.registry",
}

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


class _FormerModule(ModuleType):
    """What is left of a module that has moved: it finds its names in the new place, and says so."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        place = f"{__name__}.{_FORMER[self.__name__.rpartition('.')[2]]}"
        warnings.warn(f"{self.__name__} has moved to {place}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[__name__] if name in _HOMES else import_module(place), name)


for _name in _FORMER:
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _FormerModule(f"{__name__}.{_name}")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
