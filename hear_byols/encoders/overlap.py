"""Overlapping windows through an encoder: the columns that several windows share are computed once."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from hear_byols.encoders.linear import WHOLE
from hear_byols.encoders.multilayer import MultilayerEncoder, Step
from hear_byols.framing import Columns, Framing, SharedColumns

# Columns that a convolution takes at a time: on a CPU, what it gathers and makes stays near; a GPU is to be filled.
_PIECE = {"cpu": 64}
_PIECE_GPU = 16384  # of all clips together
_MAX_ROWS = 256  # columns that linear maps take at a time on a CPU
_MAX_WINDOWS = 512  # that are looked at to see how much they share


class WindowEncoder:
    """Embeds the windows of a signal, batch after batch; equal to the encoder on each window.

    Columns near a window's edges see its reflection or padding and are its own; all others depend on the signal alone
    and are computed once, where a fifth or more of the windows' last columns is spared so. Those that windows to come
    will share are kept.

    Attributes:
        n_frames: spectrogram frames that count as a window's, for the size of batches: those that it adds, but a
            quarter at least, since its columns are gathered in the end.
        shares: whether windows share columns.
    """

    def __init__(self, encoder: MultilayerEncoder, frames: SharedColumns, framing: Framing) -> None:
        self._shared = [frames]
        for step in encoder.steps():
            padded = F.pad(self._shared[-1].inside, (step.padding, step.padding), value=False)
            inside = padded.unfold(0, step.n_inputs, step.stride).all(1)
            self._shared.append(SharedColumns(inside, self._shared[-1].spacing * step.stride))
        starts = framing.starts(0, min(_MAX_WINDOWS, framing.n_windows(4 * framing.frame_samples)))
        last = self._shared[-1]
        if last.n_distinct(starts) > 0.8 * len(starts) * len(last.inside):
            del self._shared[1:]
        hop_frames = math.ceil(framing.hop_samples / frames.spacing)
        n_frames, n_own = len(frames.inside), int((~frames.inside).sum())
        self.shares = len(self._shared) > 1
        self.n_frames = max(n_frames // 4, min(n_frames, n_own + hop_frames)) if self.shares else n_frames

    def __call__(
        self, starts: Tensor, frames: Callable[[Tensor, Tensor], Iterable[Tensor]], encoder: MultilayerEncoder
    ) -> Tensor:
        """Embed further windows: [shape=(n_clips, n_windows, embedding_size)].

        Args:
            starts: first samples of the windows, as for :class:`SharedColumns`.
            frames: gives standardized frames [shape=(n_clips, n, n_mels)], in parts, likewise.
            encoder: in evaluation mode, of the same weights in all calls.
        """
        columns = self._shared[0](starts, frames)
        if not self.shares:
            spectrograms = columns.of_windows().transpose(2, 3)
            return encoder(spectrograms.flatten(0, 1)[:, None]).unflatten(0, spectrograms.shape[:2])
        columns, maps = Columns(columns.rows[..., None], columns.at), []
        for step, shared in zip(encoder.steps(), self._shared[1:], strict=True):
            columns = shared(starts, partial(_compute, step, columns))
            if step.is_map and encoder.layers == "multi":
                maps.append(columns.of_windows().flatten(0, 1).permute(0, 3, 2, 1))
        sequence = columns.of_windows()
        vectors = encoder.fuse(encoder.pool(sequence.flatten(0, 1).flatten(2)), *maps)
        return vectors.unflatten(0, sequence.shape[:2])


def _compute(step: Step, columns: Columns, windows: Tensor, places: Tensor) -> Iterator[Tensor]:
    """Columns of windows, by number, at places in them: [shape=(n_clips, n, ...)], in parts."""
    zeros = columns.rows.shape[1] - 1
    padded = F.pad(columns.at, (step.padding, step.padding), value=zeros)
    inputs = padded.unfold(1, step.n_inputs, step.stride)[windows, places].to(columns.rows.device)
    n = len(inputs)
    if step.n_inputs > 1:
        parts = inputs.split(_PIECE.get(inputs.device.type, max(1, _PIECE_GPU // len(columns.rows))))
    elif inputs.is_cpu and n > 4 * WHOLE:  # equal parts, filled up with zeros, so that few shapes occur
        size = math.ceil(n / math.ceil(n / _MAX_ROWS) / WHOLE) * WHOLE
        parts = F.pad(inputs, (0, 0, 0, -n % WHOLE), value=zeros).split(size)
    else:
        parts = (inputs,)
    for part in parts:
        taken = columns.take(part)
        yield step.compute(taken.flatten(0, 1)).unflatten(0, taken.shape[:2])[:, :n]
        n -= len(part)
