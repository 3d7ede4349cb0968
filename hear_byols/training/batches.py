"""Batches of log-mel crops, made on the device: audio lies there as int16, everything else is computed on the fly."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_byols.frontend import LogMel
from hear_byols.training.distributed import ALONE, World
from hear_byols.training.pool import AudioPool, cut_crops, draw_positions
from hear_byols.training.targets import FIT_ROWS, FeatureScaler

_FITS = 0.5  # share of the device's free memory that audio may take
_CHUNK = 4096  # features that are standardized at a time


class Batch(NamedTuple):
    """One process's part of a batch.

    Args:
        log_mels: float32 [shape=(batch, 1, mel, time)].
        features: standardized, float32; None without targets [shape=(batch, n_features)].
    """

    log_mels: Tensor
    features: Tensor | None


class TeacherFeatures:
    """Positions and standardized features of the crops that have them, on the device in half precision.

    Args:
        positions: int64 [shape=(n_crops, 2)].
        features: raw, float32 [shape=(n_crops, n_features)].
        device: where they are kept.
    """

    def __init__(self, positions: Tensor, features: np.ndarray, device: torch.device) -> None:
        self.standardizer = FeatureScaler.fit(features[:FIT_ROWS])
        self.positions = positions.to(device)
        blocks = (torch.from_numpy(features[i : i + _CHUNK].copy()) for i in range(0, len(features), _CHUNK))
        self.features = torch.cat([self.standardizer(block.to(device)).half() for block in blocks])

    @property
    def n_features(self) -> int:
        """Number of features of a crop."""
        return self.features.shape[1]


class CropSampler:
    """Draws batches: crops of the pool uniform over time, or of those with features.

    Args:
        pool: audio; kept on the device if it takes less than half of the free memory there.
        n_samples: length of a crop in samples.
        device: where batches are made.
        targets: features of the hybrid; crops of the pool are then those that have features.
        world: the processes that share a batch.
    """

    def __init__(
        self,
        pool: AudioPool,
        n_samples: int,
        device: torch.device | str = "cpu",
        targets: TeacherFeatures | None = None,
        world: World = ALONE,
    ) -> None:
        self.device = torch.device(device)
        self.n_samples = n_samples
        self.targets = targets
        self.world = world
        self.log_mel = LogMel().to(self.device)
        audio = torch.from_numpy(pool.audio)
        self._audio = audio.to(self.device) if _fits(audio, self.device) else audio
        self._offsets = torch.from_numpy(pool.offsets).to(self.device)
        self.digest = _digest(pool, targets)

    def draw(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Make this process's part of a batch.

        Args:
            batch_size: of all processes together.
            generator: in the same state in all processes; on the source's device.
        """
        part = self.world.part(batch_size)
        positions, rows = self._draw_positions(batch_size, generator)
        log_mels = self.log_mel(self._cut(positions[part]))[:, None]
        if self.targets is None or rows is None:
            return Batch(log_mels, None)
        return Batch(log_mels, self.targets.features[rows[part]].float())

    def _draw_positions(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Positions, and which rows of the targets they are."""
        if self.targets is None:
            return draw_positions(self._offsets, n, self.n_samples, generator), None
        rows = torch.randint(len(self.targets.positions), (n,), generator=generator, device=self.device)
        return self.targets.positions[rows], rows

    def _cut(self, positions: Tensor) -> Tensor:
        return cut_crops(self._audio, positions.to(self._audio.device), self.n_samples).to(self.device)


def _fits(audio: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return audio.numel() * audio.element_size() < _FITS * free


def _digest(pool: AudioPool, targets: TeacherFeatures | None) -> str:
    """Tells whether two sources draw from the same audio and features."""
    digest = hashlib.sha256(pool.digest.encode() + pool.offsets.tobytes())
    if targets is not None:
        digest.update(targets.positions.cpu().numpy().tobytes() + targets.features[:1].cpu().numpy().tobytes())
    return digest.hexdigest()
