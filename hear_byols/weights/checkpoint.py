"""Checkpoint files: self-describing (``.pth`` and ``.safetensors``), safe to read, atomic to write.

A file holds a schema version, the model's configuration, the encoder's weights, their provenance and a digest of it all
(``docs/checkpoints.md``). Bare state dicts of the original are recognized by their keys. Nothing in a file is ever
executed.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hear_byols._util.files import output_path
from hear_byols._util.host import plain_defaults
from hear_byols._util.numbers import plain
from hear_byols.config import FrontendConfig, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.errors import CheckpointError, OptionError
from hear_byols.weights import original
from hear_byols.weights.digest import content_digest
from hear_byols.weights.reading import ADVICE, METADATA_KEY, first_line, plain_data, read_dictionary, show

SCHEMA = "hear_byols/1"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's content."""

    config: ModelConfig  # encoder, front end and normalization
    state_dict: dict[str, Tensor]  # the encoder's weights under this package's names
    provenance: dict[str, Any]  # what the weights are: name, description, data, steps, seed, licence ...
    schema: str = SCHEMA  # version of the layout, or "original" for a state dict of the original

    @property
    def fits_half(self) -> bool:
        """Whether half precision holds the weights exactly."""
        weights = [value for value in self.state_dict.values() if value.is_floating_point()]
        return all(torch.equal(value, value.half().to(value.dtype)) for value in weights)

    @property
    def embedding_size(self) -> int:
        """Of the model that the configuration announces, all its layers together."""
        with torch.device("meta"):
            return build_encoder(self.config.encoder, self.config.frontend.n_mels).embedding_size


