"""Checkpoint files: self-describing (``.pth`` and ``.safetensors``), safe to read, atomic to write.

A file holds a schema version, the model's configuration, the encoder's weights and their provenance
(``docs/checkpoints.md``). Bare state dicts of the original are recognised by their keys. Nothing in a
file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hear_byols import original
from hear_byols.config import FrontendConfig, ModelConfig
from hear_byols.errors import CheckpointError, OptionError

SCHEMA = "hear_byols/1"
_METADATA_KEY = "hear_byols"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's content.

    Args:
        config: encoder, front end and normalisation.
        state_dict: the encoder's weights under this package's names.
        provenance: what the weights are: name, description, data, steps, seed, licence ...
        schema: version of the layout, or ``"original"`` for a state dict of the original.
    """

    config: ModelConfig
    state_dict: dict[str, Tensor]
    provenance: dict[str, Any]
    schema: str = SCHEMA

    def load_into(self, encoder: nn.Module, origin: str) -> None:
        """Copy the weights into an encoder, strictly.

        Raises:
            CheckpointError: names or shapes differ from the encoder that the configuration announces.
        """
        expected = encoder.state_dict()
        missing = sorted(expected.keys() - self.state_dict.keys())
        unknown = sorted(self.state_dict.keys() - expected.keys())
        if missing or unknown:
            raise CheckpointError(
                f"{origin}: the weights are not those of the encoder {self.config.encoder.name!r} it announces "
                f"({len(missing)} missing, e.g. {missing[:2]}; {len(unknown)} unknown, e.g. {unknown[:2]})"
            )
        for key, value in self.state_dict.items():
            if value.shape != expected[key].shape:
                raise CheckpointError(
                    f"{origin}: {key} has the shape {tuple(value.shape)}, the encoder {self.config.encoder.name!r} "
                    f"with embedding_size {self.config.encoder.embedding_size} needs {tuple(expected[key].shape)}"
                )
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise CheckpointError(f"{origin}: {key} holds NaN or infinite weights")
        encoder.load_state_dict(self.state_dict)  # copies half-precision weights into float32 parameters


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it on success and vanishes on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part{path.suffix}")
    # Not tempfile: its files are private, and undoing that needs the process-wide umask, which threads share.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def save_checkpoint(
    path: str | os.PathLike[str],
    config: ModelConfig,
    state_dict: Mapping[str, Tensor],
    provenance: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: ends in ``.pth`` or ``.safetensors``.
        config: what the weights need to become a model again.
        state_dict: the encoder's weights, any device.
        provenance: JSON-able description of the weights.
        half: store floating-point weights as float16 (half the size; they are float32 again when loaded).

    Raises:
        OptionError: the suffix is another, or the provenance is not JSON-able.
    """
    path = Path(path)
    try:
        header = {
            "schema": SCHEMA,
            "config": config.to_dict(),
            "provenance": json.loads(json.dumps(dict(provenance), allow_nan=False)),
        }
    except (TypeError, ValueError) as error:
        raise OptionError(f"provenance must be JSON-able: {error}") from error
    weights = {}
    for key, value in state_dict.items():
        value = value.detach().cpu().contiguous().clone()
        weights[key] = value.half() if half and value.is_floating_point() else value
    if path.suffix == ".pth":
        with atomic_path(path) as part:
            torch.save({**header, "state_dict": weights}, part)
    elif path.suffix == ".safetensors":
        with atomic_path(path) as part:
            save_file(weights, part, metadata={_METADATA_KEY: json.dumps(header)})
    else:
        raise OptionError(f"a checkpoint's name ends in .pth or .safetensors, got {path.name!r}")


def read_checkpoint(path: str | os.PathLike[str], win_length: int | None = None) -> Checkpoint:
    """Read a checkpoint of this package, or a bare state dict of the original.

    Args:
        path: the file.
        win_length: analysis window in samples, for bare state dicts only, which do not say it (default 400; NTT's
            BYOL-A weights need 1024).

    Raises:
        CheckpointError: the file is truncated, not a checkpoint, holds code, or contradicts itself.
        OptionError: ``win_length`` given for a file that states its own.
    """
    path = Path(path)
    data = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if "schema" not in data:
        return _from_original(data, path, win_length)
    if data["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path}: checkpoint schema {data['schema']!r} is not known to this version, which reads {SCHEMA!r}; "
            "upgrade hear_byols"
        )
    if win_length is not None:
        raise OptionError(f"{path} states its own front end; win_length is only for bare state dicts")
    absent = [key for key in ("config", "provenance", "state_dict") if not isinstance(data.get(key), Mapping)]
    if absent:
        raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(absent)}")
    try:
        config = ModelConfig.from_dict(data["config"])
    except OptionError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Checkpoint(config, _tensors(data["state_dict"], path), dict(data["provenance"]))


def _from_original(data: Mapping, path: Path, win_length: int | None) -> Checkpoint:
    state = original.strip_wrapping(data)
    encoder = original.recognise(state)
    if encoder is None:
        raise CheckpointError(
            f"{path}: neither a checkpoint of this package (no 'schema') nor a state dict of a known encoder; "
            f"its first entries are {[str(key) for key in list(data)[:3]]}"
        )
    frontend = FrontendConfig() if win_length is None else replace(FrontendConfig(), win_length=win_length)
    weights = original.convert(_tensors(state, path), encoder.name)
    return Checkpoint(ModelConfig(encoder, frontend), weights, {"name": path.name}, schema="original")


def _tensors(state: Mapping, path: Path) -> dict[str, Tensor]:
    strange = [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise CheckpointError(f"{path}: the state dict holds things other than named tensors, e.g. {strange[0]!r}")
    return dict(state)


def _read_torch(path: Path) -> Mapping:
    def load() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's hints about its own file formats
            return torch.load(path, map_location="cpu", weights_only=True)

    data = _guarded(load, path)
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path}: holds a {type(data).__name__}, expected a dictionary of weights")
    return data


def _read_safetensors(path: Path) -> Mapping:
    def load() -> Mapping:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        return {**header, "state_dict": tensors}

    return _guarded(load, path)


def _guarded(load: Callable[[], Any], path: Path) -> Any:
    """Run a reader; whatever it meets in a bad file becomes one clear error."""
    try:
        return load()
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower():
            raise CheckpointError(
                f"{path}: holds Python objects other than tensors and plain data; refused without running anything"
            ) from error
        raise CheckpointError(f"{path}: not a checkpoint, or truncated ({_first_line(error)})") from error
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or truncated ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
