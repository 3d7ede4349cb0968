"""A digest of what a file holds, kept in the file itself: damage is noticed, whatever the format checks."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def content_digest(content: Any) -> str:
    """SHA-256, 64 hexadecimal digits, over nested plain data and tensors: values, types, shapes and names.

    The order of a mapping's keys, tuples or lists, and the device of a tensor make no difference.

    Raises:
        TypeError: it holds anything but mappings, lists and tuples of tensors, text, bytes, numbers, booleans, None.
    """
    digest = hashlib.sha256()
    _feed(digest.update, content)
    return digest.hexdigest()


def _feed(update: Callable[[Any], None], value: Any) -> None:
    if isinstance(value, Tensor):
        update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
        update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        update(f"mapping {len(value)}\n".encode())
        for key in sorted(value, key=lambda key: (type(key).__name__, key)):
            _feed(update, key)
            _feed(update, value[key])
    elif isinstance(value, (list, tuple)):
        update(f"sequence {len(value)}\n".encode())
        for item in value:
            _feed(update, item)
    elif isinstance(value, (str, bytes)):
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        update(f"{type(value).__name__} {len(data)}\n".encode() + data)
    elif value is None or type(value) in (bool, int, float):
        update(f"{type(value).__name__} {value!r}\n".encode())
    else:
        raise TypeError(f"no digest of a {type(value).__name__}")
