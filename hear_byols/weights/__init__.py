"""Weights: records of what there is, files found and downloaded, checkpoints read and written."""

from importlib import import_module
from typing import Any

_HOMES = {
    "cache_dir": "locate",
    "read_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "shipped_dir": "locate",
}


def __getattr__(name: str) -> Any:  # loads on first use
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
