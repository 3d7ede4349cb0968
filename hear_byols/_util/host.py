"""What the host program has set stays outside: its autocast, default type, default device and training mode.

Nothing here changes a setting that threads share, so any number of threads may embed while another trains; only in a
forked child the number of threads is set.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from hear_byols._util.memory import expect_large_blocks

M = TypeVar("M", bound=nn.Module)
_FACTORIES = (torch.empty, torch.zeros, torch.ones)  # what modules make their weights with


class _Float32(TorchFunctionMode):
    """Tensors made without a stated type are float32, in this thread."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FACTORIES and kwargs.get("dtype") is None:
            kwargs["dtype"] = torch.float32
        return func(*args, **kwargs)


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Modules made within are float32 and on the CPU, whatever default type and device the host program has set."""
    with torch.device("cpu"), _Float32():
        yield


def no_autocast(device: torch.device) -> Any:
    """Context without the host program's autocast on a device."""
    if not torch.is_autocast_enabled(device.type):  # also where a device knows no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """No gradients and no autocast; memory is kept from call to call; children forked later can compute, too."""
    _mind_forks()
    expect_large_blocks()
    with torch.no_grad(), no_autocast(device):
        yield


@cache
def _mind_forks() -> None:
    """Let children forked from now on compute with one thread.

    Of the threads that torch has started, a child has none, and would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def evaluation_view(module: M) -> M:
    """A module in evaluation mode and float32 that shares another's weights, hooks and parts.

    The other's flags and buffers stay as they are, so that threads may embed with a model that is being trained.
    Weights of other floating-point types are converted.
    """
    view = object.__new__(type(module))
    vars(view).update(vars(module))
    if module.training:
        vars(view).update(training=False, _compiled_call_impl=None)  # what was compiled is the training
    for kind in ("_parameters", "_buffers"):
        vars(view)[kind] = {name: _float32(value) for name, value in getattr(module, kind).items()}
    if isinstance(module, nn.RNNBase):  # which keeps its weights once more, as a list
        vars(view)["_flat_weights"] = [view._parameters[name] for name in module._flat_weights_names]
    vars(view)["_modules"] = {name: part and evaluation_view(part) for name, part in module._modules.items()}
    return view


def _float32(value: torch.Tensor | None) -> torch.Tensor | None:
    return value.float() if value is not None and value.is_floating_point() else value
