"""Sounds synthesised on the device, a batch at a time: audio without a source, a licence or an end.

Each crop is a sum of events before a bed of noise, in a room. An event is harmonic, frequency-modulated or noise, has a
spectral envelope of a few resonances and a temporal one of attack, decay and pulses. All parameters are drawn anew.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

N_EVENTS = 3
N_HARMONICS = 12
N_RESONANCES = 4
FREQUENCIES = (40.0, 4000.0)  # Hz, of fundamentals
QUIETEST_DB = -40.0


class SyntheticSounds:
    """Draws synthetic crops.

    Args:
        n_samples: length of a crop in samples.
        sample_rate: in Hz.
    """

    def __init__(self, n_samples: int, sample_rate: int = 16000) -> None:
        self.n_samples = n_samples
        self.sample_rate = sample_rate

    def draw(self, n_crops: int, generator: torch.Generator) -> Tensor:
        """Synthesise crops.

        Args:
            n_crops: how many.
            generator: drives all draws; the crops are made on its device.

        Returns:
            float32 within [-1, 1] [shape=(n_crops, n_samples)].
        """
        dice = _Dice(n_crops, generator)
        time = torch.arange(self.n_samples, device=generator.device) / self.sample_rate
        sound = 10 ** dice.uniform(-4, -1) * self._coloured(dice.noise(self.n_samples), dice)
        for number in range(N_EVENTS):
            present = 1.0 if number == 0 else (dice.uniform(0, 1) < 0.4).float()
            sound = sound + present * 10 ** dice.uniform(-1, 0) * self._event(time, dice)
        sound = self._room(sound, time, dice)
        level = 10 ** (dice.uniform(QUIETEST_DB, 0) / 20)
        return level * sound / sound.abs().amax(1, keepdim=True).clamp_min(1e-9)

    def _event(self, time: Tensor, dice: _Dice) -> Tensor:
        kind = dice.uniform(0, 1)
        source = torch.where(kind < 0.65, self._tone(time, dice), dice.noise(self.n_samples))
        source = self._coloured(source, dice)
        source = source / source.square().mean(1, keepdim=True).sqrt().clamp_min(1e-9)
        return source * self._envelope(time, dice)

    def _tone(self, time: Tensor, dice: _Dice) -> Tensor:
        """Harmonics of a gliding, trembling fundamental; some inharmonic, as in bells and strings."""
        low, high = (math.log(f) for f in FREQUENCIES)
        seconds = self.n_samples / self.sample_rate
        glide = torch.where(dice.uniform(0, 1) < 0.5, 0.0, dice.uniform(-1, 1)) * time / seconds
        depth = torch.where(dice.uniform(0, 1) < 0.5, 0.0, dice.uniform(0, 0.06))
        tremble = depth * torch.sin(2 * math.pi * 10 ** dice.uniform(0.5, 2.5) * time)
        frequency = torch.exp(dice.uniform(low, high) + glide + tremble)
        phase = 2 * math.pi * torch.cumsum(frequency, 1) / self.sample_rate
        tilt, stretch = dice.uniform(0, 2), torch.where(dice.uniform(0, 1) < 0.8, 0.0, dice.uniform(0, 0.02))
        sound = torch.zeros_like(phase)
        for k in range(1, N_HARMONICS + 1):
            ratio = k * torch.sqrt(1 + stretch * k * k)
            audible = (frequency * ratio < self.sample_rate / 2).float()
            weight = dice.uniform(0, 1) * k**-tilt
            sound += audible * weight * torch.sin(ratio * phase + dice.uniform(0, 2 * math.pi))
        return sound

    def _coloured(self, source: Tensor, dice: _Dice) -> Tensor:
        """Filter by a tilt and a few resonances, in the frequency domain."""
        hz = torch.fft.rfftfreq(self.n_samples, 1 / self.sample_rate, device=source.device).clamp_min(20)
        octaves = torch.log2(hz / 1000)
        gain = dice.uniform(-9, 3) * octaves  # dB
        for _ in range(N_RESONANCES):
            distance = (octaves - dice.uniform(-4, 3)) / dice.uniform(0.1, 1)
            gain = gain + dice.uniform(-10, 30) * torch.exp(-(distance**2))
        return torch.fft.irfft(torch.fft.rfft(source) * 10 ** (gain / 20), n=self.n_samples)

    def _envelope(self, time: Tensor, dice: _Dice) -> Tensor:
        """Attack and decay from an onset on, pulsed in half of the events."""
        onset = dice.uniform(-0.5, 0.8) * self.n_samples / self.sample_rate
        rate = 10 ** dice.uniform(0, 1.5)  # pulses a second
        pulsed = torch.where(dice.uniform(0, 1) < 0.5, 0.0, 1.0)
        since = time - onset
        since = torch.where((pulsed > 0) & (since >= 0), torch.remainder(since, 1 / rate), since)
        attack, decay = 10 ** dice.uniform(-3, -0.5), 10 ** dice.uniform(-2, 1)
        after = since.clamp_min(0)
        return (since >= 0) * (1 - torch.exp(-after / attack)) * torch.exp(-after / decay)

    def _room(self, sound: Tensor, time: Tensor, dice: _Dice) -> Tensor:
        """Convolve with exponentially decaying noise."""
        decay = torch.exp(-time * 6.9 / 10 ** dice.uniform(-1.3, 0.3))  # 60 dB in 0.05 to 2 s
        response = dice.noise(self.n_samples) * decay
        response = response / response.square().sum(1, keepdim=True).sqrt()
        n = 2 * self.n_samples
        wet = torch.fft.irfft(torch.fft.rfft(sound, n=n) * torch.fft.rfft(response, n=n), n=n)[:, : self.n_samples]
        share = torch.where(dice.uniform(0, 1) < 0.5, 0.0, dice.uniform(0, 0.7))
        return (1 - share) * sound + share * wet


class _Dice:
    """Draws of one number a crop, [shape=(n_crops, 1)], or of noise."""

    def __init__(self, n_crops: int, generator: torch.Generator) -> None:
        self.n_crops = n_crops
        self.generator = generator

    def uniform(self, low: float, high: float) -> Tensor:
        drawn = torch.rand(self.n_crops, 1, generator=self.generator, device=self.generator.device)
        return drawn * (high - low) + low

    def noise(self, n_samples: int) -> Tensor:
        return torch.randn(self.n_crops, n_samples, generator=self.generator, device=self.generator.device)
