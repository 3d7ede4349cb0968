"""A run of the paper: two views of every crop, BYOL's loss, and for the hybrid features (sections 2, 2.2 and 2.3)."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hear_byols.frontend import LogMel
from hear_byols.training import objective
from hear_byols.training.augmentations import MemoryBank, TwoViews
from hear_byols.training.config import PretrainConfig
from hear_byols.training.distributed import ALONE, World
from hear_byols.training.objective import BYOL_PROJECTION, Byol
from hear_byols.training.pool import AudioPool, cut_crops, draw_positions
from hear_byols.training.targets import FIT_ROWS, FeatureScaler
from hear_byols.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning.fabric import Fabric

STATISTICS_CROPS = 2048  # crops behind the data-set mean and std
_STATISTICS_BATCH = 256
MIXUP_MEMORY = 2048  # past crops that are backgrounds, as in BYOL-A
_FITS = 0.5  # share of the device's free memory that audio may take
_CHUNK = 4096  # features that are standardized at a time


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

    They are made on the device, where the pool's int16 audio is kept if it takes less than half of the free memory.
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

    def draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Make this process's part of a batch of all; the generator is in the same state in all, on :attr:`device`.

        Returns:
            Log-mels, float32 [shape=(batch, 1, mel, time)], and standardized features, float32
            [shape=(batch, n_features)]; None without targets.
        """
        part, targets = self.world.part(batch_size), self.targets
        if targets is None:
            positions, features = draw_positions(self._offsets, batch_size, self.n_samples, generator), None
        else:
            rows = torch.randint(len(targets.positions), (batch_size,), generator=generator, device=self.device)
            positions, features = targets.positions[rows], targets.features[rows[part]].float()
        crops = cut_crops(self._audio, positions[part].to(self._audio.device), self.n_samples)
        return self.log_mel(crops.to(self.device))[:, None], features


class Pretrainer(Trainer[Byol]):
    """BYOL-A, BYOL-S and Hybrid BYOL-S as the paper trains them; other arguments as of :class:`Trainer`.

    Args:
        crops: where batches come from; with targets for the hybrid.
    """

    values = ("loss", "loss_supervised", "loss_self_supervised", "spread")

    def __init__(self, config: PretrainConfig, crops: CropSampler, fabric: Fabric, total_steps: int) -> None:
        self.crops = crops
        super().__init__(config, fabric, total_steps, crops.digest)
        self.mean, self.std, shape = self._measure()
        memory = MemoryBank(MIXUP_MEMORY, shape, self.device)
        self.views = TwoViews(config, self.mean, self.std, memory, self.world)

    def make_network(self) -> Byol:
        targets = self.crops.targets
        size = targets.n_features if targets is not None else BYOL_PROJECTION
        return Byol(self.encoder, size, self.config.head_hidden)

    def _measure(self) -> tuple[float, float, tuple[int, ...]]:
        """Mean and standard deviation of the log-mels, and the shape of a crop."""
        count, total, squares, shape = 0, 0.0, 0.0, ()
        for i in range(-(-STATISTICS_CROPS // _STATISTICS_BATCH)):
            self.seed(i, "statistics")
            n = _STATISTICS_BATCH - _STATISTICS_BATCH % self.world.size
            log_mels, _ = self.crops.draw(n, self._generator)
            values, shape = log_mels.double(), tuple(log_mels.shape[1:])
            count += values.numel() * self.world.size
            total += self.world.mean(values.sum()).item() * self.world.size
            squares += self.world.mean(values.square().sum()).item() * self.world.size
        mean = total / count
        return mean, math.sqrt(max(squares / count - mean * mean, 0.0)), shape

    def step(self) -> Tensor:
        """Train on one batch; see :meth:`Trainer.step`. The supervised loss is NaN without targets."""
        self.begin_step()
        log_mels, features = self.crops.draw(self.config.batch_size, self._generator)
        outputs = self.forward(*self.views(log_mels, self._generator))
        self_supervised = objective.self_supervised_loss(outputs.predictions, outputs.targets)
        loss = self.config.beta * self_supervised
        supervised = torch.full_like(self_supervised, math.nan)
        if features is not None:
            supervised = objective.supervised_loss(outputs.projections, features)
            loss = loss + self.config.alpha * supervised
        self.learn(loss)
        objective.update_momentum(self.network.target, self.network.online, self.config.ema_decay)
        spread = objective.embedding_spread(outputs.embeddings)
        return torch.stack([loss.detach(), supervised.detach(), self_supervised.detach(), spread])

    def extra_state(self) -> dict[str, Any]:
        """Past crops, and the scale of the targets."""
        targets = self.crops.targets
        return {
            "memory": self.views.memory.state_dict(),
            "standardizer": None if targets is None else dict(vars(targets.standardizer)),
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.views.memory.load_state_dict(state["memory"])
        self.views = TwoViews(self.config, self.mean, self.std, self.views.memory, self.world)
