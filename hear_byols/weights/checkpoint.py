"""Checkpoint files: self-describing (``.pth`` and ``.safetensors``), safe to read, atomic to write.

A file holds a schema version, the model's configuration, the encoder's weights and their provenance
(``docs/checkpoints.md``). Bare state dicts of the original are recognised by their keys. Nothing in a
file is ever executed.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hear_byols._util.files import atomic_path
from hear_byols.config import FrontendConfig, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.errors import CheckpointError, OptionError, WeightsNotFoundError
from hear_byols.weights import original

SCHEMA = "hear_byols/1"
_METADATA_KEY = "hear_byols"
_ADVICE = (
    "give a file written by hear_byols.save_checkpoint or one of the original's; if it was downloaded, do it again"
)
_MEL_STEPS = {"cnn": 8}  # mel bands an encoder's strides divide evenly; 16 for the others


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
            CheckpointError: names or shapes differ from the encoder's.
        """
        _match(self.state_dict, encoder.state_dict(), self.config, origin)
        encoder.load_state_dict(self.state_dict)


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
        CheckpointError: the weights are not finite (in float16, if ``half``) or not those of ``config``'s encoder.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".pth", ".safetensors"):
        raise OptionError(f"a checkpoint's name ends in .pth or .safetensors, got {path.name!r}")
    try:
        header = {
            "schema": SCHEMA,
            "config": config.to_dict(),
            "provenance": json.loads(json.dumps(dict(provenance), allow_nan=False)),
        }
    except (TypeError, ValueError) as error:
        raise OptionError(f"provenance must be JSON-able: {error}") from error
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in state_dict.items()}
    if half:
        weights = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    _fit(weights, config, str(path))  # what is written can be read again
    with atomic_path(path) as part:
        if path.suffix == ".pth":
            torch.save({**header, "state_dict": weights}, part)
        else:
            save_file(weights, part, metadata={_METADATA_KEY: json.dumps(header)})


def read_checkpoint(path: str | os.PathLike[str], win_length: int | None = None) -> Checkpoint:
    """Read a checkpoint of this package, or a bare state dict of the original, and check all of it.

    Args:
        path: the file.
        win_length: analysis window in samples, for bare state dicts only, which do not say it (default 400; NTT's
            BYOL-A weights need 1024).

    Returns:
        The content; floating-point weights are float32, whatever the file holds.

    Raises:
        WeightsNotFoundError: there is no such file.
        CheckpointError: the file is unreadable, truncated, not a checkpoint, holds code, or contradicts itself.
        OptionError: ``win_length`` given for a file that states its own, or out of range.
    """
    path = Path(path)
    data = _read(path)
    if "schema" not in data:
        return _from_original(data, path, win_length)
    if data["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path}: checkpoint schema {_show(data['schema'])} is not known to this version, which reads {SCHEMA!r}; "
            "upgrade hear_byols"
        )
    if win_length is not None:
        raise OptionError(f"{path} states its own front end; win_length is only for bare state dicts")
    absent = [key for key in ("config", "provenance", "state_dict") if not isinstance(data.get(key), Mapping)]
    if absent:
        raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(absent)} (each a dictionary); {_ADVICE}")
    try:
        config = ModelConfig.from_dict(data["config"])
        provenance = json.loads(json.dumps(dict(data["provenance"]), allow_nan=False))
    except OptionError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the provenance is not plain JSON data ({_first_line(error)})") from error
    return Checkpoint(config, _fit(_tensors(data["state_dict"], path), config, str(path)), provenance)


