"""From audio files to embeddings in arrays."""

import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from hear_byols._util.progress import progress as progress_of
from hear_byols.errors import AudioWarning, InputError, OptionError
from hear_byols.extraction.files import AudioFile, PathLike
from hear_byols.extraction.formats import Embedded
from hear_byols.extraction.groups import Failure, embedded_groups, group_limits
from hear_byols.hear import load_model
from hear_byols.inputs import ClipLike
from hear_byols.interface import AudioModel

_log = logging.getLogger(__name__)


def embed_files(
    paths: PathLike | Sequence[PathLike],
    model: AudioModel | PathLike | None = None,
    *,
    timestamps: bool = False,
    on_error: str = "raise",
    progress: bool = False,
) -> np.ndarray | tuple[Any, Any]:
    """Embed audio files of any format, rate and number of channels, into arrays.

    Args:
        paths: a file, or a list of files.
        model: from ``hear_byols.load_model``, or what it takes; by default the default model. Load it yourself to
            use it more than once.
        timestamps: embed windows instead of whole files.
        on_error: ``"raise"``, or ``"skip"``: a file that cannot be embedded is named in a warning of the log, and its
            place in the result is filled with NaN (with ``timestamps``: holds no windows).
        progress: show how far it is, on standard error.

    Returns:
        Scene embeddings, float32 [shape=(n_files, scene_embedding_size)], for a single path without the first axis.
        With ``timestamps`` a pair instead, for a single path: embeddings, float32
        [shape=(n_windows, timestamp_embedding_size)], and window centres in milliseconds, float32
        [shape=(n_windows,)]; for a list: two lists of such.

    Raises:
        InputError: a file cannot be read or embedded; the message names it.
        OptionError: ``on_error`` is neither.
    """
    if on_error not in ("raise", "skip"):
        raise OptionError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
    single = isinstance(paths, (str, os.PathLike))
    files = [AudioFile(os.fspath(path), Path(path)) for path in ([paths] if single else paths)]
    if not files:
        raise InputError("the list holds no files; at least one is needed")
    if not all(file.name for file in files):
        raise InputError("a path is empty")
    model = _loaded(model)
    vectors, times = [], []
    for result in embed_each(files, model, timestamps=timestamps, progress=progress, strict=on_error == "raise"):
        if isinstance(result, Embedded):
            vectors.append(result.vectors)
            times.append(result.timestamps_ms)
            continue
        _log.warning("not embedded: %s", result.reason)
        empty = (0, model.timestamp_embedding_size) if timestamps else model.scene_embedding_size
        vectors.append(np.full(empty, np.nan, np.float32))
        times.append(np.empty(0, np.float32))
    if not timestamps:
        return vectors[0] if single else np.stack(vectors)
    return (vectors[0], times[0]) if single else (vectors, times)


def _loaded(model: AudioModel | PathLike | None) -> AudioModel:
    return load_model(model or "") if model is None or isinstance(model, (str, os.PathLike)) else model


def embed_each(
    files: Sequence[AudioFile],
    model: AudioModel,
    *,
    timestamps: bool = False,
    progress: bool = False,
    strict: bool = False,
) -> list[Embedded | Failure]:
    """Embed files, one name a file, in their order, as :func:`embed_files`: vectors, or why there are none.

    Raises:
        InputError: ``strict`` and a file cannot be embedded.

    Warns:
        AudioWarning: what is worth knowing of a file, such as channels that cancel each other.
    """
    results: dict[str, Embedded | Failure] = {}
    limits = group_limits(is_table=False, timestamps=timestamps)
    bar = progress_of(len(files), "file", shown=progress)
    with bar as advance, closing(embedded_groups(model, files, timestamps, limits, advance)) as groups:
        for group in groups:
            if strict and group.failures:
                raise InputError(group.failures[0].reason)
            results |= {item.source: item for item in group.items}
            results |= {failure.name: failure for failure in group.failures}
            for clip in group.clips:
                for note in clip.notes:
                    warnings.warn(f"{clip.file.path}: {note}", AudioWarning, stacklevel=3)
    return [results[file.name] for file in files]


def encode(clips: Sequence[PathLike | ClipLike], model: AudioModel | PathLike | None = None) -> np.ndarray:
    """Embed whole clips, files and samples alike.

    Args:
        clips: paths of audio files, or samples in [-1, 1] at the model's rate [shape=(n_samples,)], of any lengths.
        model: as in :func:`embed_files`.

    Returns:
        float32 [shape=(n_clips, scene_embedding_size)].

    Raises:
        InputError: a clip cannot be read or embedded; names it.
    """
    if isinstance(clips, (str, os.PathLike)) or len(clips) == 0:
        raise InputError(f"clips must be a list of paths or of samples, and not empty; got {clips!r}")
    model = _loaded(model)
    vectors = np.empty((len(clips), model.scene_embedding_size), np.float32)
    paths = {place: clip for place, clip in enumerate(clips) if isinstance(clip, (str, os.PathLike))}
    samples = {place: clip for place, clip in enumerate(clips) if not isinstance(clip, (str, os.PathLike))}
    if paths:
        vectors[list(paths)] = embed_files(list(paths.values()), model)
    if samples:
        vectors[list(samples)] = model.scene_embeddings(list(samples.values())).cpu().numpy()
    return vectors
