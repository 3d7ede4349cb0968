"""Fixed windows of audio files, drawn at random from all of them: what layers are compared over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hear_byols.analysis.similarity import MIN_EXAMPLES
from hear_byols.audio import audio_seconds
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.files import AudioFile
from hear_byols.extraction.groups import Failure
from hear_byols.extraction.reader import read_clip


@dataclass(frozen=True)
class Windows:
    """Stretches of audio of equal length."""

    samples: np.ndarray  # float32 [shape=(n_windows, n_samples)]
    n_files: int  # that they come from
    failures: tuple[Failure, ...]  # files that could not be read


def read_windows(
    files: Sequence[AudioFile], sample_rate: int, *, window_ms: float = 1000, most: int = 1024, seed: int = 0
) -> Windows:
    """Read windows of audio, at most ``most`` of them, drawn at random without replacement, in the order of the files.

    A file is cut into adjoining windows; what is left at its end is dropped. A file that is shorter than a window gives
    one, followed by zeros. Files of which no window was drawn are not read; one file at a time is decoded.

    Args:
        files: which files.
        sample_rate: wanted rate in Hz.
        window_ms: length of a window in milliseconds.
        most: windows; the memory this takes is ``most`` times a window.
        seed: of the draw.

    Raises:
        OptionError: an option is out of range.
        InputError: fewer than four windows could be read.
    """
    length = round(window_ms * sample_rate / 1000) if 0 < window_ms < np.inf else 0
    if length < 1:
        raise OptionError(f"window_ms must be a positive number of milliseconds, got {window_ms!r}")
    if most < MIN_EXAMPLES:
        raise OptionError(f"at least {MIN_EXAMPLES} windows are needed, got {most}")
    # Of each file the number of its windows, and where they end among those of all files.
    counts = [max(1, int(audio_seconds(file.path) * sample_rate) // length) for file in files]
    ends = np.cumsum(counts)
    drawn = np.sort(np.random.default_rng(seed).choice(ends[-1], min(most, int(ends[-1])), replace=False))
    owners = np.searchsorted(ends, drawn, side="right")
    samples: list[np.ndarray] = []
    failures, n_files = [], 0
    for owner in np.unique(owners):
        file, places = files[owner], (drawn[owners == owner] - (ends[owner] - counts[owner])).tolist()
        clip = read_clip(file, sample_rate)
        if clip.error:
            failures.append(Failure(file.name, clip.error))
            continue
        n_files += 1
        for start in (place * length for place in places):
            part = clip.samples[start : start + length]
            if len(part):  # a header may promise more than there is
                samples.append(np.pad(part, (0, length - len(part))))  # a copy, which lets go of the rest of the file
    if len(samples) < MIN_EXAMPLES:
        reason = f"; {failures[0].reason}" if failures else ""
        raise InputError(
            f"{len(files)} files gave {len(samples)} windows of {window_ms:g} ms, {MIN_EXAMPLES} are the fewest and "
            f"some hundreds are sensible; add audio or take shorter windows{reason}"
        )
    return Windows(np.stack(samples), n_files, tuple(failures))
