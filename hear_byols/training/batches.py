"""Batches of log-mel crops, made on the device: audio lies there as int16, everything else is computed on the fly."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_byols.frontend import LogMel
from hear_byols.training.distributed import Team
from hear_byols.training.pool import AudioPool, cut_crops, draw_places
from hear_byols.training.targets import FIT_ROWS, Standardizer

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


class Targets:
    """Places and standardized features of the crops that have them, on the device in half precision.

    Args:
        places: int64 [shape=(n_crops, 2)].
        features: raw, float32 [shape=(n_crops, n_features)].
        device: where they are kept.
    """

    def __init__(self, places: Tensor, features: np.ndarray, device: torch.device) -> None:
        self.standardizer = Standardizer.fit(features[:FIT_ROWS])
        self.places = places.to(device)
        blocks = (torch.from_numpy(features[i : i + _CHUNK].copy()) for i in range(0, len(features), _CHUNK))
        self.features = torch.cat([self.standardizer(block.to(device)).half() for block in blocks])

    @property
    def n_features(self) -> int:
        """Number of features of a crop."""
        return self.features.shape[1]


class CropSource:
    """Draws batches: crops of the pool uniform over time, or of those with features.

    Args:
        pool: audio; kept on the device if it takes less than half of the free memory there.
        n_samples: length of a crop in samples.
        device: where batches are made.
        targets: features of the hybrid; crops of the pool are then those that have features.
        team: the processes that share a batch.
    """

    def __init__(
        self,
        pool: AudioPool,
        n_samples: int,
        device: torch.device | str = "cpu",
        targets: Targets | None = None,
        team: Team | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.n_samples = n_samples
        self.targets = targets
        self.team = team or Team()
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
        part = self.team.part(batch_size)
        places, rows = self._draw_places(batch_size, generator)
        log_mels = self.log_mel(self._cut(places[part]))[:, None]
        if self.targets is None or rows is None:
            return Batch(log_mels, None)
        return Batch(log_mels, self.targets.features[rows[part]].float())

    def _draw_places(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Places, and which rows of the targets they are."""
        if self.targets is None:
            return draw_places(self._offsets, n, self.n_samples, generator), None
        rows = torch.randint(len(self.targets.places), (n,), generator=generator, device=self.device)
        return self.targets.places[rows], rows

    def _cut(self, places: Tensor) -> Tensor:
        return cut_crops(self._audio, places.to(self._audio.device), self.n_samples).to(self.device)


def _fits(audio: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return audio.numel() * audio.element_size() < _FITS * free


def _digest(pool: AudioPool, targets: Targets | None) -> str:
    """Tells whether two sources draw from the same audio and features."""
    digest = hashlib.sha256(pool.digest.encode() + pool.offsets.tobytes())
    if targets is not None:
        digest.update(targets.places.cpu().numpy().tobytes() + targets.features[:1].cpu().numpy().tobytes())
    return digest.hexdigest()
