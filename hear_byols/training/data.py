"""Audio of the pre-training pool: files of any format and rate, decoded once into one memory-mapped int16 array."""

import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from filelock import FileLock

from hear_byols._util.files import CONTINUES, output_path, remove_parts, writing
from hear_byols.audio import decode_bytes
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.files import SEARCHED, read_list, search
from hear_byols.training.config import MAX_CROP_SAMPLES, SAMPLE_RATE
from hear_byols.training.pool import AudioPool

logger = logging.getLogger(__name__)

LIST_SUFFIXES = frozenset({".txt", ".lst"})
MIN_CLIP_SECONDS = 0.1  # shorter clips would be almost all padding
_FORMAT = 3
_READ_AHEAD = 64  # files in memory while they are decoded


def load_pool(data: Iterable[str | os.PathLike[str]], cache: str | os.PathLike[str], workers: int = 1) -> AudioPool:
    """Decode files, or take them from the cache if it was made from the same ones; samples are memory-mapped.

    Files that cannot be decoded, are too short or hold NaN are skipped, logged and listed in ``CACHE/skipped.txt``.

    Args:
        data: audio files, tar shards of audio files, text files (.txt, .lst) with one such path a line, or folders that
            hold audio files or shards (searched recursively). Any format, rate and number of channels.
        cache: folder for ``audio.npy`` (2 bytes a sample) and ``index.json``; made if missing. Processes may share it.
        workers: threads that decode.

    Raises:
        InputError: nothing found, or no file could be used.
    """
    sources = find_sources(data)
    cache = Path(cache)
    with writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
    fingerprint = json.dumps([_FORMAT, SAMPLE_RATE, [[name, list(map(_identity, paths))] for name, paths in sources]])
    index_path = cache / "index.json"
    with FileLock(cache / "lock"):
        if _is_current(index_path, fingerprint):
            _check_samples(AudioPool.open(cache), cache)
        else:
            remove_parts(cache)
            index_path.unlink(missing_ok=True)
            index: dict = {"fingerprint": fingerprint, "sample_rate": SAMPLE_RATE}
            index |= {"source_names": [name for name, _ in sources], **_decode(sources, cache / "audio.npy", workers)}
            with output_path(cache / "skipped.txt", CONTINUES) as part:
                part.write_text("".join(f"{line}\n" for line in index["skipped"]), encoding="utf-8")
            with output_path(index_path, CONTINUES) as part:  # last, so that an index always describes a whole array
                part.write_text(json.dumps(index), encoding="utf-8")
    pool = AudioPool.open(cache)
    left_out = f", {len(pool.skipped)} files skipped ({cache / 'skipped.txt'} says why)" if pool.skipped else ""
    logger.info("pool: %d clips, %.2f h%s", len(pool.sources), sum(pool.source_hours().values()), left_out)
    return pool


def find_sources(data: Iterable[str | os.PathLike[str]]) -> list[tuple[str, list[Path]]]:
    """List what is to be read of the data of :func:`load_pool`, each shard, folder, file or list by name.

    The files behind a name are sorted, so that the order does not depend on the file system.

    Raises:
        InputError: a path does not exist, or holds no tar shard and no audio file.
    """
    sources: list[tuple[str, list[Path]]] = []
    for given in data:
        if not os.fspath(given):
            raise InputError('a path of the data is empty; name the current folder as "." if it is meant')
        entry = Path(given)
        found = _files_of(entry)
        shards = [p for p in found if p.suffix.lower() == ".tar"]
        files = [p for p in found if p.suffix.lower() in SEARCHED]
        if not shards and not files:
            raise InputError(f"{entry} holds no .tar shard and no audio ({', '.join(sorted(SEARCHED))})")
        sources += [(shard.stem, [shard]) for shard in shards]
        if files:
            sources.append((entry.resolve().stem, files))
    if not sources:
        raise InputError("no data: name audio files, tar shards, lists of them, or folders")
    return sources


def _files_of(entry: Path) -> list[Path]:
    if not entry.exists():
        raise InputError(f"no such file or folder: {entry}")
    if entry.is_dir():
        found = search(entry, SEARCHED | {".tar"})
        for file in found:
            if file.error:
                raise InputError(file.error)
        return [file.path for file in found]
    if entry.suffix.lower() not in LIST_SUFFIXES:
        return [entry]
    try:
        lines = read_list(entry.read_bytes(), str(entry))
    except OptionError as error:
        raise InputError(str(error)) from error
    paths = [entry.parent / line.strip() for line in lines]
    missing = [p for p in paths if not p.is_file()]
    if missing:
        raise InputError(f"{entry} names {len(missing)} files that do not exist, the first is {missing[0]}")
    return paths


