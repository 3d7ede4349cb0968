"""Augmented views of log-mel crops, whole batches at a time on their device (paper, section 2; Niizumi et al. 2021).

An augmentation takes crops and :class:`Draws` and returns crops of the same shape; they compose in any order.
:func:`paper_augmentations` lists those of a run. One generator drives all draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hear_byols.frontend import LOG_OFFSET
from hear_byols.training.config import PretrainConfig
from hear_byols.training.distributed import World
from hear_byols.training.log_mels import (
    ALONE,
    linear_fader,
    log_mixup_exp,
    normalize_batch,
    resize_crop,
    silence_outside,
)

LOWEST_CUTOFF = 0.5  # share of the mel bands that a band-limited crop keeps at least; half of 64 end at 1.9 kHz
SHORTEST_SOUND = 0.5  # share of the frames that silence leaves at least


class MemoryBank:
    """First-in first-out memory of past inputs, the background sounds of mixup.

    Args:
        capacity: number of crops kept; 2048 in BYOL-A.
        shape: of one crop, (1, mel, time).
        device: where the crops are kept, in half precision.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self._entries = torch.zeros((capacity, *shape), dtype=torch.float16, device=device)
        self._n_seen = 0

    def __len__(self) -> int:
        return min(self._n_seen, len(self._entries))

    def push(self, crops: Tensor) -> None:
        """Add crops [shape=(batch, 1, mel, time)]; the oldest make room."""
        crops = crops[-len(self._entries) :]
        positions = (self._n_seen + torch.arange(len(crops), device=crops.device)) % len(self._entries)
        self._entries[positions] = crops.to(self._entries.dtype)
        self._n_seen += len(crops)

    def take(self, indices: Tensor) -> Tensor:
        """Return the entries at int64 ``indices`` below ``len(self)``, float32."""
        return self._entries[indices].float()

    def state_dict(self) -> dict:
        """Content, for resuming."""
        return {"entries": self._entries, "n_seen": self._n_seen}

    def load_state_dict(self, state: dict) -> None:
        """Restore :meth:`state_dict`."""
        self._entries.copy_(state["entries"])
        self._n_seen = state["n_seen"]


class Draws:
    """Random numbers, one a crop: drawn for the batch of all processes, of which this one's part is kept.

    Args:
        n_crops: of this process.
        generator: in the same state in every process; on the device of the crops.
        world: the processes that share the batch.
    """

    def __init__(self, n_crops: int, generator: torch.Generator, world: World = ALONE) -> None:
        self.n_crops = n_crops
        self.generator = generator
        self.world = world

    def uniform(self, low: float, high: float) -> Tensor:
        """Numbers from ``low`` to ``high`` [shape=(n_crops,)]."""
        n = self.n_crops * self.world.size
        drawn = torch.rand(n, generator=self.generator, device=self.generator.device)[self.world.part(n)]
        return drawn * (high - low) + low

    def chance(self, share: float) -> Tensor:
        """True for about ``share`` of the crops [shape=(n_crops,)]."""
        return self.uniform(0, 1) < share

    def stretch(self, scale: tuple[float, float], n: int, canvas: int) -> tuple[Tensor, Tensor]:
        """Positions on a canvas and lengths of ``scale`` times ``n``, at most the canvas; int64 [shape=(n_crops,)]."""
        size = (self.uniform(*scale) * n).long().clamp(1, canvas)
        start = (self.uniform(0, 1) * (canvas - size + 1)).long().minimum(canvas - size)
        return start, size


Augmentation = Callable[[Tensor, Draws], Tensor]


class Mixup:
    """Past inputs in the background.

    Args:
        ratio: largest share of background.
        memory: past inputs, of all processes.
    """

    def __init__(self, ratio: float, memory: MemoryBank) -> None:
        self.ratio = ratio
        self.memory = memory

    def __call__(self, crops: Tensor, draws: Draws) -> Tensor:
        if not len(self.memory):
            return crops
        indices = draws.uniform(0, len(self.memory)).long().clamp_max(len(self.memory) - 1)
        return log_mixup_exp(crops, self.memory.take(indices), draws.uniform(0, self.ratio))


