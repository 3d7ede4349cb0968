"""Whether two recordings hold the same sound: their waveforms are laid over each other at every offset."""

from dataclasses import dataclass

import numpy as np

_SHARE = 0.5  # of the shorter recording that must lie over the longer one
_QUIET = 1e-6  # of a recording's energy: a stretch with less is silence, which everything resembles
_PRE_EMPHASIS = 0.97  # lifts the details that two different sounds do not share


@dataclass(frozen=True)
class Alignment:
    """How one recording lies over another."""

    correlation: float  # of the samples where both are, 0 to 1; its sign, as of a swapped polarity, is left out
    offset_s: float  # where the second begins in the first, in seconds
    gain_db: float  # of the second over the first


def align(first: np.ndarray, second: np.ndarray, sample_rate: int) -> Alignment:
    """Find the offset at which two recordings agree best.

    Copies that were encoded anew, trimmed or made louder correlate above 0.7, most above 0.9; different recordings of
    one kind of sound below 0.5: even of rain no two stretches have the same waveform.

    Args:
        first: samples [shape=(n_samples,)].
        second: samples, of any other length.
        sample_rate: of both in Hz.
    """
    a, b = (np.append(x[:1], x[1:] - _PRE_EMPHASIS * x[:-1]).astype(np.float64) for x in (first, second))
    n = 1 << (len(a) + len(b) - 1).bit_length()  # no offset wraps around
    offsets = np.arange(1 - len(b), len(a))
    products = np.fft.irfft(np.fft.rfft(a, n) * np.fft.rfft(b, n).conj(), n)[offsets]
    begins, ends = offsets.clip(0), (offsets + len(b)).clip(None, len(a))
    energy_a, energy_b = (np.append(0, np.cumsum(x**2)) for x in (a, b))
    own = energy_a[ends] - energy_a[begins]
    other = energy_b[ends - offsets] - energy_b[begins - offsets]
    power = own * other
    fine = (ends - begins >= _SHARE * min(len(a), len(b))) & (power > _QUIET * energy_a[-1] * energy_b[-1])
    if not fine.any():
        return Alignment(0.0, 0.0, 0.0)
    correlations = np.where(fine, np.abs(products) / np.sqrt(power.clip(1e-300)), 0)
    best = int(correlations.argmax())
    gain_db = 10 * np.log10(other[best] / own[best])
    return Alignment(float(correlations[best]), float(offsets[best] / sample_rate), float(gain_db))
