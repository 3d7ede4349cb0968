"""A run of the paper: two views of every crop, BYOL's loss, and for the hybrid features (sections 2, 2.2 and 2.3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hear_byols.encoders.multilayer import MultilayerEncoder
from hear_byols.training import objective
from hear_byols.training.augmentations import MemoryBank, TwoViews
from hear_byols.training.batches import CropSampler
from hear_byols.training.config import PretrainConfig
from hear_byols.training.initial import initial_encoder
from hear_byols.training.objective import BYOL_PROJECTION, Byol
from hear_byols.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning.fabric import Fabric

STATISTICS_CROPS = 2048  # crops behind the data-set mean and std
_STATISTICS_BATCH = 256
MIXUP_MEMORY = 2048  # past crops that are backgrounds, as in BYOL-A


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

    def make_network(self) -> tuple[Byol, MultilayerEncoder]:
        """Online network, prediction head and target; the online encoder."""
        encoder = initial_encoder(self.config.encoder, self.config.init)
        targets = self.crops.targets
        size = targets.n_features if targets is not None else BYOL_PROJECTION
        return Byol(encoder, size, self.config.head_hidden), encoder

    def _measure(self) -> tuple[float, float, tuple[int, ...]]:
        """Mean and standard deviation of the log-mels, and the shape of a crop."""
        count, total, squares, shape = 0, 0.0, 0.0, ()
        for i in range(-(-STATISTICS_CROPS // _STATISTICS_BATCH)):
            self.seed(i, "statistics")
            n = _STATISTICS_BATCH - _STATISTICS_BATCH % self.world.size
            log_mels = self.crops.draw(n, self._generator).log_mels
            values, shape = log_mels.double(), tuple(log_mels.shape[1:])
            count += values.numel() * self.world.size
            total += self.world.mean(values.sum()).item() * self.world.size
            squares += self.world.mean(values.square().sum()).item() * self.world.size
        mean = total / count
        return mean, math.sqrt(max(squares / count - mean * mean, 0.0)), shape

    def step(self) -> Tensor:
        """Train on one batch; see :meth:`Trainer.step`. The supervised loss is NaN without targets."""
        self.begin_step()
        batch = self.crops.draw(self.config.batch_size, self._generator)
        outputs = self.forward(*self.views(batch.log_mels, self._generator))
        self_supervised = objective.self_supervised_loss(outputs.predictions, outputs.targets)
        loss = self.config.beta * self_supervised
        supervised = torch.full_like(self_supervised, math.nan)
        if batch.features is not None:
            supervised = objective.supervised_loss(outputs.projections, batch.features)
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