def _from_original(data: Mapping, path: Path, win_length: int | None) -> Checkpoint:
    frontend = FrontendConfig() if win_length is None else replace(FrontendConfig(), win_length=win_length)
    try:
        state = original.strip_wrapping(data)
        encoder = original.recognise(state)
    except (CheckpointError, OptionError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if encoder is None:
        raise CheckpointError(
            f"{path}: neither a checkpoint of this package (no 'schema') nor a state dict of a known encoder; "
            f"its first entries are {_show([str(key) for key in list(state)[:3]])}; {_ADVICE}"
        )
    config = ModelConfig(encoder, frontend)
    weights = original.convert(_tensors(state, path), encoder.name)
    return Checkpoint(config, _fit(weights, config, str(path)), {"name": path.name}, schema="original")


def _tensors(state: Mapping, path: Path) -> dict[str, Tensor]:
    strange = [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise CheckpointError(
            f"{path}: the state dict holds things other than named tensors, e.g. {_show(strange[0])}; {_ADVICE}"
        )
    return dict(state)


def _fit(state: Mapping[str, Tensor], config: ModelConfig, origin: str) -> dict[str, Tensor]:
    """Check weights against the encoder that a configuration announces, and return them in its types.

    The encoder is built without memory, so that a nonsensical size in a bad file costs nothing.
    """
    expected = _expected(config, origin)
    _match(state, expected, config, origin)
    fitted = {}
    for key, value in state.items():
        if value.layout != torch.strided or value.is_floating_point() != expected[key].is_floating_point():
            raise CheckpointError(
                f"{origin}: {key} is a {value.dtype} tensor ({value.layout}), the encoder "
                f"{config.encoder.name!r} needs {expected[key].dtype}; {_ADVICE}"
            )
        fitted[key] = value.to(expected[key].dtype)
        if not bool(torch.isfinite(fitted[key]).all()):
            raise CheckpointError(f"{origin}: {key} holds NaN or infinite weights; use a checkpoint from before that")
    return fitted


def _expected(config: ModelConfig, origin: str) -> dict[str, Tensor]:
    """State dict, without data, of the encoder that a configuration announces."""
    name, n_mels = config.encoder.name, config.frontend.n_mels
    step = _MEL_STEPS.get(name, 16)
    if n_mels % step:
        raise CheckpointError(f"{origin}: the encoder {name!r} takes a multiple of {step} mel bands, got {n_mels}")
    try:
        with torch.device("meta"):
            encoder = build_encoder(config.encoder, n_mels)
    except OptionError as error:
        raise CheckpointError(f"{origin}: {error}") from error
    return encoder.state_dict()


def _match(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: ModelConfig, origin: str) -> None:
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{origin}: the weights are not those of the encoder {config.encoder.name!r} it announces "
            f"({len(missing)} missing, e.g. {_show(missing[:2])}; {len(unknown)} unknown, e.g. {_show(unknown[:2])}); "
            f"{_ADVICE}"
        )
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{origin}: {key} has the shape {tuple(value.shape)}, the encoder {config.encoder.name!r} "
                f"with embedding_size {config.encoder.embedding_size} needs {tuple(expected[key].shape)}; {_ADVICE}"
            )


def _read(path: Path) -> Mapping:
    """The dictionary in a file. Whatever a reader meets in a bad file becomes one clear error; nothing is executed."""
    if os.path.isdir(path):
        raise CheckpointError(f"{path}: is a folder; give the checkpoint file in it")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise WeightsNotFoundError(f"{path}: there is no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if empty:
        raise CheckpointError(f"{path}: is empty; {_ADVICE}")
    try:
        data = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except Exception as error:  # the readers raise anything from IndexError to struct.error on hostile bytes
        if "weights_only" in str(error).lower():
            raise CheckpointError(
                f"{path}: holds Python objects other than tensors and plain data, or is damaged; refused without "
                f"running anything; {_ADVICE}"
            ) from error
        raise CheckpointError(f"{path}: not a checkpoint, or truncated ({_first_line(error)}); {_ADVICE}") from error
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path}: holds a {type(data).__name__}, expected a dictionary of weights; {_ADVICE}")
    return data


def _read_torch(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's hints about its own file formats
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> Mapping:
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    return {**header, "state_dict": tensors}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _show(value: object) -> str:
    """A foreign value, short and on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:97] + "..."
