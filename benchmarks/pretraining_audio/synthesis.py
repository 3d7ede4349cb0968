"""What made sounds are made of: coloured noise, harmonics, resonances, struck bodies, and their places in time."""

import numpy as np
from numpy.random import Generator
from scipy import signal

from .speech import RATE

NYQUIST = RATE / 2


def log_uniform(rng: Generator, low: float, high: float, size: int | None = None) -> np.ndarray:
    """Draw with equal probability per octave."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def slow(rng: Generator, n: int, hz: float, depth: float) -> np.ndarray:
    """A positive gain that wanders about 1, about ``hz`` times a second, by ``depth`` nepers."""
    points = rng.normal(size=int(n / RATE * hz) + 4)
    places = (np.arange(n) / RATE * hz + rng.uniform()) % len(points)
    return np.exp(depth * np.interp(places, np.arange(len(points)), points))


def band(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    """Second-order band-pass."""
    edges = [max(low, 20.0), min(high, 0.98 * NYQUIST)]
    return signal.sosfilt(signal.butter(2, edges, "bandpass", fs=RATE, output="sos"), sound)


def coloured(rng: Generator, n: int, tilt: float) -> np.ndarray:
    """Noise whose spectrum falls by ``tilt`` dB an octave; RMS 1."""
    hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 40)
    sound = np.fft.irfft(np.fft.rfft(rng.normal(size=n)) * hz ** (-tilt / 6.02), n)
    return sound / sound.std()


def resonant(sound: np.ndarray, hz: np.ndarray, width: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """A sum of resonators [shape=(n_resonances,) each]."""
    parts = (
        g * signal.lfilter(*signal.iirpeak(f, f / w, RATE), sound) for f, w, g in zip(hz, width, gain, strict=True)
    )
    return np.sum(list(parts), axis=0)


def tone(rng: Generator, hz: np.ndarray, tilt: float) -> np.ndarray:
    """Harmonics, falling by ``tilt`` dB an octave, of a fundamental that moves; those above the band are left out."""
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    count = min(int(NYQUIST / hz.min()), 40)
    parts = (
        k ** (-tilt / 6.02) * np.sin(k * phase + rng.uniform(0, 6)) * (k * hz < NYQUIST) for k in range(1, count + 1)
    )
    return np.sum(list(parts), axis=0)


def hull(n: int, attack: float, decay: float) -> np.ndarray:
    """Rise and exponential fall, time constants in seconds."""
    t = np.arange(n) / RATE
    return (1 - np.exp(-t / attack)) * np.exp(-t / decay)


def hit(rng: Generator, low: float, high: float, decay: float, modes: int, noise: float = 0.3) -> np.ndarray:
    """A body that is struck: modes between two frequencies, the higher the shorter, and a burst of noise."""
    n = int(min(6 * decay + 0.05, 8) * RATE)
    t = np.arange(n) / RATE
    hz = np.minimum(log_uniform(rng, low, high, modes), 0.95 * NYQUIST)
    fall = decay * np.sqrt(hz.min() / hz) * rng.uniform(0.5, 1, modes)
    weight = rng.exponential(size=modes) * (hz / hz.min()) ** rng.uniform(-1, 0)
    ring = sum(w * np.sin(2 * np.pi * f * t) * np.exp(-t / d) for f, d, w in zip(hz, fall, weight, strict=True))
    burst = band(rng.normal(size=n), 0.7 * low, 2 * high) * np.exp(-t / log_uniform(rng, 0.002, 0.03))
    return ring / np.abs(ring).max() + noise * burst / np.abs(burst).max()


def place(n: int, events: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Sum of sounds that start at times in seconds; what lies beyond the end is cut."""
    out = np.zeros(n)
    for seconds, sound in events:
        start = int(seconds * RATE)
        part = sound[: max(n - start, 0)]
        out[start : start + len(part)] += part
    return out


def rhythm(rng: Generator, n: int, gap: float, jitter: float) -> list[float]:
    """Times in seconds, ``gap`` apart on average."""
    times, now = [], rng.uniform(0, min(gap, 0.3))
    while now < n / RATE:
        times.append(now)
        now += gap * np.exp(jitter * rng.normal())
    return times


def texture(rng: Generator, n: int, tilt: float, hz: float, depth: float, common: float) -> np.ndarray:
    """Noise in eight bands, each with a slow gain of its own and a share ``common`` that all have."""
    edges = np.geomspace(rng.uniform(30, 120), rng.uniform(6000, 7800), 9)
    noise, shared = coloured(rng, n, tilt), slow(rng, n, hz, depth * common)
    own = depth * (1 - common)
    gains = log_uniform(rng, 0.2, 1, 8)
    parts = (g * band(noise, *edges[i : i + 2]) * slow(rng, n, hz, own) for i, g in enumerate(gains))
    return shared * np.sum(list(parts), axis=0)


def drops(rng: Generator, n: int, rate: float, low: float, high: float, decay: float) -> np.ndarray:
    """Random ticks, ``rate`` a second and of very different strength, each of which rings in one of six bands."""
    out = np.zeros(n)
    for f in log_uniform(rng, low, high, 6):
        ticks = (rng.uniform(size=n) < rate / 6 / RATE) * rng.lognormal(sigma=1, size=n)
        ring = np.exp(-np.arange(int(5 * decay * RATE)) / RATE / decay)
        ring *= np.sin(2 * np.pi * f * np.arange(len(ring)) / RATE)
        out += signal.fftconvolve(ticks, ring)[:n]
    return out / max(out.std(), 1e-9)
