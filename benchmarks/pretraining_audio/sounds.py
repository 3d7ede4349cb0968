"""Sounds of the surroundings out of numbers: weather, machines, impacts, animals and alarms.

Each kind of :data:`KINDS` is a simple model of how such a sound comes about (sums of decaying modes for what is struck,
noise in bands with slow gains for what flows, pulses through resonances for what has an engine or a throat). All of its
parameters are drawn anew for each clip.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy import signal

from . import synthesis as syn
from .speech import RATE
from .synthesis import band, coloured, hull, log_uniform, place, resonant, rhythm, slow, texture, tone


def rain(rng: Generator, n: int) -> np.ndarray:
    fine = texture(rng, n, rng.uniform(-3, 4), 1, 0.2, 0.5)
    return fine / fine.std() + rng.uniform(0.2, 2) * syn.drops(rng, n, log_uniform(rng, 10, 800), 800, 6000, 0.004)


def water(rng: Generator, n: int) -> np.ndarray:
    """Bubbles, whose pitch rises, over a stream, or single drops."""

    def bubble() -> np.ndarray:
        hz, m = log_uniform(rng, 300, 4000), int(log_uniform(rng, 0.01, 0.15) * RATE)
        rise = hz * np.linspace(1, rng.uniform(1, 1.6), m)
        return rng.lognormal(sigma=0.7) * np.sin(2 * np.pi * np.cumsum(rise) / RATE) * hull(m, 0.001, m / RATE / 4)

    bubbles = place(n, [(s, bubble()) for s in rhythm(rng, n, log_uniform(rng, 0.01, 0.8), 0.8)])
    return bubbles + rng.choice([0.0, 0.1, 0.5]) * texture(rng, n, 3, 3, 0.6, 0.5)


def wind(rng: Generator, n: int) -> np.ndarray:
    howl = sum(band(coloured(rng, n, 3), f, 1.15 * f) * slow(rng, n, 0.7, 1.2) for f in log_uniform(rng, 150, 1500, 3))
    return texture(rng, n, rng.uniform(4, 9), rng.uniform(0.3, 1.5), 0.7, 0.7) + rng.uniform(0, 3) * howl


def waves(rng: Generator, n: int) -> np.ndarray:
    m = int(rng.uniform(4, 8) * RATE)
    swell = place(n, [(s, rng.uniform(0.4, 1) * hull(m, 1, 1.5)) for s in rhythm(rng, n, rng.uniform(2, 5), 0.3)])
    return (swell + rng.uniform(0.02, 0.3)) * texture(rng, n, rng.uniform(1, 6), 2, 0.4, 0.3)


def thunder(rng: Generator, n: int) -> np.ndarray:
    """A rumble of many reflections; short, it is an explosion or a shot."""
    m, length = n, log_uniform(rng, 0.1, 4)
    crack = coloured(rng, m, 3) * hull(m, 0.001, length / 8)
    rumble = coloured(rng, m, rng.uniform(6, 12)) * slow(rng, m, 8, 0.7) * hull(m, length / 20, length)
    return place(n, [(rng.uniform(0, 0.5), rng.uniform(0, 2) * crack + rumble)])


def fire(rng: Generator, n: int) -> np.ndarray:
    crackle = syn.drops(rng, n, log_uniform(rng, 5, 100), 500, 6000, log_uniform(rng, 0.0005, 0.004)) * slow(
        rng, n, 2, 0.7
    )
    return crackle + rng.uniform(0.05, 0.6) * texture(rng, n, 7, 4, 0.5, 0.6)


def engine(rng: Generator, n: int) -> np.ndarray:
    """Pulses at the rate of firing, which wanders, glides or starts, through the resonances of a body."""
    hz = (
        log_uniform(rng, 12, 180)
        * slow(rng, n, 0.5, rng.uniform(0, 0.25))
        * np.linspace(1, log_uniform(rng, 0.6, 2), n)
    )
    firing = np.diff(np.floor(np.cumsum(hz * slow(rng, n, 60, rng.uniform(0, 0.1))) / RATE), prepend=0.0)
    source = firing * rng.lognormal(sigma=0.3, size=n) * 8 + rng.uniform(0.02, 0.5) * rng.normal(size=n)
    count = 7
    body = resonant(
        source, log_uniform(rng, 50, 4000, count), log_uniform(rng, 40, 600, count), rng.uniform(0.2, 1, count)
    )
    return body + rng.uniform(0, 0.3) * tone(rng, hz * rng.integers(1, 30), 3) / 5


def machine(rng: Generator, n: int) -> np.ndarray:
    """A motor's hum and whine, air and a beat: vacuum cleaner, drill, fan, washing machine, saw."""
    spin = slow(rng, n, 0.5, 0.02) * (1 - rng.choice([0, 1]) * np.exp(-np.arange(n) / RATE / 0.7))
    hz = np.maximum(log_uniform(rng, 40, 900) * spin, 15)
    beat = 1 + rng.uniform(0, 1) * np.sin(2 * np.pi * np.cumsum(log_uniform(rng, 1, 30) * spin) / RATE)
    air = texture(rng, n, rng.uniform(-2, 6), 3, 0.2, 0.5)
    return beat * (rng.uniform(0, 1) * tone(rng, hz, rng.uniform(2, 9)) + log_uniform(rng, 0.05, 2) * air / air.std())


