"""Randomness that is a function of the run's seed and the step, so that a resumed run needs no generator's state."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from hear_byols.training.distributed import ALONE, World


def seeded(generator: torch.Generator, seed: int, step: int, purpose: str = "") -> torch.Generator:
    """Seed a generator for one step.

    Args:
        generator: changed in place.
        seed: of the run.
        step: counts up from 0.
        purpose: draws for different purposes are independent of each other.

    Returns:
        The generator.
    """
    return generator.manual_seed(derived_seed(seed, step, purpose))


def derived_seed(seed: int, step: int, purpose: str = "") -> int:
    """A seed for one step: well mixed, so that neighbouring steps have nothing in common."""
    mixed = np.random.SeedSequence([seed, step, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)[0]
    return int(mixed >> np.uint64(1))  # torch takes signed 64-bit seeds


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
