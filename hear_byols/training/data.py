"""Audio of the pre-training pool: tar shards or folders, decoded once into one memory-mapped int16 array.

Crops are drawn uniformly over *time*, not over files, so an hour-long recording is not outvoted by a thousand
one-second clips (paper, section 2: random 96-frame segments).
"""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hear_byols.errors import InputError

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"})
MIN_CLIP_SECONDS = 0.1  # shorter clips would be almost all padding
_INDEX_VERSION = 1


@dataclass(frozen=True)
class AudioPool:
    """Clips laid end to end.

    Args:
        audio: int16 samples of all clips [shape=(n_samples,)], usually memory-mapped.
        offsets: int64 first sample of each clip, and the total behind them [shape=(n_clips + 1,)].
        sources: for each clip, the index of its shard or folder in ``source_names`` [shape=(n_clips,)].
        source_names: names of the shards or folders, without their path.
        sample_rate: in Hz.
        n_skipped: files that were unreadable, of another rate, or too short.
    """

    audio: np.ndarray
    offsets: np.ndarray
    sources: np.ndarray
    source_names: tuple[str, ...]
    sample_rate: int
    n_skipped: int = 0

    @property
    def n_clips(self) -> int:
        """Number of clips."""
        return len(self.offsets) - 1

    @property
    def hours(self) -> float:
        """Duration of all clips in hours."""
        return float(self.offsets[-1]) / self.sample_rate / 3600

    def source_hours(self) -> dict[str, float]:
        """Hours of audio of each source."""
        samples = np.bincount(self.sources, weights=np.diff(self.offsets), minlength=len(self.source_names))
        return {name: float(n) / self.sample_rate / 3600 for name, n in zip(self.source_names, samples, strict=True)}

    def crop(self, clip: int, start: int, n_samples: int) -> np.ndarray:
        """Cut samples out of one clip; a clip that ends early is padded with zeros behind.

        Args:
            clip: index of the clip.
            start: first sample within the clip.
            n_samples: length of the crop.

        Returns:
            int16 [shape=(n_samples,)], a copy.
        """
        first = int(self.offsets[clip]) + start
        piece = self.audio[first : min(first + n_samples, int(self.offsets[clip + 1]))]
        out = np.zeros(n_samples, dtype=np.int16)
        out[: len(piece)] = piece
        return out


