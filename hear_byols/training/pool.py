"""The pool of audio that crops are drawn from: clips at 16 kHz, end to end in one memory-mapped int16 array.

Crops are drawn uniformly over *time*, not over files, so an hour-long recording is not outvoted by a thousand
one-second clips (paper, section 2: random 96-frame segments).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hear_byols.errors import InputError
from hear_byols.training.config import MAX_CROP_SAMPLES, SAMPLE_RATE


@dataclass(frozen=True)
class AudioPool:
    """Clips laid end to end, and as many zeros behind them as the longest crop has samples."""

    audio: np.ndarray  # int16 samples, usually memory-mapped [shape=(n_samples,)]
    offsets: np.ndarray  # int64 first sample of each clip, and the end of the last one [shape=(n_clips + 1,)]
    sources: np.ndarray  # for each clip, the index of its shard, folder or list in source_names [shape=(n_clips,)]
    source_names: tuple[str, ...]  # without their path
    skipped: tuple[str, ...] = ()  # what was left out, and why, one line a file
    digest: str = ""  # of the samples and of where clips end, so that it stays when files move
    folder: Path | None = None  # of the cache behind the pool, which other processes can open; None: it is in memory

    @classmethod
    def open(cls, cache: str | os.PathLike[str]) -> AudioPool:
        """Open the pool in a cache folder, its samples memory-mapped.

        Raises:
            InputError: there is none, or it is damaged.
        """
        cache = Path(cache)
        try:
            index = json.loads((cache / "index.json").read_text(encoding="utf-8"))
            pool = cls(
                audio=np.load(cache / "audio.npy", mmap_mode="c"),  # never written to; torch warns if it cannot be
                offsets=np.concatenate([[0], np.cumsum(index["lengths"], dtype=np.int64)]),
                sources=np.array(index["sources"], dtype=np.int64),
                source_names=tuple(index["source_names"]),
                skipped=tuple(index["skipped"]),
                digest=index["digest"],
                folder=cache,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{cache} holds no whole pool of audio ({error}); remove it to have it made again"
            raise InputError(message) from error
        n_samples = pool.offsets[-1] + MAX_CROP_SAMPLES
        if len(pool.audio) != n_samples:
            fault = f"{cache / 'audio.npy'} has {len(pool.audio)} samples, its index says {n_samples}"
            raise InputError(f"{fault}; remove {cache}, it is made again")
        return pool

    @classmethod
    def from_clips(cls, clips: Sequence[np.ndarray]) -> AudioPool:
        """Lay int16 clips [shape=(n_samples,) each] that are in memory end to end."""
        tail = np.zeros(MAX_CROP_SAMPLES, dtype=np.int16)
        offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips], dtype=np.int64)])
        sources = np.zeros(len(clips), dtype=np.int64)
        return cls(np.concatenate([*clips, tail]), offsets, sources, ("clips",))

    def source_hours(self) -> dict[str, float]:
        """Hours of audio of each source; of those of one name together."""
        samples = np.bincount(self.sources, weights=np.diff(self.offsets), minlength=len(self.source_names))
        hours = dict.fromkeys(self.source_names, 0.0)
        for name, n in zip(self.source_names, samples, strict=True):
            hours[name] += float(n) / SAMPLE_RATE / 3600
        return hours


def draw_positions(offsets: Tensor, n_crops: int, n_samples: int, generator: torch.Generator) -> Tensor:
    """Draw positions for crops, uniform over all positions at which a crop fits into its clip.

    A clip has the weight of its duration. One shorter than the crop has one place, at its beginning. The pool's offsets
    [shape=(n_clips + 1,)] are on the generator's device.

    Returns:
        int64 [shape=(n_crops, 2)]: the crop's first sample in the pool, and the end of its clip.
    """
    device = offsets.device
    moments = (torch.rand(n_crops, generator=generator, device=device, dtype=torch.float64) * offsets[-1]).long()
    return draw_within(offsets, torch.searchsorted(offsets, moments, right=True) - 1, n_samples, generator)


def draw_within(offsets: Tensor, clips: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
    """Draw a position in each of some clips, int64 [shape=(n_crops,)]; as :func:`draw_positions`."""
    firsts, stops = offsets[clips], offsets[clips + 1]
    room = (stops - firsts - n_samples).clamp_min(0) + 1
    shares = torch.rand(len(clips), generator=generator, device=offsets.device, dtype=torch.float64)
    return torch.stack([firsts + (shares * room).long().minimum(room - 1), stops], dim=1)


def cut_crops(audio: Tensor, positions: Tensor, n_samples: int) -> Tensor:
    """Cut crops out of a pool's audio, at :func:`draw_positions`; beyond the end of its clip a crop is 0.

    From int16 [shape=(n,)] to float32 in [-1, 1] [shape=(n_crops, n_samples)].
    """
    firsts, stops = positions.unbind(1)
    crops = audio.unfold(0, n_samples, 1)[firsts].float() / 32768
    positions = torch.arange(n_samples, device=audio.device)
    return torch.where(positions < (stops - firsts)[:, None], crops, 0)
