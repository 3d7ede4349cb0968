"""A process of its own with the real Hub client in it, which reads ``HF_ENDPOINT`` and others only when imported.

And a small checkpoint to go to the Hub and back.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest
import torch

from hear_byols.config import EncoderConfig, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.weights.checkpoint import save_checkpoint

CONFIG = ModelConfig(EncoderConfig("cnn", 16))
_T = TypeVar("_T")


class HubClient(ProcessPoolExecutor):
    """Calls functions in the process, one after the other.

    Args:
        home: folder of both caches.
        endpoint: the Hub's address.
        env: further environment variables of the process.
    """

    def __init__(self, home: Path, endpoint: str, **env: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HEAR_BYOLS_", "HUGGING"))}
        settings = {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home / "hf"),
            "HEAR_BYOLS_HOME": str(home / "ours"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "*",
        }
        super().__init__(1, get_context("spawn"))
        with mock.patch.dict(os.environ, {**kept, **settings, **env}, clear=True):
            self.value(_lose_no_time)  # the process starts

    def value(self, function: Callable[..., _T], *args: Any, **options: Any) -> _T:
        """What a function returns, which must succeed."""
        return self.submit(function, *args, **options).result()

    def refused(self, error: type[Exception], function: Callable[..., object], *args: Any, **options: Any) -> str:
        """The message, on one line, of a function that must fail with an error of this very class."""
        with pytest.raises(error) as caught:
            self.value(function, *args, **options)
        assert type(caught.value) is error
        assert "\n" not in str(caught.value)
        return str(caught.value)


def tiny_weights(seed: int = 3) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(CONFIG.encoder).state_dict()


def save_tiny(path: Path, weights: Any = None, half: bool = False, **provenance: Any) -> Path:
    """Save a checkpoint, if not told otherwise one that may be published; returns its path."""
    provenance = {"name": "tiny", "licence": "MIT", **provenance}
    save_checkpoint(path, CONFIG, weights or tiny_weights(), provenance, half=half)
    return path


def _lose_no_time() -> None:
    """The client waits up to 23 s before it gives up."""
    time.sleep = lambda _: None


def vector(load: Callable[..., Any], name: str, **options: Any) -> list[float]:
    """Of a second of sound, by the model that ``load`` gives."""
    return load(name, **options).scene_embeddings(torch.linspace(-1, 1, 16000)[None])[0].tolist()


def forbid_sockets(set_attribute: Callable[..., None] = setattr) -> None:
    """From now on any connection is an error of a kind that nothing handles."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    for owner, name in ((socket.socket, "connect"), (socket.socket, "connect_ex"), (socket, "getaddrinfo")):
        set_attribute(owner, name, refuse)


def set_env(**values: str) -> None:
    """Set environment variables; an empty one counts as none."""
    os.environ.update(values)
