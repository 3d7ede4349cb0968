"""Randomness that is a function of the run's seed and the step, so that a resumed run needs no generator's state."""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hear_byols.training.distributed import ALONE, World


def seeded(generator: torch.Generator, seed: int, step: int, purpose: str = "") -> torch.Generator:
    """Seed a generator for one step, in place; returns it. Draws for different purposes are independent."""
    return generator.manual_seed(derived_seed(seed, step, purpose))


def derived_seed(seed: int, step: int, purpose: str = "") -> int:
    """A seed for one step: well mixed, so that neighbouring steps have nothing in common."""
    mixed = np.random.SeedSequence([seed, step, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)[0]
    return int(mixed >> np.uint64(1))  # torch takes signed 64-bit seeds


@dataclass(frozen=True)
class Draws:
    """Random numbers, one a crop: drawn for the batch of all processes, of which this one's part is kept."""

    n_crops: int  # of this process
    generator: torch.Generator  # in the same state in every process; on the device of the crops
    world: World = ALONE  # the processes that share the batch

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
