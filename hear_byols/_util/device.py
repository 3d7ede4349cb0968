"""Where a model runs, and its arithmetic: exact float32, or half precision by autocast."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from hear_byols.errors import OptionError


def find_device(name: str) -> torch.device:
    """Choose a device: ``"auto"`` is CUDA, else Apple's GPU, else the CPU.

    Raises:
        OptionError: not a device, or not present on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(
            f"device {name!r} is not available here ({reason}); accepted: auto, cpu, cuda, cuda:N, mps"
        ) from error
    return device


def autocast(precision: str, device: torch.device) -> Any:
    """Context in which the encoder runs at ``precision``; ``"float32"`` really is float32 (no TF32 on GPUs)."""
    if precision != "float32":
        # Without the cache of converted weights: within another autocast it would hold those of another type.
        return torch.autocast(device.type, dtype=getattr(torch, precision), cache_enabled=False)
    return _exact_float32() if device.type == "cuda" else nullcontext()


class _ExactFloat32:
    """Forbids that CUDA rounds operands. torch has such settings for the process: the last thread puts them back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_threads = 0  # that need exact float32 now
        self._found: list[tuple[Any, str, Any]] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._n_threads += 1
            if self._n_threads == 1:
                self._found = [(owner, name, getattr(owner, name)) for owner, name, _ in _switches()]
                for switch in _switches():
                    setattr(*switch)
        try:
            yield
        finally:
            with self._lock:
                self._n_threads -= 1
                if self._n_threads == 0:
                    for found in self._found:
                        setattr(*found)


def _switches() -> list[tuple[Any, str, object]]:
    """The settings that let CUDA round float32 operands, with the value that forbids it."""
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch >= 2.9
        cudnn: Any = torch.backends.cudnn
        owners = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
        return [(owner, "fp32_precision", "ieee") for owner in owners]
    return [(torch.backends.cuda.matmul, "allow_tf32", False), (torch.backends.cudnn, "allow_tf32", False)]


_exact_float32 = _ExactFloat32()