def bell(rng: Generator, n: int) -> np.ndarray:
    """Bells, bowls, glasses: few modes in the ratios of a bell or at random, long."""
    hz, t = log_uniform(rng, 150, 3000), np.arange(n) / RATE
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.6, 3.01, 4.2]) * np.exp(rng.uniform(0, 0.1) * rng.normal(size=8))
    decay = log_uniform(rng, 0.15, 4)
    parts = [
        rng.exponential()
        * np.exp(-t * (1 + r) / decay)
        * np.sin(2 * np.pi * hz * r * t)
        * (1 + 0.2 * np.sin(9 * r * t))
        for r in ratios[hz * ratios < syn.NYQUIST]
    ]
    return place(
        n, [(s, rng.uniform(0.3, 1) * np.sum(parts, axis=0)) for s in rhythm(rng, n, log_uniform(rng, 0.1, 4), 0.2)]
    )


def impacts(rng: Generator, n: int) -> np.ndarray:
    """Knocks, dishes, dropped things: the same body, struck again and again; or one that bounces."""
    low = log_uniform(rng, 80, 2500)
    body = [low, low * log_uniform(rng, 2, 15), log_uniform(rng, 0.008, 0.4), rng.integers(3, 14), rng.uniform(0, 1)]
    seed, gap = rng.integers(2**31), log_uniform(rng, 0.08, 1.5)
    if rng.uniform() < 0.3:
        times = rng.uniform(0, 0.4) + np.cumsum(gap * rng.uniform(0.6, 0.9) ** np.arange(12))
    else:
        times = rhythm(rng, n, gap, rng.uniform(0, 0.6))
    strokes = (syn.hit(np.random.default_rng(seed), *body) * rng.lognormal(sigma=0.3) for _ in times)
    return place(n, list(zip(times, strokes, strict=True)))


def shatter(rng: Generator, n: int) -> np.ndarray:
    """Glass or crockery in pieces, keys, coins: many small bodies within a moment."""
    low = log_uniform(rng, 500, 3000)
    times = rng.uniform(0.1, 1) + rng.exponential(log_uniform(rng, 0.05, 0.6), rng.integers(8, 60))
    pieces = [(s, syn.hit(rng, low, 7500, log_uniform(rng, 0.01, 0.15), 4) * rng.lognormal()) for s in times]
    return place(n, pieces)


def steps(rng: Generator, n: int) -> np.ndarray:
    """Footsteps: heel and toe on a floor or on gravel."""
    low, grit, gap = log_uniform(rng, 60, 300), rng.choice([0.0, 0.3, 1.0]), rng.uniform(0.25, 0.8)
    m = int(0.15 * RATE)

    def step() -> np.ndarray:
        crunch = syn.drops(rng, m, 900, 900, 6000, 0.001) * hull(m, 0.02, 0.05)
        return place(
            m + 4000,
            [
                (0, syn.hit(rng, low, 6 * low, 0.02, 5)),
                (0.06, 0.4 * syn.hit(rng, 2 * low, 12 * low, 0.01, 4)),
                (0, grit * crunch),
            ],
        )

    return place(n, [(s, rng.uniform(0.6, 1) * step()) for s in rhythm(rng, n, gap, 0.06)])


