"""From audio files to embedding files.

Files are decoded ahead in threads and embedded in groups; clips of equal length in a group share calls of the model,
several of which run at a time on a CPU. While a group is embedded, the one before it is written and the next ones are
decoded, so that a folder takes as long as the slowest of the three.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any

import torch

from hear_byols import __version__
from hear_byols._util.device import find_device
from hear_byols._util.files import file_digest
from hear_byols._util.progress import progress as progress_of
from hear_byols.extraction.files import AudioFile, PathLike, collect
from hear_byols.extraction.formats import find_format
from hear_byols.extraction.groups import Failure, GroupLimits, embedded_groups, group_limits
from hear_byols.extraction.output import OutputFolder, open_output
from hear_byols.hear import load_model, split_spec
from hear_byols.interface import AudioModel
from hear_byols.weights.locate import locate

ProgressBar = AbstractContextManager[Callable[[int], Any]]
_SHAPING = ("normalization", "layers", "precision", "win_length")  # options of load_model that change the vectors


@dataclass(frozen=True)
class Report:
    """What :func:`embed_to_folder` did.

    Args:
        n_embedded: files embedded now.
        n_present: files that an earlier run had recorded.
        failures: files that could not be embedded.
        warnings: files that were, with what is worth knowing of them.
    """

    n_embedded: int
    n_present: int
    failures: tuple[Failure, ...]
    warnings: tuple[Failure, ...] = ()


def embed_to_folder(
    paths: Iterable[PathLike],
    output: PathLike,
    *,
    model: PathLike = "",
    format: str = "npz",
    timestamps: bool = False,
    device: str = "auto",
    relative_to: PathLike | None = None,
    overwrite: bool = False,
    progress: bool = False,
    **options: Any,
) -> Report:
    """Embed audio files and folders into files; what ``hear-byols embed`` does (``docs/embedding.md``).

    Killed at any moment and called again with the same arguments, it continues where it was.

    Args:
        paths: files, folders, or ``"-"`` for a list on standard input.
        output: folder for ``manifest.json``, ``index.jsonl`` and ``embeddings/``.
        model: what ``load_model`` takes.
        format: ``"npz"``, ``"npy"``, ``"parquet"`` or ``"csv"``.
        timestamps: embed windows instead of whole files.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        relative_to: folder that outputs are named relative to; by default the folder that a file was found in.
        overwrite: remove the embeddings of an earlier run in ``output`` first.
        progress: show a bar on standard error, or a line every 30 seconds where that is no terminal.
        **options: of ``load_model``.

    Raises:
        OptionError: an option is out of range, there are no files, or two have one name.
        OutputError: the folder cannot be written, or holds embeddings made with other settings.
    """
    form = find_format(format)
    files = collect(paths, relative_to)
    target = find_device(device)
    loaded = load_model(model, **options)
    settings = run_settings(loaded, model, format, timestamps, target, options)
    loaded = loaded.to(target)
    limits = group_limits(form.is_table, timestamps)

    def embed(pending: Sequence[AudioFile], folder: OutputFolder, bar: ProgressBar) -> list[Failure]:
        with bar as advance:
            return _embed_pending(loaded, pending, folder, timestamps, limits, advance)

    with open_output(output, form, settings, overwrite) as folder:
        return fill(folder, files, embed, progress)


def fill(
    folder: OutputFolder,
    files: Sequence[AudioFile],
    embed: Callable[[Sequence[AudioFile], OutputFolder, ProgressBar], list[Failure]],
    progress: bool,
) -> Report:
    """Have those files embedded that are not in a folder yet, and say in its manifest what was done.

    ``embed`` embeds and records files, opens the progress bar, and gives those that could not be embedded.

    Raises:
        OutputError: the folder cannot be written, or something that was recorded is missing in the end.
    """
    pending = folder.pending(files)
    n_present = len({file.name for file in files} - {file.name for file in pending})
    bar = progress_of(n_present + len(pending), "file", done=n_present, shown=progress)
    failures = embed(pending, folder, bar)
    folder.complete(failures)
    return Report(len(pending) - len(failures), n_present, tuple(failures), tuple(folder.warnings()))


def parameters_digest(model: AudioModel) -> str:
    """SHA-256 over the names, types, shapes and values of a model's state, wherever they were loaded from."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def run_settings(
    model: AudioModel,
    spec: PathLike | None,
    format: str,
    timestamps: bool,
    device: torch.device | str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """What the vectors depend on; under ``about``, what is worth knowing and may change between runs.

    A model that was not loaded from a ``spec`` (None) has nothing about itself.
    """
    return {
        "hear_byols": __version__,
        "parameters_sha256": parameters_digest(model),
        "normalization": model.normalization,
        "precision": options.get("precision", "float32"),
        "sample_rate": model.sample_rate,
        "embedding_size": model.timestamp_embedding_size if timestamps else model.scene_embedding_size,
        "format": format,
        "timestamps": timestamps,
        "frame_ms": model.framing.frame_ms if timestamps else None,
        "hop_ms": model.framing.hop_ms if timestamps else None,
        "about": {
            "spec": None if spec is None else os.fspath(spec),
            "options": {name: value for name, value in options.items() if value is not None and name in _SHAPING},
            "model": [] if spec is None else [_weights(part) for part in split_spec(spec)],
            "provenance": model.provenance,
            "torch": torch.__version__,
            "device": str(device),
            "batch_size": options.get("batch_size"),
        },
    }


def _weights(spec: PathLike) -> dict[str, Any]:
    source = locate(spec)
    path = source.path
    name = source.record.name if source.record else path and path.name
    return {"name": name, "file": path and path.name, "sha256": path and file_digest(path)}


def _embed_pending(
    model: AudioModel,
    files: Sequence[AudioFile],
    folder: OutputFolder,
    timestamps: bool,
    limits: GroupLimits,
    advance: Callable[[int], Any],
) -> list[Failure]:
    """Embed group by group, and write and record each while the next is embedded."""
    failures: list[Failure] = []
    recording: Future[list[Failure]] | None = None
    groups = embedded_groups(model, files, timestamps, limits, advance)
    with closing(groups), ThreadPoolExecutor(1, "hear_byols-writer") as writer:
        for group in groups:
            failures += group.failures
            if recording:  # no more than one group waits
                failures += recording.result()
            recording = writer.submit(folder.record, group.clips, group.items) if group.clips else None
    return failures + (recording.result() if recording else [])
