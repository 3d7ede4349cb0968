"""Scenes of any length in bounded memory: encoders whose columns are local take a clip in stretches."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hear_byols.encoders.multilayer import MultilayerEncoder
from hear_byols.frontend import LogMel
from hear_byols.normalization import Moments

STRETCH_FRAMES = 8192  # spectrogram frames of a stretch, 82 s; a multiple of what a column of any encoder covers
MAX_WHOLE_SCENE_S = {"cvt": 1800.0, "clstm": 480.0}  # of encoders that take a clip whole: less than 5 and 3 GB


def moments(log_mel: LogMel, audio: Tensor) -> Moments:
    """Statistics of the spectrograms of whole clips [shape=(n_clips, n_samples)]."""
    statistics = Moments()
    for first, stop in _stretches(log_mel.n_frames(audio.shape[1])):
        statistics.update(log_mel.stretch(audio, first, stop))
    return statistics


def embed_in_stretches(
    log_mel: LogMel,
    encoder: MultilayerEncoder,
    audio: Tensor,
    columns: Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]],
) -> Tensor:
    """Embed whole clips stretch by stretch; equal to embedding them at once within float32 rounding.

    Args:
        log_mel: front end.
        encoder: with local columns.
        audio: [shape=(n_clips, n_samples)].
        columns: takes log-mel spectrograms [shape=(n_clips, n_mels, n_frames)], gives what ``encoder.columns`` makes of
            them, standardized.

    Returns:
        [shape=(n_clips, size)].
    """
    n_frames, border = log_mel.n_frames(audio.shape[1]), encoder.border_frames or 0
    # Apple's GPUs have no double precision.
    total = torch.zeros((), dtype=torch.float32 if audio.device.type == "mps" else torch.float64, device=audio.device)
    n_columns, maxima = 0, {}  # over time, of the sequence and of each map
    for first, stop in _stretches(n_frames):
        start, after = max(first - border, 0), min(stop + border, n_frames)
        sequence, maps = columns(log_mel.stretch(audio, start, after))
        parts = [sequence.transpose(1, 2), *(maps if encoder.layers == "multi" else ())]
        for i, (part, frames) in enumerate(zip(parts, (encoder.column_frames, *encoder.map_frames), strict=False)):
            last = None if stop == n_frames else (stop - start) // frames  # what the border sees is left out
            part = part[..., (first - start) // frames : last].float()
            if i == 0:
                total = total + part.sum(-1, dtype=total.dtype)
                n_columns += part.shape[-1]
            if part.shape[-1]:
                maximum = torch.amax(part, -1)
                maxima[i] = torch.maximum(maxima[i], maximum) if i in maxima else maximum
    embedding, *others = maxima.values()
    return encoder.join((total / n_columns).float() + embedding, *(maximum.flatten(1) for maximum in others))


def _stretches(n_frames: int) -> Iterator[tuple[int, int]]:
    for first in range(0, n_frames, STRETCH_FRAMES):
        yield first, min(first + STRETCH_FRAMES, n_frames)
