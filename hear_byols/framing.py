"""Exact time arithmetic of windows and timestamps (HEAR: frame centres from 0, one every hop, padded by half a frame).

All positions derive from the exact rational hop, never from a hop rounded to samples, so nothing drifts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from hear_byols._util.numbers import plain_fields
from hear_byols.errors import OptionError

_ENDLESS_MS = 1e15  # thirty thousand years
MAX_FRAME_MS = 600_000  # a window is padded, transformed and encoded whole


def _positive(name: str, value: object) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _ENDLESS_MS:
        raise OptionError(f"{name} must be a positive number of milliseconds, got {value!r}")
    return Fraction(value)


@dataclass(frozen=True)
class Framing:
    """Windows of ``frame_ms`` centred every ``hop_ms``.

    Args:
        frame_ms: window length in milliseconds, at most ten minutes.
        hop_ms: distance of two centres in milliseconds, at least one sample.
        sample_rate: in Hz.

    Raises:
        OptionError: a length is not a positive number, the window exceeds ten minutes, or the hop is below a sample.
    """

    frame_ms: float
    hop_ms: float
    sample_rate: int

    def __post_init__(self) -> None:
        plain_fields(self)
        _positive("frame_ms", self.frame_ms)
        if self.frame_ms > MAX_FRAME_MS:
            raise OptionError(
                f"frame_ms must be at most {MAX_FRAME_MS} (ten minutes), got {self.frame_ms!r}; whole clips are what "
                "scene embeddings are for"
            )
        _positive("hop_ms", self.hop_ms)
        if self.hop_samples < 1:
            raise OptionError(
                f"hop_ms must be at least one sample, {1000 / self.sample_rate:g} ms; got {self.hop_ms!r}"
            )

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

    def timestamps_ms(self, n_samples: int) -> list[float]:
        """Centres of all windows of a clip, in milliseconds."""
        return [i * self.hop_ms for i in range(self.n_windows(n_samples))]
