"""The clips, or stretches of them, that resemble a clip most, over an output folder of ``embed``."""

import heapq
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hear_byols.answers.compact import units
from hear_byols.audio import load_audio
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.folder import iterate_embeddings, load_its_model, read_manifest
from hear_byols.extraction.formats import Embedded
from hear_byols.interface import AudioModel


@dataclass(frozen=True, order=True)
class Hit:
    """A clip or window that was found."""

    similarity: float  # cosine of its vector and the query's
    name: str  # of the file
    time_ms: float | None  # centre of the window; None for a whole file


def search(
    folder: PathLike,
    query: PathLike,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    n: int = 10,
    model: PathLike | None = None,
    device: str = "auto",
) -> list[Hit]:
    """Find what resembles a clip most, the most similar first.

    The folder is read once, a file of it at a time, and nothing is approximated. In a folder of windows a file gives
    its best windows, a window's length apart.

    Args:
        folder: output folder of ``embed``.
        query: an audio file; or the name of a file in the folder, which then is not found itself.
        start_s: first second of the query's stretch; by default its beginning.
        end_s: last second; by default its end.
        n: most hits.
        model: where the model's weights are, if not where the manifest says.
        device: where to embed the query.

    Raises:
        InputError: the query is neither, or holds nothing between start and end.
        OptionError: ``n``, start or end is out of range.
    """
    start, end = start_s or 0.0, np.inf if end_s is None else end_s
    if n < 1 or not 0 <= start < end:
        raise OptionError(f"n must be positive and 0 <= start < end, got n={n}, start={start_s}, end={end_s}")
    settings = read_manifest(folder)
    own = None if os.path.isfile(query) else os.fspath(query)
    if own is None:
        item = _embed(settings, query, start, end, load_its_model(settings, model, device))
    else:
        item = next((item for item in iterate_embeddings(folder) if item.source == own), None)
    if item is None:
        raise InputError(f"{own!r} is neither an audio file nor the name of a file in {folder}")
    if own is not None and item.timestamps_ms is None and (start, end) != (0, np.inf):
        raise OptionError("the folder holds whole files; give the audio file itself to search for a stretch of it")
    vector = item.vectors if item.timestamps_ms is None else _mean_inside(item, start, end)
    unit = vector / np.linalg.norm(vector)
    best: list[Hit] = []
    for item in iterate_embeddings(folder):
        if item.source != own:
            best = heapq.nlargest(n, [*best, *_hits(item, units(item.vectors) @ unit, n, settings["frame_ms"])])
    return best


def _hits(item: Embedded, similarities: np.ndarray, n: int, apart_ms: float | None) -> Iterable[Hit]:
    """The best hits of a file, no two windows nearer than ``apart_ms``."""
    if item.timestamps_ms is None:
        yield Hit(float(similarities[0]), item.source, None)
        return
    free = np.ones(len(similarities), bool)
    for place in np.argsort(-similarities, kind="stable"):
        if n and free[place]:
            time = item.timestamps_ms[place]
            free &= np.abs(item.timestamps_ms - time) >= (apart_ms or 0)
            n -= 1
            yield Hit(float(similarities[place]), item.source, float(time))


def _embed(settings: Any, path: PathLike, start: float, end: float, model: AudioModel) -> Embedded:
    samples = load_audio(path, model.sample_rate)
    if not settings["timestamps"]:
        seconds = len(samples) / model.sample_rate
        first, stop = round(start * model.sample_rate), round(min(end, seconds) * model.sample_rate)
        if first >= len(samples):
            raise InputError(f"{path} has {seconds:.2f} s; the stretch starts at {start:g} s")
        return Embedded(str(path), model.scene_embeddings(samples[None, first:stop])[0].cpu().numpy())
    vectors, times = (value[0].cpu().numpy() for value in model.timestamp_embeddings(samples[None]))
    return Embedded(str(path), vectors, times)


def _mean_inside(item: Embedded, start: float, end: float) -> np.ndarray:
    """Mean of the windows whose centres lie in a stretch."""
    times = np.asarray(item.timestamps_ms)
    inside = (times >= 1000 * start) & (times <= 1000 * end)
    if not inside.any():
        where = f"between {start:g} s and {end:g} s; its last is at {times[-1]:g} ms"
        raise InputError(f"{item.source} has no window {where}")
    return item.vectors[inside].mean(0)
