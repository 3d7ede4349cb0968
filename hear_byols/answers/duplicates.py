"""Copies of one recording in a folder: re-encoded, trimmed or made louder; found by vectors, proved by waveforms."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hear_byols._util.progress import progress as progress_of
from hear_byols.answers.alignment import Alignment, align
from hear_byols.answers.compact import compact, nearest
from hear_byols.audio import load_audio
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.folder import read_manifest, recorded_sources
from hear_byols.extraction.groups import Failure

MIN_SIMILARITY = 0.6  # of the vectors of two clips that are compared by their waveforms
MIN_CORRELATION = 0.6
N_CANDIDATES = 6
MAX_SECONDS = 600  # of a recording that are compared
_KEPT = 32  # recordings in memory


@dataclass(frozen=True)
class Copy:
    """A recording of a group, its length, and how it lies over the group's first, the longest."""

    name: str
    seconds: float
    alignment: Alignment


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Args:
        groups: of two and more copies each; the longest recording first.
        n_files: in the folder.
        n_compared: pairs of them whose waveforms were compared.
        failures: files that can no longer be read, and so were not compared.
    """

    groups: tuple[tuple[Copy, ...], ...]
    n_files: int
    n_compared: int
    failures: tuple[Failure, ...]


def find_duplicates(
    folder: PathLike,
    *,
    least_similarity: float = MIN_SIMILARITY,
    least_correlation: float = MIN_CORRELATION,
    progress: bool = False,
) -> Duplicates:
    """Find copies among the files of an output folder of ``embed``, of whole files whose audio is still where it was.

    The six nearest neighbours of every file whose vectors are similar are laid over it at every offset; where the
    waveforms correlate, both are copies of one recording, and so are all that hang together by such pairs.

    Args:
        folder: output folder of ``embed``.
        least_similarity: cosine of the vectors from which two files are compared.
        least_correlation: of the waveforms, from which they are copies.
        progress: show how far it is.

    Raises:
        OptionError: a limit is out of range, or the folder holds windows.
        InputError: the folder cannot be read, or none of its audio is there any more.
    """
    if not (-1 <= least_similarity <= 1 and 0 < least_correlation <= 1):
        raise OptionError(f"similarity is -1 to 1 and correlation 0 to 1; got {least_similarity}, {least_correlation}")
    settings = read_manifest(folder)
    if settings["timestamps"]:
        raise OptionError(f"{folder} holds windows (--timestamps); copies are found among whole files")
    content = compact(folder)
    paths = {source["name"]: Path(source["path"]) for source in recorded_sources(folder)}
    recordings = _Recordings([paths[name] for name in content.names], settings["sample_rate"])
    places, similarities = nearest(content, N_CANDIDATES)
    rows, columns = np.nonzero(similarities >= least_similarity)
    found = np.stack([rows, places[rows, columns].astype(np.int64)], 1)
    pairs: list[list[int]] = np.unique(np.sort(found, 1), axis=0).tolist()
    joined = []
    with progress_of(len(pairs), "pair", shown=progress) as advance:
        for pair in pairs:
            alignment = recordings.align(*pair)
            if alignment is not None and alignment.correlation >= least_correlation:
                joined.append(pair)
            advance(1)
    if pairs and len(recordings.failures) == len({place for pair in pairs for place in pair}):
        raise InputError(f"none of the audio can be read any more; {next(iter(recordings.failures.values()))}")
    groups = (recordings.group(places, content.names) for places in _components(joined))
    failures = tuple(Failure(content.names[place], reason) for place, reason in recordings.failures.items())
    return Duplicates(tuple(groups), len(content.names), len(pairs), failures)


class _Recordings:
    """Audio by place; the latest few stay in memory."""

    def __init__(self, paths: list[Path], sample_rate: int) -> None:
        self._paths = paths
        self._rate = sample_rate
        self.failures: dict[int, str] = {}
        self._samples = lru_cache(_KEPT)(self._read)

    def _read(self, place: int) -> np.ndarray | None:
        try:
            return load_audio(self._paths[place], self._rate)[: MAX_SECONDS * self._rate]
        except InputError as error:
            self.failures[place] = str(error)
            return None

    def align(self, first: int, second: int) -> Alignment | None:
        """How the second lies over the first; None if one of them cannot be read."""
        a, b = self._samples(first), self._samples(second)
        return None if a is None or b is None else align(a, b, self._rate)

    def group(self, places: Iterable[int], names: tuple[str, ...]) -> tuple[Copy, ...]:
        """Copies of one recording, the longest first."""
        lengths = {place: 0 if (samples := self._samples(place)) is None else len(samples) for place in places}
        order = sorted(lengths, key=lambda place: (-lengths[place], names[place]))
        return tuple(
            Copy(names[place], lengths[place] / self._rate, self.align(order[0], place) or Alignment(0, 0, 0))
            for place in order
        )


def _components(pairs: Iterable[list[int]]) -> list[list[int]]:
    """What hangs together by pairs, in the order of the lowest place."""
    owners: dict[int, set[int]] = {}  # of each place the group that it is in
    for first, second in pairs:
        if second not in owners.get(first, ()):
            joined = owners.get(first, {first}) | owners.get(second, {second})
            owners.update(dict.fromkeys(joined, joined))
    return sorted({min(group): sorted(group) for group in owners.values()}.values())
