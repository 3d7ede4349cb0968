"""Reading an output folder of ``embed`` back: vectors, names and times, and the model that made them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hear_byols._util.device import find_device
from hear_byols._util.files import file_digest
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.extract import run_settings
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.formats import Embedded, find_format, rows_of
from hear_byols.extraction.index import SCHEMA
from hear_byols.hear import load_model

# What makes two vectors comparable: the weights, and how audio becomes their input.
IDENTITY = ("parameters_sha256", "normalization", "precision", "sample_rate", "embedding_size", "timestamps")
IDENTITY += ("frame_ms", "hop_ms")


@dataclass(frozen=True)
class EmbeddingFolder:
    """The content of an output folder of ``embed``. Made by :func:`read_embeddings`.

    Args:
        vectors: float32, a row a file, or a row a window of it [shape=(n_rows, size)].
        names: of the file that each row comes from, as ``embed`` names it.
        times_ms: centre of each row's window in its file, in milliseconds [shape=(n_rows,)]; None for whole files.
        paths: where each file lay when it was embedded, by its name.
        settings: what the vectors depend on, as the manifest has it.
        complete: whether the run that filled the folder came to its end.
        failed: files that could not be embedded: ``{"name": ..., "reason": ...}``.
    """

    vectors: np.ndarray
    names: tuple[str, ...]
    times_ms: np.ndarray | None
    paths: Mapping[str, str]
    settings: Mapping[str, Any]
    complete: bool
    failed: tuple[Mapping[str, str], ...]

    def __len__(self) -> int:
        return len(self.names)


def read_embeddings(folder: PathLike, *, model: Any = None, most_windows: int | None = None) -> EmbeddingFolder:
    """Read what ``hear-byols embed`` or :func:`hear_byols.embed_to_folder` wrote, in any of its formats.

    Args:
        folder: the output folder, which holds ``manifest.json``.
        model: from ``hear_byols.load_model``; if given, the vectors must be this model's.
        most_windows: of more windows than these every second, third ... is taken, and no others are held.

    Returns:
        Vectors, names and times, in the order in which they were recorded.

    Raises:
        InputError: the folder is none of ``embed``, is damaged or holds nothing.
        OptionError: the vectors are another model's or were made with other settings; names each difference.
        MissingDependencyError: the folder holds parquet files and pyarrow is not installed.
    """
    manifest = read_manifest(folder)
    if model is not None:
        check_identity(manifest, identity_of(model, bool(manifest["timestamps"])), str(folder))
    every = 1
    if most_windows is not None and manifest["timestamps"]:
        every = max(1, -(-sum(len(item.vectors) for item in iterate_embeddings(folder)) // most_windows))
    items = list(_every(every, iterate_embeddings(folder)))
    if not items:
        raise InputError(f"{folder} holds no embeddings yet; run 'hear-byols embed' with this folder as its output")
    names, times, vectors = rows_of(items)
    return EmbeddingFolder(
        vectors=vectors,
        names=tuple(names),
        times_ms=times,
        paths={source["name"]: source["path"] for source in recorded_sources(folder)},
        settings=manifest,
        complete=bool(manifest.get("complete")),
        failed=tuple(manifest.get("failed", ())),
    )


def _every(step: int, items: Iterable[Embedded]) -> Iterator[Embedded]:
    """Every first, second ... window, counted through all sources."""
    seen = 0
    for item in items:
        if step > 1 and item.timestamps_ms is not None:
            kept = slice(-seen % step, None, step)
            seen += len(item.vectors)
            item = Embedded(item.source, item.vectors[kept].copy(), item.timestamps_ms[kept])
        yield item


def is_embedding_folder(path: PathLike) -> bool:
    """Whether a path is an output folder of ``embed``."""
    return Path(path, "manifest.json").is_file() and Path(path, "embeddings").is_dir()


def read_manifest(folder: PathLike) -> dict[str, Any]:
    """The manifest of an output folder.

    Raises:
        InputError: there is none, or it is not of this version.
    """
    path = Path(folder, "manifest.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} is no folder of embeddings: it has no manifest.json; give the --output of 'hear-byols embed'"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise InputError(f"{path} is not a manifest of this version, which reads {SCHEMA!r}; embed again")
    missing = [name for name in (*IDENTITY, "format") if name not in content]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; embed again")
    return content


def iterate_embeddings(folder: PathLike) -> Iterator[Embedded]:
    """Yield the sources of an output folder in order; one file of the folder is held at a time.

    Raises:
        InputError: a file is missing, damaged, or does not hold what the manifest says.
    """
    home = Path(folder)
    manifest = read_manifest(home)
    form = find_format(manifest["format"])
    for entry in _entries(home):
        path = home / next(name for name in entry["outputs"] if name.endswith(form.suffix))
        names = [source["name"] for source in entry["sources"]]
        try:
            digest = entry.get("sha256", {}).get(path.relative_to(home).as_posix())
            if digest not in (None, file_digest(path)):
                raise ValueError("it has changed since it was written")
            items = form.read(path, names)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(f"{path} cannot be read ({error}); run 'embed' again, which makes it anew") from error
        for item in items:
            wrong = item.vectors.shape[-1] != manifest["embedding_size"] or not np.isfinite(item.vectors).all()
            if wrong or (item.timestamps_ms is None) == bool(manifest["timestamps"]):
                raise InputError(f"{path} does not hold the vectors that the manifest describes; embed again")
            yield item


def recorded_sources(folder: PathLike) -> Iterator[dict[str, Any]]:
    """Yield what the index says of each source: ``name``, ``path``, ``bytes``, ``n_samples`` ..."""
    for entry in _entries(Path(folder)):
        yield from entry["sources"]


def identity_of(model: Any, timestamps: bool) -> dict[str, Any]:
    """What vectors of a loaded model depend on, as manifests say it."""
    parts = getattr(model, "parts", [model])
    precision = next((part.precision for part in parts if hasattr(part, "precision")), "float32")
    settings = run_settings(model, None, "npz", timestamps, model.device, {"precision": precision})
    return {name: settings[name] for name in IDENTITY}


def check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Refuse vectors of another model or setting: compare a manifest, or an identity, with an identity.

    Raises:
        OptionError: they differ; names each difference, and ``what`` holds the vectors.
    """
    names = [name for name in wanted if found.get(name) != wanted[name]]
    if names:
        differences = "; ".join(f"{name} is {_short(found.get(name))}, not {_short(wanted[name])}" for name in names)
        raise OptionError(
            f"{what}: these embeddings cannot be used here, as they were made by another model or with other "
            f"settings: {differences}. Embed again with the model and the settings that are wanted"
        )


def load_its_model(settings: Mapping[str, Any], model: PathLike | None = None, device: str = "auto") -> Any:
    """Load the model that made the vectors of a manifest on a device, by ``model`` where its weights lie elsewhere now.

    Raises:
        OptionError: the weights found are others.
        WeightsNotFoundError: they cannot be found.
    """
    target = find_device(device)
    about = settings["about"]
    names = [part["name"] for part in about["model"]]
    framing = {name: settings[name] for name in ("frame_ms", "hop_ms")} if settings["timestamps"] else {}
    spec = (about.get("spec") or "+".join(names)) if model is None else model
    loaded = load_model(spec, **{**about.get("options", {}), **framing})
    check_identity(identity_of(loaded, bool(settings["timestamps"])), {n: settings[n] for n in IDENTITY}, str(spec))
    return loaded.to(target)


def _entries(home: Path) -> Iterator[dict[str, Any]]:
    """Yield what the index records; a last line that a kill cut off does not count."""
    try:
        with open(home / "index.jsonl", "rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield from json.loads(line)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{home / 'index.jsonl'} cannot be read ({error}); embed again with --overwrite") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:13]}...{text[-3:]}"
