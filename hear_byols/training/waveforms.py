"""Augmented waveforms that teachers and student hear alike (Beyer et al. 2022: consistent teaching).

A crop is played at another speed, mixed with a second one, put into a room, limited in bandwidth, surrounded by
silence, brought to a level and given a noise floor. Whole batches at a time, on their device; one generator drives all
draws, so that a seed makes the same crops again.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_byols.training.config import SAMPLE_RATE
from hear_byols.training.distributed import Draws

_QUIET = 1e-4  # peaks below are silence and are not raised
_FIRST_ECHO = 0.002  # s; the direct sound stands alone up to here


@dataclass(frozen=True)
class WaveformAugmentation:
    """How often and how far crops are changed; shares are of the crops of a batch."""

    speed_share: float = 0.4  # played faster or slower, which moves pitch too
    speed: tuple[float, float] = (0.8, 1.25)  # slowest and fastest
    mix_share: float = 0.5  # mixed with another crop
    mix_db: tuple[float, float] = (0.0, 25.0)  # by how much that is weaker at least and at most, in dB of their RMS
    room_share: float = 0.15  # heard in a room
    room_seconds: tuple[float, float] = (0.1, 0.8)  # shortest and longest reverberation time
    band_share: float = 0.2  # limited to a band from below or above, as by telephones and cheap microphones
    burst_share: float = 0.15  # a stretch of the crop alone, silence around it
    burst_seconds: float = 0.1  # shortest stretch
    level_db: tuple[float, float] = (-20.0, -1.0)  # lowest and highest peak, in dB of full scale
    noise_db: tuple[float, float] = (-110.0, -50.0)  # lowest and highest white noise floor, likewise

    def n_source_samples(self, n_samples: int) -> int:
        """Samples of the recording that a crop of ``n_samples`` may need at the fastest speed."""
        return math.ceil(n_samples * self.speed[1]) + 2

    def __call__(self, crops: Tensor, others: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """Make augmented crops, float32 in [-1, 1] [shape=(batch, n_samples)], by a generator on their device.

        Args:
            crops: recordings, float32 [shape=(batch, >= n_source_samples(n_samples))].
            others: recordings to mix in, same shape.
            n_samples: of the result.
            generator: of all draws.
        """
        draw = Draws(len(crops), generator)
        sounds, backgrounds = self._play(crops, n_samples, draw), self._play(others, n_samples, draw)
        sounds = self._mix(sounds, backgrounds, draw)
        for change in (self._filter, self._burst, self._level):
            sounds = change(sounds, draw)
        noise = torch.randn(sounds.shape, generator=generator, device=crops.device)
        floor = 10 ** (draw.uniform(*self.noise_db) / 20)
        return (sounds + noise * floor[:, None]).clamp(-1, 1)

    def _play(self, crops: Tensor, n_samples: int, draw: Draws) -> Tensor:
        low, high = math.log(self.speed[0]), math.log(self.speed[1])
        speed = torch.where(draw.chance(self.speed_share), draw.uniform(low, high).exp(), 1.0)
        return resample(crops, speed, n_samples)

    def _mix(self, sounds: Tensor, backgrounds: Tensor, draw: Draws) -> Tensor:
        ratio = rms(sounds) / rms(backgrounds).clamp_min(_QUIET) * 10 ** (-draw.uniform(*self.mix_db) / 20)
        mixed = draw.chance(self.mix_share) & (rms(sounds) > _QUIET)
        return sounds + backgrounds * torch.where(mixed, ratio.clamp_max(100), 0.0)[:, None]

    def _filter(self, sounds: Tensor, draw: Draws) -> Tensor:
        """Room and band limits in one pass through the frequency domain, for the crops that have one of them."""
        in_room, limited = draw.chance(self.room_share), draw.chance(self.band_share)
        seconds = draw.uniform(*self.room_seconds)
        wet = draw.uniform(0.2, 1.0)
        from_above = draw.chance(0.75)
        high_cut = (draw.uniform(math.log(1200), math.log(7000))).exp()
        low_cut = (draw.uniform(math.log(80), math.log(800))).exp()
        n_tail = int(self.room_seconds[1] * SAMPLE_RATE)
        n_fft = 1 << (sounds.shape[1] + n_tail - 1).bit_length()
        noise = torch.randn(len(sounds), n_tail, generator=draw.generator, device=sounds.device)
        changed = in_room | limited
        rows = torch.arange(len(sounds), device=sounds.device)
        if sounds.is_cpu:  # a GPU would have to be waited for, and has them all filtered sooner
            rows = rows[changed]
            if not len(rows):
                return sounds
        response = torch.fft.rfft(_impulse(noise[rows], seconds[rows], torch.where(in_room, wet, 0.0)[rows]), n_fft)
        hertz = torch.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1, device=sounds.device).clamp_min(1)
        below = torch.where(limited & from_above, high_cut, SAMPLE_RATE)[rows, None]
        above = torch.where(limited & ~from_above, low_cut, 0.0)[rows, None]
        gain = torch.sigmoid((below / hertz).log() * 12) * torch.sigmoid((hertz / above.clamp_min(1e-3)).log() * 6)
        filtered = torch.fft.irfft(torch.fft.rfft(sounds[rows], n_fft) * response * gain, n_fft)
        filtered = sounds.index_copy(0, rows, filtered[:, : sounds.shape[1]])
        return filtered if sounds.is_cpu else torch.where(changed[:, None], filtered, sounds)

    def _burst(self, sounds: Tensor, draw: Draws) -> Tensor:
        n = sounds.shape[1]
        length = (draw.uniform(self.burst_seconds * SAMPLE_RATE, n)).clamp_max(n)
        length = torch.where(draw.chance(self.burst_share), length, float(n))
        first = draw.uniform(0, 1) * (n - length)
        positions = torch.arange(n, device=sounds.device)
        inside = (positions >= first[:, None]) & (positions < (first + length)[:, None])
        return sounds * inside

    def _level(self, sounds: Tensor, draw: Draws) -> Tensor:
        peaks = sounds.abs().amax(1)
        gain = 10 ** (draw.uniform(*self.level_db) / 20) / peaks.clamp_min(_QUIET)
        return sounds * gain[:, None]


def rms(sounds: Tensor) -> Tensor:
    """Root mean square of each crop: [shape=(batch, n_samples)] -> [shape=(batch,)]."""
    return sounds.square().mean(1).sqrt()


def resample(sounds: Tensor, speeds: Tensor, n_samples: int) -> Tensor:
    """Play each crop at its own speed by linear interpolation: (batch, n > n_samples * speed) -> (batch, n_samples).

    Crops of speed 1 are cut, unchanged.
    """
    positions = torch.arange(n_samples, device=sounds.device, dtype=torch.float64) * speeds[:, None].double()
    base = positions.long()
    share = (positions - base).float()
    return torch.lerp(sounds.gather(1, base), sounds.gather(1, base + 1), share)


def _impulse(noise: Tensor, seconds: Tensor, wet: Tensor) -> Tensor:
    """Impulse responses: the direct sound, and noise that falls by 60 dB in ``seconds``, ``wet`` in RMS beside it."""
    times = torch.arange(noise.shape[1], device=noise.device) / SAMPLE_RATE
    tail = noise * torch.exp(-math.log(1000) * times / seconds[:, None]) * (times >= _FIRST_ECHO)
    tail = tail * (wet / tail.square().sum(1).sqrt().clamp_min(1e-9))[:, None]
    return tail + F.one_hot(torch.zeros(len(noise), dtype=torch.long, device=noise.device), noise.shape[1])