def draw_crops(pool: AudioPool, n_crops: int, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw places for crops, uniform over all places at which a crop fits into its clip.

    A clip shorter than the crop has one place, at its beginning, with the weight of its duration.

    Args:
        pool: the clips.
        n_crops: how many, with replacement.
        n_samples: length of a crop in samples.
        rng: source of randomness.

    Returns:
        int64 [shape=(n_crops, 2)]: clip and first sample within it.
    """
    lengths = np.diff(pool.offsets)
    clips = rng.choice(len(lengths), size=n_crops, p=lengths / lengths.sum())
    starts = rng.integers(0, np.maximum(lengths[clips] - n_samples, 0) + 1)
    return np.stack([clips, starts], axis=1).astype(np.int64)


def load_pool(data: list[str | os.PathLike], cache: str | os.PathLike, sample_rate: int = 16000) -> AudioPool:
    """Read shards or folders, from the cache if it was made from the same files.

    Args:
        data: tar shards of audio files, audio files, or folders that hold either (searched recursively).
        cache: folder for ``audio.npy`` (2 bytes a sample) and ``index.json``; made if missing.
        sample_rate: the rate in Hz that every file must have.

    Returns:
        The pool, its samples memory-mapped.

    Raises:
        InputError: nothing found, or no file could be read.
    """
    sources = find_sources(data)
    cache = Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    fingerprint = {
        "version": _INDEX_VERSION,
        "sample_rate": sample_rate,
        "sources": [[name, [[p.name, p.stat().st_size] for p in paths]] for name, paths in sources],
    }
    index_path, audio_path = cache / "index.json", cache / "audio.npy"
    if not _is_current(index_path, fingerprint):
        index_path.unlink(missing_ok=True)
        index = {"fingerprint": fingerprint, **_decode(sources, audio_path, sample_rate)}
        partial = index_path.with_suffix(".tmp")
        partial.write_text(json.dumps(index))
        os.replace(partial, index_path)  # last, so that an index always describes a whole array
    index = json.loads(index_path.read_text())
    pool = AudioPool(
        audio=np.load(audio_path, mmap_mode="r"),
        offsets=np.concatenate([[0], np.cumsum(index["lengths"], dtype=np.int64)]),
        sources=np.array(index["sources"], dtype=np.int64),
        source_names=tuple(name for name, _ in sources),
        sample_rate=sample_rate,
        n_skipped=index["n_skipped"],
    )
    logger.info("%d clips, %.2f h, %d files skipped", pool.n_clips, pool.hours, pool.n_skipped)
    return pool


def find_sources(data: list[str | os.PathLike]) -> list[tuple[str, list[Path]]]:
    """List what is to be read: one entry per tar shard, one per folder of audio files.

    Args:
        data: tar shards, audio files or folders.

    Returns:
        Pairs of a name and the files behind it, sorted, so that the order does not depend on the file system.

    Raises:
        InputError: a path does not exist or holds no tar shard and no audio file.
    """
    sources: list[tuple[str, list[Path]]] = []
    for entry in map(Path, data):
        if not entry.exists():
            raise InputError(f"no such file or folder: {entry}")
        found = sorted(p for p in entry.rglob("*") if p.is_file()) if entry.is_dir() else [entry]
        shards = [p for p in found if p.suffix == ".tar"]
        files = [p for p in found if p.suffix.lower() in AUDIO_SUFFIXES]
        if not shards and not files:
            raise InputError(f"{entry} holds no .tar shard and no audio ({', '.join(sorted(AUDIO_SUFFIXES))})")
        sources += [(shard.stem, [shard]) for shard in shards]
        if files:
            sources.append((entry.stem, files))
    return sources


def read_clip(content: bytes, sample_rate: int) -> np.ndarray:
    """Decode one audio file to mono int16.

    Args:
        content: the file.
        sample_rate: the expected rate in Hz.

    Returns:
        int16 [shape=(n_samples,)]; channels are averaged.

    Raises:
        InputError: not audio, of another rate, too short, or with values that are not finite.
    """
    try:
        audio, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise InputError(f"cannot be decoded: {error}") from error
    if rate != sample_rate:
        raise InputError(f"has a rate of {rate} Hz; pre-training reads {sample_rate} Hz, so resample it first")
    if len(audio) < MIN_CLIP_SECONDS * sample_rate:
        raise InputError(f"has {len(audio)} samples; at least {MIN_CLIP_SECONDS} s are needed")
    if not np.isfinite(audio).all():
        raise InputError("holds values that are not finite")
    return np.round(audio.mean(axis=1).clip(-1, 1) * 32767).astype(np.int16)


def _is_current(index_path: Path, fingerprint: dict) -> bool:
    try:
        return json.loads(index_path.read_text())["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError):
        return False


def _contents(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the audio files in shards and plain files."""
    for path in paths:
        if path.suffix != ".tar":
            yield path.name, path.read_bytes()
            continue
        try:
            with tarfile.open(path) as shard:
                for member in shard:
                    if member.isfile() and Path(member.name).suffix.lower() in AUDIO_SUFFIXES:
                        yield f"{path.name}:{member.name}", shard.extractfile(member).read()
        except tarfile.TarError as error:
            raise InputError(f"{path} is not a readable tar file: {error}") from error


def _decode(sources: list[tuple[str, list[Path]]], audio_path: Path, sample_rate: int) -> dict:
    """Decode everything into one .npy file; returns the index of its clips."""
    lengths: list[int] = []
    source_of_clip: list[int] = []
    n_skipped = 0
    partial = audio_path.with_suffix(".tmp")
    with open(partial, "wb") as out:
        _write_header(out, 0)
        for number, (name, paths) in enumerate(sources):
            logger.info("decoding %s", name)
            for member, content in _contents(paths):
                try:
                    clip = read_clip(content, sample_rate)
                except InputError as error:
                    n_skipped += 1
                    logger.warning("skipped: %s %s", member, error)
                    continue
                clip.tofile(out)
                lengths.append(len(clip))
                source_of_clip.append(number)
        out.flush()
        _write_header(out, sum(lengths))
    if not lengths:
        partial.unlink()
        raise InputError(f"none of the {n_skipped} audio files found could be used; the log says why")
    os.replace(partial, audio_path)
    return {"lengths": lengths, "sources": source_of_clip, "n_skipped": n_skipped}


def _write_header(out: io.BufferedWriter, n_samples: int) -> None:
    """Write the .npy header at the file's beginning; its size does not depend on the number of samples."""
    out.seek(0)
    header = {"descr": "<i2", "fortran_order": False, "shape": (n_samples,)}
    np.lib.format.write_array_header_1_0(out, header)