def _identity(path: Path) -> list:
    """What tells a file from another one, and from itself before it was edited."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _is_current(index_path: Path, fingerprint: str) -> bool:
    try:
        return json.loads(index_path.read_text(encoding="utf-8"))["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_samples(pool: AudioPool, cache: Path) -> None:
    """Compare the samples in a cache with what was written."""
    digest = hashlib.sha256(str(SAMPLE_RATE).encode())
    for source, begin, end in zip(pool.sources, pool.offsets[:-1], pool.offsets[1:], strict=True):
        _add_clip(digest, int(source), pool.audio[begin:end])
    if digest.hexdigest() != pool.digest:
        raise InputError(f"{cache / 'audio.npy'} has changed since it was written; remove {cache}, it is made again")


def _add_clip(digest: "hashlib._Hash", source: int, clip: np.ndarray) -> None:
    digest.update(f"{source} {len(clip)} ".encode())
    digest.update(clip.data)


def _contents(paths: list[Path]) -> Iterator[tuple[str, bytes | InputError]]:
    """Names of the audio files in shards and plain files, and their bytes, or why there are none."""
    for path in paths:
        if path.suffix.lower() != ".tar":
            try:
                content = path.read_bytes()
            except (OSError, MemoryError) as error:
                content = InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'no memory'})")
            yield path.name, content
            continue
        try:
            with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as shard:
                yield from _members(path, file, shard)
        except (tarfile.TarError, OSError, MemoryError) as error:
            raise InputError(f"{path} is not a readable tar file ({str(error) or type(error).__name__})") from error


def _members(path: Path, file: BinaryIO, shard: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """As :func:`_contents`, of one shard, which must be whole."""
    size = path.stat().st_size
    for member in shard:
        if member.isfile() and Path(member.name).suffix.lower() in SEARCHED:
            if member.issparse() or member.size > size:
                raise InputError(f"{path} is damaged: {member.name} claims {member.size} bytes, the file has {size}")
            yield f"{path.name}:{member.name}", cast(BinaryIO, shard.extractfile(member)).read()
    if shard.offset >= size:
        logger.warning("%s has no end mark: it may have been cut off", path)
    file.seek(shard.offset)
    while block := file.read(1 << 20):
        if block.strip(b"\0"):
            raise InputError(f"{path} holds more behind its end, at byte {shard.offset} of {size}: were files joined?")


def _clip(content: bytes | InputError, name: str, loud: dict[str, float]) -> np.ndarray | InputError:
    """One file as mono int16, or why it cannot be used; the peak goes into ``loud`` if it is beyond full scale."""
    if isinstance(content, InputError):
        return content
    try:
        audio = decode_bytes(content, name, SAMPLE_RATE)
    except InputError as error:
        return error
    if len(audio) < MIN_CLIP_SECONDS * SAMPLE_RATE:
        return InputError(f"{name}: {len(audio) / SAMPLE_RATE:.3f} s are too short, at least {MIN_CLIP_SECONDS} needed")
    peak = float(np.abs(audio).max())
    if peak > 1:
        loud[name] = peak
        audio = audio / peak
    return np.round(audio * 32767).astype(np.int16)


def _clips(paths: list[Path], threads: ThreadPoolExecutor, loud: dict[str, float]) -> Iterator[np.ndarray | InputError]:
    """Decode in parallel, in order, with a bounded number of files in memory."""
    contents = _contents(paths)
    while block := list(islice(contents, _READ_AHEAD)):
        yield from threads.map(lambda item: _clip(item[1], item[0], loud), block)


def _decode(sources: list[tuple[str, list[Path]]], audio_path: Path, workers: int) -> dict:
    """Decode everything into one .npy file; returns the index of its clips."""
    index: dict[str, list] = {"lengths": [], "sources": [], "skipped": []}
    loud: dict[str, float] = {}
    digest = hashlib.sha256(str(SAMPLE_RATE).encode())
    threads = ThreadPoolExecutor(max(workers, 1))
    with output_path(audio_path, CONTINUES) as part, open(part, "wb") as out, threads:
        _write_header(out, 0)
        for number, (name, paths) in enumerate(sources):
            logger.info("decoding %s", name)
            for clip in _clips(paths, threads, loud):
                if isinstance(clip, InputError):
                    index["skipped"].append(str(clip))
                    logger.warning("skipped: %s", clip)
                    continue
                out.write(clip.data)
                _add_clip(digest, number, clip)
                index["lengths"].append(len(clip))
                index["sources"].append(number)
        if loud:
            name, peak = max(loud.items(), key=lambda item: item[1])
            message = "%d clips are made quieter, since they are louder than full scale: %s peaks at %.4g of full scale"
            logger.warning(message, len(loud), name, peak)
        if not index["lengths"]:
            skipped = index["skipped"]
            first = f"; first: {skipped[0]}" if skipped else ", such as a tar without audio"
            raise InputError(f"none of the {len(skipped)} audio files found could be used{first}")
        out.write(np.zeros(MAX_CROP_SAMPLES, dtype=np.int16).data)
        out.flush()
        _write_header(out, sum(index["lengths"]) + MAX_CROP_SAMPLES)
    return {**index, "digest": digest.hexdigest()}


def _write_header(out: io.BufferedWriter, n_samples: int) -> None:
    """Write the .npy header at the file's beginning; its size does not depend on the number of samples."""
    out.seek(0)
    header = {"descr": "<i2", "fortran_order": False, "shape": (n_samples,)}
    np.lib.format.write_array_header_1_0(out, header)