def door(rng: Generator, n: int) -> np.ndarray:
    """A creak (stick and slip through wood), a thump and a rattle."""
    m = int(rng.uniform(0.3, 1.5) * RATE)
    slips = np.diff(np.floor(np.cumsum(log_uniform(rng, 20, 300) * slow(rng, m, 4, 0.4)) / RATE), prepend=0.0)
    creak = resonant(slips, log_uniform(rng, 300, 4000, 6), log_uniform(rng, 30, 200, 6), rng.uniform(0.2, 1, 6))
    slam = [
        (m / RATE + s, syn.hit(rng, low, 8 * low, 0.06, 8)) for s, low in ((0.0, 70), (rng.uniform(0.02, 0.15), 600))
    ]
    return place(n, [(0.1, rng.choice([0, 1]) * creak / max(np.abs(creak).max(), 1e-9)), *slam])


def clicks(rng: Generator, n: int) -> np.ndarray:
    """Clock, mouse, keyboard: tiny bodies, regular or in flurries."""
    gap, jitter = log_uniform(rng, 0.06, 1), rng.choice([0.0, 0.5])
    low, pair = log_uniform(rng, 600, 3500), rng.uniform(0.02, 0.12)
    events = []
    for s in rhythm(rng, n, gap, jitter):
        scale = rng.uniform(0.8, 1.25)
        events += [
            (s + d, g * syn.hit(rng, low * scale, 7000, 0.004, 5)) for d, g in ((0, 1.0), (pair, rng.uniform(0, 0.7)))
        ]
    return place(n, events)


def applause(rng: Generator, n: int) -> np.ndarray:
    """Claps of one person or of many."""
    m, events = int(0.06 * RATE), []
    for _ in range(int(log_uniform(rng, 1, 40))):
        hz, level = log_uniform(rng, 700, 2500), rng.lognormal(sigma=0.7)
        clap = level * band(rng.normal(size=m), 0.6 * hz, 1.6 * hz) * hull(m, 0.0005, 0.008)
        events += [(s, clap) for s in rhythm(rng, n, rng.uniform(0.18, 0.4), 0.1)]
    return place(n, events)


