"""The file of a classifier (``.hbc``): one safetensors file of arrays with a JSON header; reading it runs nothing."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hear_byols import __version__
from hear_byols._util.files import output_path
from hear_byols.answers.cutting import Cutting
from hear_byols.answers.head import Head
from hear_byols.errors import CheckpointError, InputError, OptionError
from hear_byols.extraction.extract import run_settings
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.folder import IDENTITY
from hear_byols.model import EmbeddingModel
from hear_byols.weights.checkpoint import save_checkpoint
from hear_byols.weights.digest import content_digest

SUFFIX = ".hbc"
SCHEMA = "hear_byols-classifier/1"
_KEY = "hear_byols"


@dataclass(frozen=True)
class Artefact:
    """Everything that a classifier needs to be run elsewhere."""

    kind: str  # "clips" for labels of whole clips, "events" for events in time
    classes: tuple[str, ...]  # at their columns of the head
    head: Head
    settings: Mapping[str, Any]  # what its vectors depend on, and the model, as manifests of embed say it
    training: Mapping[str, Any]  # how it was learnt: head, strength, clips of each class, scores; JSON-able
    encoder: bytes = field(default=b"", repr=False)  # a checkpoint's file (safetensors), if it was fine-tuned

    def save(self, path: PathLike) -> None:
        """Write the file, whole or not at all.

        Raises:
            OptionError: its name does not end in ``.hbc``.
            OutputError: it cannot be written.
        """
        path = check_name(path)
        header = {name: getattr(self, name) for name in ("kind", "classes", "settings", "training")}
        text = json.dumps({"schema": SCHEMA, "hear_byols": __version__, **header})
        head = vars(self.head).items()
        arrays: dict[str, np.ndarray] = {name: np.ascontiguousarray(values, np.float32) for name, values in head}
        if self.encoder:
            arrays["encoder"] = np.frombuffer(self.encoder, np.uint8)
        with output_path(path) as part:
            part.write_bytes(save(arrays, metadata={_KEY: text, "digest": _digest(text, arrays)}))


def check_name(path: PathLike) -> Path:
    """A path that ends as the files of classifiers do, or an ``OptionError``."""
    if Path(path).suffix != SUFFIX:
        raise OptionError(f"a classifier's name ends in {SUFFIX}, got {Path(path).name!r}")
    return Path(path)


def packed(model: EmbeddingModel) -> bytes:
    """A model's encoder as a checkpoint's file."""
    with tempfile.TemporaryDirectory(prefix="hear_byols-") as home:
        path = Path(home, "encoder.safetensors")
        save_checkpoint(path, model.config, model.encoder.state_dict(), model.provenance)
        return path.read_bytes()


@contextmanager
def unpacked(encoder: bytes) -> Iterator[Path | None]:
    """Yield a path at which a checkpoint's file lies for a while; None if there is none."""
    if not encoder:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="hear_byols-") as home:
        path = Path(home, "encoder.safetensors")
        path.write_bytes(encoder)
        yield path


def settings_of(model: Any, spec: PathLike, timestamps: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """What vectors of a model depend on, and where it is from; as in manifests, but without the machine's own."""
    options = {**options, "precision": str(options.get("precision") or "float32")}
    return kept_settings(run_settings(model, spec, "npz", timestamps, model.device, options))


def kept_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a file keeps of a manifest."""
    about = {name: manifest["about"][name] for name in ("spec", "options", "model") if name in manifest["about"]}
    return {**{name: manifest[name] for name in IDENTITY}, "about": about}


def read_artefact(path: PathLike) -> Artefact:
    """Read a classifier's file and check all of it.

    Raises:
        InputError: there is no such file.
        CheckpointError: it is not a classifier of this version, is damaged, or contradicts itself.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; 'hear-byols classify train' writes one")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        text = metadata.get(_KEY, "{}")
        if metadata.get("digest", "") not in ("", _digest(text, arrays)):
            raise ValueError("its content has changed since it was written")
        header = json.loads(text)
        return _checked(header, arrays)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a classifier of this version, or damaged ({str(error)[:200]}); train it again"
        ) from error


def _digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    return content_digest({"header": header, **{name: array.tobytes() for name, array in arrays.items()}})


def _checked(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Artefact:
    if header.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {header.get('schema')!r}, this version reads {SCHEMA!r}")
    classes, settings = header["classes"], header["settings"]
    n, size = len(classes), settings["embedding_size"]
    shapes = {"mean": (size,), "scale": (size,), "weights": (size, n), "bias": (n,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float32 or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} must be finite float32 of the shape {shape}")
    if not (arrays["scale"] > 0).all():
        raise ValueError("scale must be positive")
    if header["kind"] not in ("clips", "events") or not all(isinstance(label, str) for label in classes):
        raise ValueError(f"kind or classes are not known: {header['kind']!r}, {str(classes)[:100]}")
    missing = [name for name in (*IDENTITY, "about") if name not in settings]
    if missing:
        raise ValueError(f"its settings lack {', '.join(missing)}")
    if header["kind"] == "events":
        Cutting.from_dict(header["training"]["cutting"])
    head = Head(**{name: arrays[name] for name in shapes})
    encoder = arrays["encoder"].tobytes() if "encoder" in arrays else b""
    return Artefact(header["kind"], tuple(classes), head, settings, dict(header["training"]), encoder)
