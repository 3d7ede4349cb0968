"""Augmented views of log-mel crops, whole batches at a time on their device (paper, section 2; Niizumi et al. 2021).

An augmentation takes crops [shape=(batch, 1, mel, time)] and :class:`Draws` and returns crops of the same shape; they
compose in any order. One generator drives all draws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hear_byols.frontend import LOG_OFFSET
from hear_byols.training.config import PretrainConfig
from hear_byols.training.distributed import ALONE, Draws, World

SHORTEST_SOUND = 0.5  # share of the frames that silence leaves at least
_CUBIC_A = -0.75  # as torch's bicubic interpolation
_VARIANCE_FLOOR = 1e-6


class MemoryBank:
    """First-in first-out memory of past crops, the background sounds of mixup; on a device, in half precision."""

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
        """The entries at int64 ``indices`` below ``len(self)``, float32."""
        return self._entries[indices].float()

    def state_dict(self) -> dict:
        """Content, for resuming."""
        return {"entries": self._entries, "n_seen": self._n_seen}

    def load_state_dict(self, state: dict) -> None:
        """Restore :meth:`state_dict`."""
        self._entries.copy_(state["entries"])
        self._n_seen = state["n_seen"]


Augmentation = Callable[[Tensor, Draws], Tensor]


@dataclass(frozen=True)
class Mixup:
    """Past inputs in the background."""

    ratio: float  # largest share of background
    memory: MemoryBank  # past inputs, of all processes

    def __call__(self, crops: Tensor, draws: Draws) -> Tensor:
        if not len(self.memory):
            return crops
        indices = draws.uniform(0, len(self.memory)).long().clamp_max(len(self.memory) - 1)
        return log_mixup_exp(crops, self.memory.take(indices), draws.uniform(0, self.ratio))


@dataclass(frozen=True)
class RandomSilence:
    """Leaves a stretch of some crops: a sound that begins or ends.

    Each view has its own stretch: one that both share would tell which views belong together.
    """

    share: float  # of crops of which a random stretch alone is heard
    level: float  # what a log-mel of zeros is, in the crops' unit

    def draw(self, crops: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """First frames that stay and numbers of frames; int64 [shape=(batch,)] each."""
        n_frames = crops.shape[3]
        draws.stretch((1, 1), n_frames, n_frames)  # not used: with it, a seed gives the views that it always gave
        first, number = draws.stretch((SHORTEST_SOUND, 1), n_frames, n_frames)
        draws.chance(0)  # likewise
        whole = ~draws.chance(self.share)
        return first.masked_fill(whole, 0), number.masked_fill(whole, n_frames)

    def __call__(self, crops: Tensor, draws: Draws) -> Tensor:
        first, number = (drawn[:, None] for drawn in self.draw(crops, draws))
        frames = torch.arange(crops.shape[3], device=crops.device)
        heard = (frames >= first) & (frames < first + number)
        return torch.where(heard[:, None, None], crops, self.level)


@dataclass(frozen=True)
class RandomResizeCrop:
    """A random rectangle of each crop, stretched to the crop's size."""

    mel_scale: tuple[float, float]  # smallest and largest height, relative to the crop
    time_scale: tuple[float, float]  # smallest and largest width, likewise
    time_canvas: float  # width of the virtual canvas around the crop, likewise; it is 0 outside of the crop

    def draw(self, crops: Tensor, draws: Draws) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """First bands and numbers of bands; first frames, which may lie outside, and numbers of frames."""
        n_mels, n_frames = crops.shape[2:]
        canvas = int(self.time_canvas * n_frames)
        mel = draws.stretch(self.mel_scale, n_mels, n_mels)
        first_frame, width = draws.stretch(self.time_scale, n_frames, canvas)
        return mel, (first_frame - (canvas - n_frames) // 2, width)

    def __call__(self, crops: Tensor, draws: Draws) -> Tensor:
        mel, time = self.draw(crops, draws)
        n_mels, n_frames = crops.shape[2:]
        rows = resize_weights(*mel, n_mels)
        columns = resize_weights(*time, n_frames)
        return (rows @ crops[:, 0] @ columns.transpose(1, 2))[:, None]


@dataclass(frozen=True)
class RandomLinearFader:
    """Adds a straight line in time: a sound that comes nearer or goes away (Niizumi et al. 2023)."""

    gain: float  # largest, at both ends, in the crops' unit

    def __call__(self, crops: Tensor, draws: Draws) -> Tensor:
        heads, tails = (draws.uniform(-self.gain, self.gain)[:, None] for _ in range(2))
        ramp = torch.linspace(0, 1, crops.shape[3], device=crops.device)
        return crops + torch.lerp(heads, tails, ramp)[:, None, None]


def log_mixup_exp(crops: Tensor, others: Tensor, ratios: Tensor) -> Tensor:
    """Mix log-mels x and y as sounds mix, log((1 - r) exp(x) + r exp(y)); ratios r from 0 to 1 [shape=(batch,)]."""
    ratios = ratios[:, None, None, None]
    return torch.logaddexp(crops + torch.log1p(-ratios), others + torch.log(ratios))


def resize_weights(starts: Tensor, sizes: Tensor, n: int) -> Tensor:
    """Bicubic interpolation along one axis as matrices: [start, start + size) of ``n`` values becomes all ``n``.

    Taps beyond the stretch repeat its edge, as interpolating the cut-out stretch alone would. Taps outside of the input
    have weight 0: the virtual canvas around it is 0.

    Args:
        starts: first positions, may be negative or leave the input behind; int64 [shape=(batch,)].
        sizes: lengths of the stretches, at least 1; likewise.

    Returns:
        float32 [shape=(batch, n, n)].
    """
    device = starts.device
    scale = sizes[:, None].float() / n
    source = (torch.arange(n, device=device) + 0.5) * scale - 0.5  # (batch, n)
    base = source.floor()
    taps = torch.arange(-1, 3, device=device)
    weights = _cubic((source - base)[..., None] - taps)  # (batch, n, 4)
    positions = (base.long()[..., None] + taps).clamp_min(0).minimum(sizes[:, None, None] - 1)
    positions = positions + starts[:, None, None]
    inside = (positions >= 0) & (positions < n)
    matrix = torch.zeros(len(starts), n, n, device=device)
    return matrix.scatter_add_(2, positions.clamp(0, n - 1), weights * inside)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel."""
    d = distance.abs()
    near = ((_CUBIC_A + 2) * d - (_CUBIC_A + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d - 4
    return torch.where(d <= 1, near, torch.where(d < 2, _CUBIC_A * far, torch.zeros_like(d)))


def normalize_batch(crops: Tensor, world: World = ALONE) -> Tensor:
    """Standardize this process's crops by the one mean and standard deviation of the whole batch of all processes."""
    mean = world.mean(crops.mean())
    centred = crops - mean
    count = crops.numel() * world.size
    variance = world.mean(centred.square().mean()) * (count / (count - 1))
    return centred / variance.clamp_min(_VARIANCE_FLOOR).sqrt()


class TwoViews:
    """Two augmented views of every crop of a batch, between pre- and post-normalization.

    Mixup, on request silence, random resize crop, on request a linear fader (section 2; BYOL-A and its version 2).
    ``mean`` and ``std`` are those of the data set's log-mels, ``memory`` takes in the inputs of all processes.
    """

    def __init__(
        self, config: PretrainConfig, mean: float, std: float, memory: MemoryBank, world: World = ALONE
    ) -> None:
        self.mean, self.std = mean, std
        self.memory, self.world = memory, world
        self.augmentations: list[Augmentation] = []
        if config.mixup_ratio:
            self.augmentations.append(Mixup(config.mixup_ratio, memory))
        if config.silence:
            level = (math.log(LOG_OFFSET) - mean) / std
            self.augmentations.append(RandomSilence(config.silence, level))
        self.augmentations.append(RandomResizeCrop(config.mel_scale, config.time_scale, config.time_canvas))
        if config.fader:
            self.augmentations.append(RandomLinearFader(config.fader))

    def __call__(self, log_mels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Make the views of this process's part of the batch, float32 [shape=(batch, 1, mel, time)], and remember it.

        The generator drives all draws; it is on the device of the crops, in the same state in every process.
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
