"""Batches of log-mel crops, made on the device: audio lies there as int16, everything else is computed on the fly."""

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
    """One process's part of a batch."""

    log_mels: Tensor  # float32 [shape=(batch, 1, mel, time)]
    features: Tensor | None  # standardized, float32; None without targets [shape=(batch, n_features)]


class TeacherFeatures:
    """Positions and standardized features of the crops that have them, on a device in half precision.

    They are made of int64 positions [shape=(n_crops, 2)] and raw float32 features [shape=(n_crops, n_features)].
    """

    def __init__(self, positions: Tensor, features: np.ndarray, device: torch.device) -> None:
        self.standardizer = FeatureScaler.fit(features[:FIT_ROWS])
        self.positions = positions.to(device)
        blocks = (torch.from_numpy(features[i : i + _CHUNK].copy()) for i in range(0, len(features), _CHUNK))
        self.features = torch.cat([self.standardizer(block.to(device)).half() for block in blocks])
        self.n_features = features.shape[1]


class CropSampler:
    """Draws batches of crops of ``n_samples``: uniform over the pool's time, or with targets those that have features.

    They are made on the device, where the pool's audio is kept if it takes less than half of the free memory.
    """

    def __init__(
        self,
        pool: AudioPool,
        n_samples: int,
        device: torch.device | str = "cpu",
        targets: TeacherFeatures | None = None,
        world: World = ALONE,
    ) -> None:
        self.n_samples, self.targets, self.world = n_samples, targets, world
        self.device = torch.device(device)
        self.log_mel = LogMel().to(self.device)
        self._audio = torch.from_numpy(pool.audio)
        if self.device.type == "cuda" and pool.audio.nbytes < _FITS * torch.cuda.mem_get_info(self.device)[0]:
            self._audio = self._audio.to(self.device)
        self._offsets = torch.from_numpy(pool.offsets).to(self.device)
        digest = hashlib.sha256(pool.digest.encode() + pool.offsets.tobytes())
        if targets is not None:
            digest.update(targets.positions.cpu().numpy().tobytes() + targets.features[:1].cpu().numpy().tobytes())
        self.digest = digest.hexdigest()  # tells whether two draw from the same audio and features

    def draw(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Make this process's part of a batch of all; the generator is in the same state in all, on :attr:`device`."""
        part, targets = self.world.part(batch_size), self.targets
        if targets is None:
            positions, features = draw_positions(self._offsets, batch_size, self.n_samples, generator), None
        else:
            rows = torch.randint(len(targets.positions), (batch_size,), generator=generator, device=self.device)
            positions, features = targets.positions[rows], targets.features[rows[part]].float()
        return Batch(self.log_mel(self._cut(positions[part]))[:, None], features)

    def _cut(self, positions: Tensor) -> Tensor:
        return cut_crops(self._audio, positions.to(self._audio.device), self.n_samples).to(self.device)
