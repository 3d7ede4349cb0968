"""Where a model runs, and its arithmetic: exact float32, or half precision by autocast."""

from __future__ import annotations

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
    """Context in which the encoder runs at ``precision``; ``"float32"`` really is float32 (no TF32, no bfloat16)."""
    if precision != "float32":
        # Without the cache of converted weights: within another autocast it would hold those of another type.
        return torch.autocast(device.type, dtype=getattr(torch, precision), cache_enabled=False)
    exact = _EXACT.get(device.type)
    return exact() if exact else nullcontext()


class _ExactFloat32:
    """Forbids that operands are rounded. torch has such settings for the process: the last thread puts them back.

    Args:
        switches: each an object and the name of its setting.
        allowed: values that may stay.
    """

    def __init__(self, switches: list[tuple[Any, str]], allowed: tuple[str, ...] = ()) -> None:
        self._switches = switches
        self._allowed = allowed
        self._lock = threading.Lock()
        self._n_threads = 0  # that need exact float32 now
        self._found: list[tuple[Any, str, Any]] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._n_threads += 1
            if self._n_threads == 1:
                values = [(owner, name, getattr(owner, name)) for owner, name in self._switches]
                self._found = [found for found in values if found[2] not in self._allowed]
                for owner, name, value in self._found:
                    setattr(owner, name, False if isinstance(value, bool) else "ieee")
        try:
            yield
        finally:
            with self._lock:
                self._n_threads -= 1
                if self._n_threads == 0:
                    for found in self._found:
                        setattr(*found)


def _make() -> dict[str, _ExactFloat32]:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if not hasattr(cuda, "fp32_precision"):  # torch < 2.9
        return {"cuda": _ExactFloat32([(cuda, "allow_tf32"), (cudnn, "allow_tf32")])}
    mkldnn = torch.backends.mkldnn
    return {
        "cuda": _ExactFloat32([(owner, "fp32_precision") for owner in (cuda, cudnn.conv, cudnn.rnn)]),
        "cpu": _ExactFloat32(
            [(owner, "fp32_precision") for owner in (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)], ("ieee", "none")
        ),
    }


_EXACT = _make()
