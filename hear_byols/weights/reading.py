"""The dictionary in a checkpoint file, read without running, trusting or unpacking anything in it."""

import json
import math
import mmap
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from hear_byols.errors import CheckpointError, WeightsNotFoundError

METADATA_KEY = "hear_byols"
ADVICE = "give a file written by hear_byols.save_checkpoint or one of the original's; if it was downloaded, do it again"
_MAX_PLAIN = 1_000_000  # characters and items of a file's plain data; more is none of ours
_MAX_NESTED = 50
_BLOCK = 1 << 20


def read_dictionary(path: Path) -> Mapping:
    """Read a ``.pth`` or ``.safetensors`` file.

    Raises:
        WeightsNotFoundError: there is no such file.
        CheckpointError: whatever a reader meets in a bad file: it is damaged, truncated, compressed, holds code, or is
            something else.
    """
    if os.path.isdir(path):
        raise CheckpointError(f"{path}: is a folder; give the checkpoint file in it")
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except FileNotFoundError as error:
        raise WeightsNotFoundError(f"{path}: there is no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not start:
        raise CheckpointError(f"{path}: is empty; {ADVICE}")
    try:
        data = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, start)
    except CheckpointError:
        raise
    except Exception as error:  # the readers raise anything from IndexError to struct.error on hostile bytes
        if "weights_only" in str(error).lower():
            raise CheckpointError(
                f"{path}: holds Python objects other than tensors and plain data, or is damaged; refused without "
                f"running anything; {ADVICE}"
            ) from error
        raise CheckpointError(f"{path}: not a checkpoint, or truncated ({first_line(error)}); {ADVICE}") from error
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path}: holds a {type(data).__name__}, expected a dictionary of weights; {ADVICE}")
    return data


def _read_torch(path: Path, start: bytes) -> object:
    if start[257:262] == b"ustar":
        raise CheckpointError(f"{path}: is a tar archive, not a checkpoint; {ADVICE}")
    if start.startswith(b"PK\x03\x04"):
        _check_archive(path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:  # which torch makes of any size that is asked for
            raise CheckpointError(f"{path}: holds Python objects other than tensors and plain data; {ADVICE}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's hints about its own file formats
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """Check what torch does not: that no member is compressed, or given twice, or other than its CRC says."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise CheckpointError(f"{path}: has compressed members, which torch never writes; refused unread; {ADVICE}")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise CheckpointError(f"{path}: its members claim more bytes than the file has; {ADVICE}")
        if len({member.filename.lower() for member in members}) < len(members):
            raise CheckpointError(f"{path}: has two members of one name; {ADVICE}")
        if any(member.CRC for member in members):  # all 0 where torch was told not to compute them
            for member in members:
                with archive.open(member) as file:
                    while file.read(_BLOCK):
                        pass  # the last block raises BadZipFile where the CRC is another


def _read_safetensors(path: Path) -> Mapping:
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    return {**header, "state_dict": tensors}


def plain_data(value: Any, finite: bool = True) -> Any:
    """Copy nested plain data, as JSON has it: text, numbers, truth values and None, in lists and dictionaries.

    Raises:
        ValueError: it holds anything else, NaN or infinity where it must be ``finite``, or more than a million
            characters and items, parts that are shared counted wherever they occur.
    """
    left = _MAX_PLAIN

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1 + (len(value) if isinstance(value, str) else 0)
        if left < 0 or depth > _MAX_NESTED:
            raise ValueError(f"more than {_MAX_PLAIN} characters and items, or nested deeper than {_MAX_NESTED}")
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [copy(item, depth + 1) for item in value]
        if value is None or isinstance(value, (bool, str)):
            return value
        if type(value) is int and value.bit_length() < 1000:
            return value
        if type(value) is float and (math.isfinite(value) or not finite):
            return value
        raise ValueError(f"a {type(value).__name__} that is neither text nor a finite number, list or dictionary")

    return copy(value, 0)


def first_line(error: Exception) -> str:
    """An error of another library, short and on one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def show(value: object) -> str:
    """A foreign value, short and on one line; of anything but text, lists of text and integers, its type."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = repr([item[:100] for item in value[:3]])
    elif isinstance(value, str):
        text = repr(value[:200])
    else:
        text = repr(value) if type(value) is int and value.bit_length() < 64 else f"a {type(value).__name__}"
    return text if len(text) <= 100 else text[:97] + "..."
