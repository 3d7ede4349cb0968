"""The version of a task at another sample rate, as torchaudio makes it (paper, section 2.4: 48 kHz to 16 kHz)."""

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from hear_byols._util.files import atomic_path, writing
from hear_byols._util.progress import progress as progress_of
from hear_byols.audio import load_audio
from hear_byols.errors import InputError, TaskError
from hear_byols.evaluation.tasks import METADATA, audio_info, audio_rates, read_task

_ZERO_CROSSINGS, _ROLLOFF = 6, 0.99  # torchaudio's defaults


@dataclass(frozen=True)
class Resampled:
    """What was done."""

    folder: Path  # the task that now has the rate
    n_written: int
    n_present: int  # files that were there already
    failures: tuple[str, ...]  # what could not be resampled, and why


def resample_task(
    folder: str | os.PathLike[str],
    sample_rate: int = 16000,
    *,
    source_rate: int | None = None,
    output: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Resampled:
    """Write ``<sample_rate>/<split>/<file>`` for every clip of a task, under the same names and in the same formats.

    The result is that of ``torchaudio.functional.resample`` with its defaults, as in the paper: of torchaudio itself
    where it can be imported (extra ``torchaudio``), else of :func:`sinc_resample`. Files take their place whole,
    so a run that was killed continues where it was; a file older than its source is made anew. Channels are averaged.

    Args:
        folder: the task.
        sample_rate: wanted, in Hz.
        source_rate: which of the folder's rates to start from, by default the highest.
        output: another folder for the result, with the task's labels; by default the task itself.
        progress: show a bar.

    Raises:
        TaskError: no task, or no audio at another rate.
        OutputError: nothing can be written there.
    """
    task = read_task(folder)
    rates = [rate for rate in audio_rates(task.folder) if rate != sample_rate]
    if not source_rate and not rates:
        raise TaskError(f"{task.folder} has no audio at a rate other than {sample_rate} Hz, such as 48000/")
    source_rate = source_rate or rates[-1]
    target = Path(output) if output else task.folder
    n_written, n_present, failures = 0, 0, []
    clips = task.all_clips()
    with progress_of(len(clips), "clip", shown=progress, title=f"{task.name} to {sample_rate} Hz") as advance:
        for clip in clips:
            source = task.audio_path(clip, source_rate)
            place = target / str(sample_rate) / clip.split / clip.name
            if place.is_file() and source.is_file() and place.stat().st_mtime_ns >= source.stat().st_mtime_ns:
                n_present += 1
            else:
                try:
                    with writing(place):
                        _resample_file(source, source_rate, place, sample_rate)
                    n_written += 1
                except InputError as error:
                    failures.append(str(error))
            advance(1)
    if target != task.folder:
        for name in (METADATA, "labelvocabulary.csv", *(f"{split}.json" for split in task.splits)):
            shutil.copyfile(task.folder / name, target / name)
    return Resampled(target, n_written, n_present, tuple(failures))


def sinc_resample(samples: np.ndarray, source_rate: int, sample_rate: int) -> np.ndarray:
    """Band-limited interpolation with a Hann-windowed sinc (Smith, "Digital Audio Resampling"), as torchaudio does.

    Rates in Hz are reduced to ``down`` and ``up``. Each of the ``up`` phases between two source samples has its own
    filter of 6 zero crossings on either side, cut off at 99 % of the lower Nyquist frequency.

    Args:
        samples: float32 [shape=(n_samples,)].
        source_rate: their rate.
        sample_rate: wanted.

    Returns:
        float32 [shape=(ceil(n_samples * up / down),)].
    """
    common = math.gcd(source_rate, sample_rate)
    down, up = source_rate // common, sample_rate // common
    if down == up:
        return samples
    cutoff = _ROLLOFF * min(down, up)
    reach = math.ceil(_ZERO_CROSSINGS * down / cutoff)
    # All in float32: torchaudio's own rounding, 2e-5 at some rates, is part of what there is to equal.
    taps, phases = torch.arange(-reach, reach + down, dtype=torch.float32), torch.arange(up, dtype=torch.float32)
    crossings = (taps / down - phases[:, None] / up) * cutoff  # distance in zero crossings [shape=(up, n_taps)]
    crossings = crossings.clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    hann = torch.cos(crossings * (math.pi / 2 / _ZERO_CROSSINGS)) ** 2  # 0 at both ends
    filters = torch.sinc(crossings) * hann * (cutoff / down)
    padded = torch.nn.functional.pad(torch.from_numpy(samples), (reach, reach + down))
    rows = torch.nn.functional.conv1d(padded[None, None], filters[:, None], stride=down)  # [shape=(1, up, n)]
    return rows[0].T.reshape(-1)[: -(-len(samples) * up // down)].numpy()


def _resample_file(source: Path, source_rate: int, place: Path, sample_rate: int) -> None:
    info = audio_info(source, source_rate)
    samples = load_audio(source, source_rate)
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError):  # OSError: compiled for another torch; ours gives the same
        samples = sinc_resample(samples, source_rate, sample_rate)
    else:
        samples = resample(torch.from_numpy(samples), source_rate, sample_rate).numpy()
    with atomic_path(place) as part:
        try:
            soundfile.write(part, samples, sample_rate, format=info.format, subtype=info.subtype)
        except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
            raise InputError(f"{place}: {info.format} cannot be written at {sample_rate} Hz ({error})") from error