class RandomSilence:
    """A recording of a lower rate, a sound that begins or ends; see :func:`silence_outside`.

    Each view has its own rectangle: one that both share would tell by its shape which views belong together.

    Args:
        band_limit: share of crops that lose the bands above a random one.
        silence: share of crops of which a random stretch alone is heard.
        level: what a log-mel of zeros is, in the crops' unit.
    """

    def __init__(self, band_limit: float, silence: float, level: float) -> None:
        self.band_limit = band_limit
        self.silence = silence
        self.level = level

    def heard(self, crops: Tensor, draws: Draws) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Draw the rectangles: numbers of bands, first frames and numbers of frames."""
        n_mels, n_frames = crops.shape[2:]
        _, n_bands = draws.stretch((LOWEST_CUTOFF, 1), n_mels, n_mels)
        first, number = draws.stretch((SHORTEST_SOUND, 1), n_frames, n_frames)
        full_band = draws.uniform(0, 1) >= self.band_limit
        full_length = draws.uniform(0, 1) >= self.silence
        time = first.masked_fill(full_length, 0), number.masked_fill(full_length, n_frames)
        return n_bands.masked_fill(full_band, n_mels), time

    def __call__(self, crops: Tensor, draws: Draws) -> Tensor:
        return silence_outside(crops, *self.heard(crops, draws), self.level)


class RandomResizeCrop:
    """A random rectangle of each crop, stretched to the crop's size.

    Args:
        mel_scale: smallest and largest height, relative to the crop.
        time_scale: smallest and largest width, relative to the crop.
        time_canvas: width of the virtual canvas around the crop, relative to it.
    """

    def __init__(self, mel_scale: tuple[float, float], time_scale: tuple[float, float], time_canvas: float) -> None:
        self.mel_scale = mel_scale
        self.time_scale = time_scale
        self.time_canvas = time_canvas

    def __call__(self, crops: Tensor, draws: Draws) -> Tensor:
        n_mels, n_frames = crops.shape[2:]
        canvas = int(self.time_canvas * n_frames)
        margin = (canvas - n_frames) // 2
        mel = draws.stretch(self.mel_scale, n_mels, n_mels)
        first_frame, width = draws.stretch(self.time_scale, n_frames, canvas)
        return resize_crop(crops, mel, (first_frame - margin, width))


class RandomLinearFader:
    """A sound that comes nearer or goes away; see :func:`linear_fader`.

    Args:
        gain: largest, at both ends, in the crops' unit.
    """

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def __call__(self, crops: Tensor, draws: Draws) -> Tensor:
        return linear_fader(crops, *(draws.uniform(-self.gain, self.gain) for _ in range(2)))


def paper_augmentations(config: PretrainConfig, memory: MemoryBank, silence_level: float) -> list[Augmentation]:
    """Mixup, on request silence, random resize crop, on request a linear fader (section 2; BYOL-A and its version 2).

    Args:
        config: which of them, and how far they go.
        memory: past inputs for mixup.
        silence_level: what a log-mel of zeros is, in the crops' unit.
    """
    chosen: list[Augmentation] = []
    if config.mixup_ratio:
        chosen.append(Mixup(config.mixup_ratio, memory))
    if config.band_limit or config.silence:
        chosen.append(RandomSilence(config.band_limit, config.silence, silence_level))
    chosen.append(RandomResizeCrop(config.mel_scale, config.time_scale, config.time_canvas))
    if config.fader:
        chosen.append(RandomLinearFader(config.fader))
    return chosen


class TwoViews:
    """Two augmented views of every crop of a batch, between pre- and post-normalization.

    Args:
        augmentations: applied in this order.
        mean: data-set mean of the log-mels.
        std: data-set standard deviation of the log-mels.
        memory: where inputs are remembered, those of all processes.
        world: the processes that share the batch.
    """

    def __init__(
        self,
        augmentations: Sequence[Augmentation],
        mean: float,
        std: float,
        memory: MemoryBank,
        world: World = ALONE,
    ) -> None:
        self.augmentations = augmentations
        self.mean = mean
        self.std = std
        self.memory = memory
        self.world = world

    @classmethod
    def of_run(cls, config: PretrainConfig, mean: float, std: float, memory: MemoryBank, world: World) -> TwoViews:
        """With :func:`paper_augmentations`."""
        level = (math.log(LOG_OFFSET) - mean) / std
        return cls(paper_augmentations(config, memory, level), mean, std, memory, world)

    def __call__(self, log_mels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Make the views and remember the inputs.

        Args:
            log_mels: this process's part of the batch, float32 [shape=(batch, 1, mel, time)].
            generator: drives all draws, in the same state in every process; on the device of the crops.

        Returns:
            Two tensors of the same shape.
        """
        crops = (log_mels - self.mean) / self.std
        draws = Draws(len(crops), generator, self.world)
        views = self._view(crops, draws), self._view(crops, draws)
        self.memory.push(self.world.gather(crops))
        return views

    def _view(self, crops: Tensor, draws: Draws) -> Tensor:
        for augmentation in self.augmentations:
            crops = augmentation(crops, draws)
        return normalize_batch(crops, self.world)