@plain_defaults()
def save_checkpoint(
    path: str | os.PathLike[str],
    config: ModelConfig,
    state_dict: Mapping[str, Tensor],
    provenance: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write a checkpoint atomically, with a digest of its content.

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
        plain_provenance = json.loads(json.dumps(dict(provenance), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise OptionError(f"provenance must be JSON-able: {error}") from error
    header = {"schema": SCHEMA, "config": config.to_dict(), "provenance": plain_provenance}
    absent = [key for key, value in state_dict.items() if value.is_meta]
    if absent:
        raise CheckpointError(f"{path}: {show(absent)} are on the meta device, without values")
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in state_dict.items()}
    if half:
        weights = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    _fit(weights, config, path)  # what is written can be read again
    header["digest"] = content_digest({**header, "state_dict": weights})
    with output_path(path) as part:
        if path.suffix == ".pth":
            with open(part, "wb") as file:  # into a file of a name, torch would write that too
                torch.save({**header, "state_dict": weights}, file)
        else:
            save_file(weights, part, metadata={METADATA_KEY: json.dumps(header)})


@plain_defaults()
def read_checkpoint(path: str | os.PathLike[str], win_length: int | None = None) -> Checkpoint:
    """Read a checkpoint of this package, or a bare state dict of the original, and check all of it.

    What the file states as the digest of its content is compared with the content. Files without one are compared with
    the CRC of their archive; safetensors files without one, and archives without CRC, have nothing to compare with.

    Args:
        path: the file.
        win_length: analysis window in samples, for bare state dicts only, which do not say it (default 400; NTT's
            BYOL-A weights need 1024).

    Returns:
        The content; floating-point weights are float32, whatever the file holds.

    Raises:
        WeightsNotFoundError: there is no such file.
        CheckpointError: the file is unreadable, damaged, truncated, not a checkpoint, holds code, is compressed, or
            contradicts itself.
        OptionError: ``win_length`` given for a file that states its own, or out of range.
    """
    path, win_length = Path(path), plain(win_length)
    data = read_dictionary(path)
    if "schema" not in data:
        return _from_original(data, path, win_length)
    if data["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path}: checkpoint schema {show(data['schema'])} is not known to this version, which reads {SCHEMA!r}; "
            "upgrade hear_byols"
        )
    if win_length is not None:
        raise OptionError(f"{path} states its own front end; win_length is only for bare state dicts")
    absent = [key for key in ("config", "provenance", "state_dict") if not isinstance(data.get(key), Mapping)]
    if absent:
        raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(absent)} (each a dictionary); {ADVICE}")
    try:
        # Numbers of a configuration are checked there, with better words.
        header = {key: plain_data(value, finite=key != "config") for key, value in data.items() if key != "state_dict"}
    except ValueError as error:
        raise CheckpointError(
            f"{path}: what stands beside the weights is not plain JSON data ({first_line(error)})"
        ) from error
    weights = _tensors(data["state_dict"], path)
    _check_digest(header, weights, path)
    try:
        config = ModelConfig.from_dict(header["config"])
    except OptionError as error:
        raise CheckpointError(f"{path}: {str(error)[:500]}") from error
    return Checkpoint(config, _fit(weights, config, path), header["provenance"])


def _check_digest(header: dict[str, Any], weights: dict[str, Tensor], path: Path) -> None:
    """Compare the content with the digest in the file; a file without it has nothing else that is unknown."""
    if "digest" not in header:
        unknown = [key for key in header if key not in ("schema", "config", "provenance")]
        if unknown:
            raise CheckpointError(f"{path}: the entry {show(unknown[0])} is not known; {ADVICE}")
        return
    stated = header.pop("digest")
    if stated != content_digest({**header, "state_dict": weights}):
        raise CheckpointError(
            f"{path}: the content is not what the file's own digest says: it is damaged, or was changed by other means "
            f"than hear_byols.save_checkpoint; {ADVICE}"
        )


def _from_original(data: Mapping, path: Path, win_length: int | None) -> Checkpoint:
    frontend = FrontendConfig() if win_length is None else replace(FrontendConfig(), win_length=win_length)
    try:
        state = original.strip_wrapping(data)
        encoder = original.recognize(state)
    except (CheckpointError, OptionError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if encoder is None:
        raise CheckpointError(
            f"{path}: neither a checkpoint of this package (no 'schema') nor a state dict of a known encoder; "
            f"its first entries are {show([key for key in list(state)[:3] if isinstance(key, str)])}; {ADVICE}"
        )
    config = ModelConfig(encoder, frontend)
    weights = original.convert(_tensors(state, path), encoder.name)
    return Checkpoint(config, _fit(weights, config, path), {"name": path.name}, schema="original")


def _tensors(state: Mapping, path: Path) -> dict[str, Tensor]:
    for key, value in state.items():
        is_plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not (isinstance(key, str) and is_plain) or value.is_nested or value.is_quantized or value.is_complex():
            kind = f"{value.layout} {value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(
                f"{path}: the state dict holds things other than named tensors of numbers, e.g. {show(key)}: a {kind}; "
                f"{ADVICE}"
            )
    return dict(state)


def _fit(state: Mapping[str, Tensor], config: ModelConfig, origin: Path) -> dict[str, Tensor]:
    """Check weights against the encoder that a configuration announces, and return them in its types."""
    expected = _expected(config, origin)
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{origin}: the weights are not those of the encoder {config.encoder.name!r} it announces "
            f"({len(missing)} missing, e.g. {show(missing[:2])}; {len(unknown)} unknown, e.g. {show(unknown[:2])}); "
            f"{ADVICE}"
        )
    fitted = {}
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{origin}: {key} has the shape {tuple(value.shape)}, the encoder {config.encoder.name!r} "
                f"with embedding_size {config.encoder.embedding_size} needs {tuple(expected[key].shape)}; {ADVICE}"
            )
        if value.is_floating_point() != expected[key].is_floating_point():
            raise CheckpointError(
                f"{origin}: {key} is a {value.dtype} tensor, the encoder {config.encoder.name!r} needs "
                f"{expected[key].dtype}; {ADVICE}"
            )
        fitted[key] = value.to(expected[key].dtype)
        if not bool(torch.isfinite(fitted[key]).all()):
            raise CheckpointError(f"{origin}: {key} holds NaN or infinite weights; use a checkpoint from before that")
        if key.endswith("running_var") and bool((fitted[key] < 0).any()):
            raise CheckpointError(f"{origin}: {key} holds negative variances, which no training gives; {ADVICE}")
    return fitted


def _expected(config: ModelConfig, origin: Path) -> dict[str, Tensor]:
    """State dict of the encoder that a configuration announces; without data, so that a nonsensical size is cheap."""
    name, n_mels = config.encoder.name, config.frontend.n_mels
    step = 8 if name == "cnn" else 16  # its strides divide
    if n_mels % step:
        raise CheckpointError(f"{origin}: the encoder {name!r} takes a multiple of {step} mel bands, got {n_mels}")
    try:
        with torch.device("meta"):
            encoder = build_encoder(config.encoder, n_mels)
    except OptionError as error:
        raise CheckpointError(f"{origin}: {error}") from error
    return encoder.state_dict()
