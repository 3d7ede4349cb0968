"""From audio files to embedding files.

Files are decoded ahead in threads and embedded in groups; clips of equal length in a group share a call of the model.
While a group is embedded, the one before it is written and the next ones are decoded, so that a folder takes as long as
the slowest of the three. Groups depend on the order and lengths of the files alone, so a run that was killed and
started again forms the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hear_byols import __version__
from hear_byols._util.device import find_device
from hear_byols._util.files import file_digest
from hear_byols._util.progress import progress as progress_of
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.files import AudioFile, PathLike, collect
from hear_byols.extraction.output import OutputFolder, open_output
from hear_byols.extraction.reader import Clip, read_ahead
from hear_byols.extraction.writers import Embedded, find_format
from hear_byols.hear import load_model, split_spec
from hear_byols.interface import AudioModel
from hear_byols.weights.locate import locate

_SHAPING = ("normalization", "layers", "precision", "win_length")  # options of load_model that change the vectors


@dataclass(frozen=True)
class GroupLimits:
    """How many clips are embedded, written and recorded together; a kill can cost two such groups.

    Args:
        clips: most clips in a group.
        seconds: most audio in a group; a longer clip is a group of its own.
    """

    clips: int
    seconds: float


GROUPS = GroupLimits(clips=64, seconds=600)
TABLE_GROUPS = GroupLimits(clips=512, seconds=1800)  # one group is one part of a table
TABLE_GROUPS_TIMESTAMPS = GroupLimits(clips=512, seconds=600)  # 98 MB of vectors at 50 ms


@dataclass(frozen=True)
class Failure:
    """A file that could not be embedded, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What :func:`embed_to_folder` did.

    Args:
        n_embedded: files embedded now.
        n_present: files that an earlier run had recorded.
        failures: files that could not be embedded.
    """

    n_embedded: int
    n_present: int
    failures: tuple[Failure, ...]


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
    limits = (TABLE_GROUPS_TIMESTAMPS if timestamps else TABLE_GROUPS) if form.is_table else GROUPS
    with open_output(Path(output), form, settings, overwrite) as folder:
        pending = folder.pending(files)
        with progress_of(len(files), "file", done=len(files) - len(pending), shown=progress) as advance:
            failures = _embed_pending(loaded, pending, folder, timestamps, limits, advance)
        folder.write_manifest({"complete": True, "n_failed": len(failures), "failed": [vars(f) for f in failures]})
    return Report(len(pending) - len(failures), len(files) - len(pending), tuple(failures))


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
    if source.path is None:
        return {"name": source.record.name if source.record else None, "file": None, "sha256": None}
    name = source.record.name if source.record else source.path.name
    return {"name": name, "file": source.path.name, "sha256": file_digest(source.path)}


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
    recording: Future[None] | None = None

    def readable(clips: Iterable[Clip]) -> Iterator[Clip]:
        for clip in clips:
            if not clip.error:
                yield clip
                continue
            failures.append(Failure(clip.file.name, clip.error))
            advance(1)

    with closing(read_ahead(files, model.sample_rate)) as clips, ThreadPoolExecutor(1, "hear_byols-writer") as writer:
        for group in _groups(readable(clips), limits, model.sample_rate):
            results = list(zip(group, _embed_group(model, group, timestamps, advance), strict=True))
            failures += [Failure(clip.file.name, str(result)) for clip, result in results if _is_error(result)]
            done = [(clip, result) for clip, result in results if not _is_error(result)]
            if recording:
                recording.result()  # raises what went wrong there; and no more than one group waits
            recording = writer.submit(folder.record, *zip(*done, strict=True)) if done else None
        if recording:
            recording.result()
    return failures


def _is_error(result: Embedded | InputError) -> bool:
    return isinstance(result, InputError)


def _groups(clips: Iterable[Clip], limits: GroupLimits, sample_rate: int) -> Iterator[list[Clip]]:
    """Cut a sequence of clips into groups within the limits."""
    group: list[Clip] = []
    n_samples = 0
    for clip in clips:
        if group and (len(group) >= limits.clips or n_samples + len(clip.samples) > limits.seconds * sample_rate):
            yield group
            group, n_samples = [], 0
        group.append(clip)
        n_samples += len(clip.samples)
    if group:
        yield group


def _embed_group(
    model: AudioModel, clips: Sequence[Clip], timestamps: bool, advance: Callable[[int], Any] = lambda n: None
) -> list[Embedded | InputError]:
    """Embed clips, those of equal length in one call; the result has their order."""
    by_length: dict[int, list[int]] = {}
    for i, clip in enumerate(clips):
        by_length.setdefault(len(clip.samples), []).append(i)
    if not model.batch_invariant:  # clips of one call would influence each other
        by_length = {i: [i] for i in range(len(clips))}
    results: dict[int, Embedded | InputError] = {}
    for places in by_length.values():
        results.update(zip(places, _embed_equal(model, [clips[i] for i in places], timestamps), strict=True))
        advance(len(places))
    return [results[i] for i in range(len(clips))]


def _embed_equal(model: AudioModel, clips: Sequence[Clip], timestamps: bool) -> list[Embedded | InputError]:
    """Embed clips of equal length in one call; if the model refuses it, each alone, to learn which one it refuses."""
    try:
        vectors, times = _call(model, clips, timestamps)
    except InputError as error:
        if len(clips) == 1:
            return [InputError(f"{clips[0].file.path}: {error}")]
        return [result for clip in clips for result in _embed_equal(model, [clip], timestamps)]
    rows = zip(clips, vectors, times, strict=True)
    return [Embedded(clip.file.name, vector, centres) for clip, vector, centres in rows]


def _on_device(clips: Sequence[Clip], device: torch.device) -> torch.Tensor:
    """Samples of clips of equal length [shape=(n_clips, n_samples)], to a GPU from page-locked memory, unawaited."""
    rows = [torch.from_numpy(clip.samples) for clip in clips]
    if device.type == "cuda":
        audio = torch.stack(rows, out=torch.empty(len(rows), len(rows[0]), pin_memory=True))
        return audio.to(device, non_blocking=True)
    return (rows[0][None] if len(rows) == 1 else torch.stack(rows)).to(device)  # hours of audio are not copied


def _call(model: AudioModel, clips: Sequence[Clip], timestamps: bool) -> tuple[np.ndarray, Sequence[np.ndarray | None]]:
    """Embed clips of equal length: vectors, and a row of timestamps or None for each clip."""
    try:
        audio = _on_device(clips, model.device)
        if not timestamps:
            return model.scene_embeddings(audio).cpu().numpy(), [None] * len(clips)
        vectors, times = model.timestamp_embeddings(audio)
        return vectors.cpu().numpy(), times.cpu().numpy()
    except torch.cuda.OutOfMemoryError as error:
        seconds = len(clips[0].samples) / model.sample_rate
        raise OptionError(
            f"the device has no memory left for {len(clips)} clips of {seconds:.1f} s; "
            "use a smaller batch_size (--batch-size) or device='cpu' (--device cpu)"
        ) from error
