"""Randomness that is a function of the run's seed and the step, so that a resumed run needs no generator's state."""

from __future__ import annotations

import zlib

import numpy as np
import torch


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