def calls(rng: Generator, n: int) -> np.ndarray:
    """Birds, frogs, insects: short calls of gliding, trembling pitch, repeated."""
    hz, m = log_uniform(rng, 400, 6000), int(log_uniform(rng, 0.02, 0.5) * RATE)
    t = np.arange(m) / m
    calls = []
    for _ in range(rng.integers(1, 5)):
        tremble = rng.uniform(0, 0.15) * np.sin(2 * np.pi * log_uniform(rng, 1, 30) * t)
        pitch = hz * np.exp(
            rng.uniform(-0.5, 0.5) * t + rng.uniform(-0.6, 0.6) * t**2 + tremble + rng.uniform(-0.3, 0.3)
        )
        buzz = 1 + rng.choice([0, 1]) * np.sin(2 * np.pi * log_uniform(rng, 20, 150) * t * m / RATE)
        calls.append(tone(rng, np.clip(pitch, 100, 7500), rng.uniform(6, 18)) * np.sin(np.pi * t) * buzz)
    gap = m / RATE * log_uniform(rng, 0.6, 5)
    return place(
        n, [(s, rng.uniform(0.5, 1) * calls[i // 3 % len(calls)]) for i, s in enumerate(rhythm(rng, n, gap, 0.3))]
    )


def throat(rng: Generator, n: int) -> np.ndarray:
    """Barks, mews, lows, crows, cries, laughs: gliding pitch through a vocal tract that opens and closes."""
    base, m = log_uniform(rng, 80, 900), int(log_uniform(rng, 0.1, 1.2) * RATE)
    arch, t = rng.uniform(-0.6, 0.6), np.linspace(0, 1, m)
    length, breath = rng.uniform(0.5, 2), log_uniform(rng, 0.01, 1)

    def cry() -> np.ndarray:
        pitch = (
            base
            * np.exp(arch * np.sin(np.pi * t) + rng.uniform(-0.3, 0.1) * t + rng.normal(0, 0.08))
            * slow(rng, m, 80, 0.03)
        )
        source = tone(rng, pitch, 6) * (1 + rng.choice([0, 0, 1]) * np.sin(2 * np.pi * 45 * t * m / RATE))
        formants = np.minimum(length * np.array([600, 1400, 2600, 3600]) * np.exp(0.2 * rng.normal(size=4)), 7500)
        closed, opened = (
            resonant(source + breath * rng.normal(size=m), formants * f, np.full(4, 120.0), [1, 0.7, 0.4, 0.2])
            for f in (0.75, 1.0)
        )
        return (closed + np.sin(np.pi * t) * (opened - closed)) * np.sin(np.pi * t) ** rng.uniform(0.3, 1)

    return place(
        n, [(s, rng.uniform(0.5, 1) * cry()) for s in rhythm(rng, n, m / RATE * log_uniform(rng, 1.1, 4), 0.2)]
    )


def breaths(rng: Generator, n: int) -> np.ndarray:
    """Breathing, snoring, coughs, sneezes: noise with formants and now and then a rattle."""
    m, gap = int(log_uniform(rng, 0.08, 1.2) * RATE), rng.uniform(0.3, 2)
    formants, rattle = log_uniform(rng, 300, 5000, 4), rng.choice([0.0, 1.0])
    attack = log_uniform(rng, 0.01, 0.4)

    def breath() -> np.ndarray:
        flutter = 1 + rattle * signal.sawtooth(
            2 * np.pi * np.cumsum(rng.uniform(25, 70) * slow(rng, m, 20, 0.1)) / RATE
        )
        sound = resonant(rng.normal(size=m) * flutter, formants, np.full(4, 300.0), rng.uniform(0.2, 1, 4))
        return sound * hull(m, attack, m / RATE / 3)

    return place(n, [(s, rng.uniform(0.5, 1) * breath()) for s in rhythm(rng, n, m / RATE + gap, 0.2)])


def alarm(rng: Generator, n: int) -> np.ndarray:
    """Sirens, beeps, horns: two tones, a glide up and down, or one tone on and off."""
    hz, rate, t = log_uniform(rng, 250, 3500), log_uniform(rng, 0.2, 8), np.arange(n) / RATE
    shape = rng.choice(["sine", "square", "saw", "pulse"])
    swing = {"sine": np.sin, "square": signal.square, "saw": signal.sawtooth, "pulse": signal.square}[shape](
        2 * np.pi * rate * t
    )
    gate = (
        signal.sosfiltfilt(signal.butter(1, 60, fs=RATE, output="sos"), (swing > 0) * 1.0) if shape == "pulse" else 1.0
    )
    pitch = np.clip(hz * np.exp(rng.uniform(0.1, 0.5) * swing * (shape != "pulse")), 100, 7000)
    return gate * tone(rng, pitch, rng.uniform(3, 20)) + rng.uniform(0, 0.1) * coloured(rng, n, 3)


def scrape(rng: Generator, n: int) -> np.ndarray:
    """Sawing, brushing, sweeping, writing: strokes of grainy noise whose colour moves within a stroke."""
    m, low = int(log_uniform(rng, 0.08, 0.8) * RATE), log_uniform(rng, 200, 3000)
    grain = log_uniform(rng, 50, 2000)

    def stroke(up: float) -> np.ndarray:
        noise = rng.normal(size=m) * slow(rng, m, grain, 0.8)
        dark, bright = band(noise, low, 2 * low), band(noise, 1.6 * low, 6 * low)
        mix = np.linspace(0, 1, m) ** up
        return ((1 - mix) * dark + mix * bright) * np.sin(np.pi * np.linspace(0, 1, m)) ** 0.5

    times = rhythm(rng, n, m / RATE * rng.uniform(1, 2), 0.1)
    return place(n, [(s, stroke((0.5, 2)[i % 2])) for i, s in enumerate(times)])


KINDS: dict[str, Callable[[Generator, int], np.ndarray]] = {
    **{"rain": rain, "water": water, "wind": wind, "waves": waves, "thunder": thunder, "fire": fire, "engine": engine},
    **{"machine": machine, "bell": bell, "impacts": impacts, "shatter": shatter, "steps": steps, "door": door},
    **{"clicks": clicks, "applause": applause, "calls": calls, "throat": throat, "breaths": breaths, "alarm": alarm},
    "scrape": scrape,
}


def sound(rng: Generator, kind: str, seconds: float) -> np.ndarray:
    """Make a clip, now and then before a bed of another kind's noise.

    Args:
        rng: drives all draws.
        kind: one of :data:`KINDS`.
        seconds: its length.

    Returns:
        float64 at 16 kHz, peak between 0.1 and 0.9 [shape=(n_samples,)].
    """
    n = int(seconds * RATE)
    clip = KINDS[kind](rng, n)
    clip = clip / max(np.abs(clip).max(), 1e-9)
    if rng.uniform() < 0.3:
        bed = texture(rng, n, rng.uniform(0, 6), 1, 0.3, 0.5)
        clip = clip + log_uniform(rng, 0.003, 0.1) * bed / np.abs(bed).max()
    return rng.uniform(0.1, 0.9) * clip / np.abs(clip).max()
