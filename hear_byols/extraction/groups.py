"""Decoded clips to embeddings, group by group: what every way to embed files shares.

Groups depend on the order and lengths of the files alone, so a run that was killed and started again forms the same.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hear_byols.errors import InputError
from hear_byols.extraction.files import AudioFile
from hear_byols.extraction.formats import Embedded
from hear_byols.extraction.reader import Clip, read_ahead
from hear_byols.inputs import by_length
from hear_byols.interface import AudioModel

Advance = Callable[[int], Any]
_MAX_WORKERS = 8  # calls of the model at once; memory grows with them


@dataclass(frozen=True)
class GroupLimits:
    """How many clips are embedded, written and recorded together; a kill can cost two such groups."""

    clips: int  # at most
    seconds: float  # most audio in a group; a longer clip is a group of its own


def group_limits(is_table: bool, timestamps: bool) -> GroupLimits:
    """The limits for a format and a kind of embedding."""
    if not is_table:
        return GroupLimits(clips=64, seconds=600)
    # One group is one part of a table; with timestamps it holds 98 MB of vectors at 50 ms.
    return GroupLimits(clips=512, seconds=600 if timestamps else 1800)


@dataclass(frozen=True)
class Failure:
    """A file that could not be embedded, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Group:
    """What became of files that were read and embedded together, in their order."""

    clips: list[Clip]  # that were embedded
    items: list[Embedded]  # their embeddings
    failures: list[Failure]  # of the others


def embedded_groups(
    model: AudioModel,
    files: Iterable[AudioFile],
    timestamps: bool,
    limits: GroupLimits,
    advance: Advance = lambda n: None,
) -> Generator[Group]:
    """Decode files ahead in threads and embed them; nothing that is wrong with a file stops the others.

    ``advance`` is told of so many files that are done with.
    """
    with closing(read_ahead(files, model.sample_rate)) as clips:
        for group in _groups(clips, limits, model.sample_rate, advance):
            embedded = iter(embed_clips(model, [clip for clip in group if not clip.error], timestamps, advance))
            results = [Failure(clip.file.name, clip.error) if clip.error else next(embedded) for clip in group]
            yield Group(
                [clip for clip, result in zip(group, results, strict=True) if isinstance(result, Embedded)],
                [result for result in results if isinstance(result, Embedded)],
                [result for result in results if isinstance(result, Failure)],
            )


def _groups(clips: Iterable[Clip], limits: GroupLimits, sample_rate: int, advance: Advance) -> Iterator[list[Clip]]:
    """Cut a stream of clips by what could be read; what could not goes with those before it."""
    group: list[Clip] = []
    n_clips = n_samples = 0
    for clip in clips:
        n_more = len(clip.samples)
        if clip.error:
            advance(1)
        elif n_clips and (n_clips >= limits.clips or n_samples + n_more > limits.seconds * sample_rate):
            yield group
            group, n_clips, n_samples = [], 0, 0
        group.append(clip)
        n_clips += not clip.error
        n_samples += n_more
    if group:
        yield group


def embed_clips(
    model: AudioModel, clips: Sequence[Clip], timestamps: bool, advance: Advance
) -> list[Embedded | Failure]:
    """Embed clips, those of equal length together; the result has their order.

    On a CPU several calls of the model run at once, with few threads each: short clips are too little work for many.
    """
    n_workers = min(torch.get_num_threads(), _MAX_WORKERS) if model.device.type == "cpu" else 1
    calls = [[i] for i in range(len(clips))]
    if model.batch_invariant:
        calls = [
            places[worker::n_workers]
            for places in by_length([clip.samples for clip in clips])
            for worker in range(min(n_workers, len(places)))
        ]
    calls.sort(key=lambda places: len(places) * len(clips[places[0]].samples), reverse=True)
    results: dict[int, Embedded | Failure] = {}

    def embed(places: list[int]) -> list[Embedded | Failure]:
        return _embed_equal(model, [clips[i] for i in places], timestamps)

    with _mapping(min(n_workers, len(calls))) as at_once:
        for places, found in zip(calls, at_once(embed, calls), strict=True):
            results.update(zip(places, found, strict=True))
            advance(len(places))
    return [results[i] for i in range(len(clips))]


@contextmanager
def _mapping(n_workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """A ``map`` that makes several calls at a time, which share torch's threads."""
    if n_workers < 2:
        yield map
        return
    n_threads = torch.get_num_threads()
    share = n_threads // n_workers
    try:
        with ThreadPoolExecutor(n_workers, "hear_byols-embedder", torch.set_num_threads, (share,)) as workers:
            yield workers.map
    finally:
        torch.set_num_threads(n_threads)  # what a worker sets is also the setting of threads to come


def _embed_equal(model: AudioModel, clips: Sequence[Clip], timestamps: bool) -> list[Embedded | Failure]:
    """Embed clips of equal length in one call; if the model refuses it, each alone, to learn which one it refuses."""
    try:
        audio = _on_device(clips, model.device)
        if timestamps:
            vectors, times = (values.cpu().numpy() for values in model.timestamp_embeddings(audio))
        else:
            vectors, times = model.scene_embeddings(audio).cpu().numpy(), [None] * len(clips)
    except (InputError, MemoryError, RuntimeError) as error:
        reason = str(error) if isinstance(error, InputError) else _lack_of_memory(error, model, clips[0])
        if len(clips) == 1:
            return [Failure(clips[0].file.name, f"{clips[0].file.path}: {reason}")]
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


def _lack_of_memory(error: Exception, model: AudioModel, clip: Clip) -> str:
    """What to say of an error that is a lack of memory, of a GPU or (torch tells that by its text) of the CPU."""
    text = str(error)
    if not (
        isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
        or "not enough memory" in text
        or ("DefaultCPUAllocator" in text and "allocate" in text)
    ):
        raise error
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return (
        f"there is not enough memory to embed {len(clip.samples) / model.sample_rate:.1f} s; use a smaller batch_size "
        "(--batch-size), device='cpu' (--device cpu), or cut the file into shorter ones"
    )
