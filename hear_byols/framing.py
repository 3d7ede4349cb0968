"""Exact time arithmetic of windows and timestamps (HEAR: frame centres from 0, one every hop, padded by half a frame).

All positions derive from the exact rational hop, never from a hop rounded to samples, so nothing drifts.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_byols._util.numbers import plain_fields
from hear_byols.errors import OptionError

_ENDLESS_MS = 1e15  # thirty thousand years
MAX_FRAME_MS = 600_000  # a window is padded, transformed and encoded whole


@dataclass(frozen=True)
class Framing:
    """Windows of ``frame_ms`` centred every ``hop_ms``.

    Raises:
        OptionError: a length is not a positive number, the window exceeds ten minutes, or the hop is below a sample.
    """

    frame_ms: float  # length of a window, at most ten minutes
    hop_ms: float  # distance of two centres, at least one sample
    sample_rate: int  # in Hz

    def __post_init__(self) -> None:
        plain_fields(self)
        for name, value in (("frame_ms", self.frame_ms), ("hop_ms", self.hop_ms)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _ENDLESS_MS:
                raise OptionError(f"{name} must be a positive number of milliseconds, got {value!r}")
        if self.frame_ms > MAX_FRAME_MS:
            raise OptionError(
                f"frame_ms must be at most {MAX_FRAME_MS} (ten minutes), got {self.frame_ms!r}; whole clips are what "
                "scene embeddings are for"
            )
        if self.hop_samples < 1:
            sample_ms = 1000 / self.sample_rate
            raise OptionError(f"hop_ms must be at least one sample, {sample_ms:g} ms; got {self.hop_ms!r}")

    @property
    def hop_samples(self) -> Fraction:
        """Exact hop in samples, not necessarily whole."""
        return Fraction(self.hop_ms) * self.sample_rate / 1000

    @property
    def frame_samples(self) -> int:
        """Window length in samples, rounded to the nearest."""
        return math.floor(Fraction(self.frame_ms) * self.sample_rate / 1000 + Fraction(1, 2))

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after the clip: half a frame each, so that the first centre is sample 0."""
        before = self.frame_samples // 2
        return before, self.frame_samples - before

    def n_windows(self, n_samples: int) -> int:
        """Number of windows of a clip: floor(n_samples / hop) + 1."""
        return math.floor(n_samples / self.hop_samples) + 1

    def starts(self, first: int, stop: int) -> list[int]:
        """First samples of windows ``first`` to ``stop - 1`` in the padded clip: round(i * hop), halves upwards."""
        top, bottom = self.hop_samples.as_integer_ratio()
        return [(2 * i * top + bottom) // (2 * bottom) for i in range(first, stop)]

    def stretches(self, audio: Tensor, n_windows: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Clips of equal length as the stretches that a few windows cover, padded as far as these reach.

        Args:
            audio: [shape=(n_clips, n_samples)].
            n_windows: at a time; one at least.

        Yields:
            Number of the first window, starts of the windows in the padded clip, int64 on the CPU [shape=(n,)], and the
            clips from the first start to the last window's end [shape=(n_clips, ...)].
        """
        n_samples, step = audio.shape[1], max(1, n_windows)
        for i in range(0, self.n_windows(n_samples), step):
            starts = torch.tensor(self.starts(i, min(i + step, self.n_windows(n_samples))), device="cpu")
            first, last = (int(start) - self.padding[0] for start in (starts[0], starts[-1]))  # in the clip itself
            stop = last + self.frame_samples
            inside = audio[:, max(first, 0) : max(stop, 0)]
            yield i, starts, F.pad(inside, (max(-first, 0), stop - max(first, 0) - inside.shape[1]))

    def timestamps_ms(self, n_samples: int) -> list[float]:
        """Centres of all windows of a clip, in milliseconds."""
        return [i * self.hop_ms for i in range(self.n_windows(n_samples))]

    def times(self, audio: Tensor) -> Tensor:
        """The same of clips [shape=(n_clips, n_samples)], float32 on their device [shape=(n_clips, n_windows)]."""
        times = torch.tensor(self.timestamps_ms(audio.shape[1]), dtype=torch.float32, device=audio.device)
        return times.repeat(len(audio), 1)


@dataclass(frozen=True)
class Columns:
    """Columns (steps of time) of windows; those that several windows have in common are held once."""

    rows: Tensor  # distinct columns, and one of zeros behind them [shape=(n_clips, n_rows + 1, ...)]
    at: Tensor  # the row of each window's columns, int64 on the CPU [shape=(n_windows, n_columns)]
    n_kept: int = 0  # how many of the rows, the first ones, were there before these windows came

    @property
    def new(self) -> Tensor:
        """Rows that were computed for these windows."""
        return self.rows[:, self.n_kept : -1]

    def of_windows(self) -> Tensor:
        """All columns of each window: [shape=(n_clips, n_windows, n_columns, ...)]."""
        return self.take(self.at)

    def take(self, at: Tensor) -> Tensor:
        """Rows by their numbers: [shape=(n_clips, *at.shape, ...)]."""
        return self.rows.index_select(1, at.flatten().to(self.rows.device)).unflatten(1, at.shape)


class SharedColumns:
    """Columns of windows of one signal, batch after batch; each distinct one is computed once.

    A column that sees nothing but the signal is known by its position, and shared by all windows that contain it. One
    that sees its window's edge (reflection, padding) is the window's own.

    Args:
        inside: which columns of a window see only the signal, bool on the CPU [shape=(n_columns,)].
        spacing: of two columns in samples.
    """

    def __init__(self, inside: Tensor, spacing: int) -> None:
        self.inside = inside
        self.spacing = spacing
        self._positions: tuple[int, ...] = ()  # of the columns that are kept
        self._kept: Tensor | None = None

    def n_distinct(self, starts: list[int]) -> int:
        """How many columns windows that begin at ``starts`` have together, each distinct one counted once."""
        return len(_plan(tuple(self.inside.tolist()), self.spacing, tuple(starts), ()).windows)

    def __call__(self, starts: Tensor, compute: Callable[[Tensor, Tensor], Iterable[Tensor]]) -> Columns:
        """Columns of further windows.

        Args:
            starts: int64 on the CPU [shape=(n_windows,)] first samples of the windows, ascending, and none before the
                last one of the call before.
            compute: gives the columns [shape=(n_clips, n, ...)], in one part or more along the second axis, of windows
                [shape=(n,)], by number in this call, at places [shape=(n,)] in them.
        """
        first = int(starts[0])
        kept = tuple(position - first for position in self._positions)
        plan = _plan(tuple(self.inside.tolist()), self.spacing, tuple((starts - first).tolist()), kept)
        before, n_rows = [] if self._kept is None else [self._kept], 0
        for part in chain(before, compute(plan.windows, plan.places)):  # each is copied while it is near
            if n_rows == 0:
                rows = part.new_empty(len(part), len(kept) + len(plan.windows) + 1, *part.shape[2:])
            rows[:, n_rows : n_rows + part.shape[1]] = part
            n_rows += part.shape[1]
        rows[:, n_rows:] = 0
        self._positions = tuple(position + first for position in plan.positions)
        self._kept = rows.index_select(1, plan.keep.to(rows.device))
        return Columns(rows, plan.at, len(kept))


@dataclass(frozen=True)
class _WindowPlan:
    """What is computed for some windows: columns of ``windows`` at ``places``, rows behind those that were kept."""

    windows: Tensor
    places: Tensor
    at: Tensor  # the rows that the windows consist of
    keep: Tensor  # the rows that are kept next
    positions: tuple[int, ...]  # of these


@lru_cache(maxsize=64)  # all but the last batch of a signal, and all chunks of a stream, ask the same
def _plan(inside: tuple[bool, ...], spacing: int, starts: tuple[int, ...], kept: tuple[int, ...]) -> _WindowPlan:
    """For windows at ``starts``, where columns at the positions ``kept`` are there; all from the first start on."""
    mask = np.array(inside)
    inner, own, begin = np.flatnonzero(mask), np.flatnonzero(~mask), np.array(starts)
    positions = begin[:, None] + inner * spacing
    distinct, example, place = np.unique(positions, return_index=True, return_inverse=True)
    new = ~np.isin(distinct, kept)
    windows, places = np.divmod(example[new], max(len(inner), 1))
    known = np.concatenate([np.array(kept, np.int64), distinct[new]])
    order = np.argsort(known)
    at = np.empty((len(begin), len(mask)), np.int64)
    at[:, inner] = order[np.searchsorted(known, distinct, sorter=order)][place].reshape(positions.shape)
    at[:, own] = len(known) + np.arange(len(begin) * len(own)).reshape(len(begin), -1)
    keep = order[known[order] >= begin[-1] + (inner[0] * spacing if len(inner) else 0)]
    return _WindowPlan(
        torch.from_numpy(np.concatenate([windows, np.repeat(np.arange(len(begin)), len(own))])),
        torch.from_numpy(np.concatenate([inner[places], np.tile(own, len(begin))])),
        torch.from_numpy(at),
        torch.from_numpy(keep),
        tuple(known[keep].tolist()),
    )
