"""One training run: everything that changes during it, and one step of it (paper, sections 2, 2.2 and 2.3)."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hear_byols.errors import CheckpointError
from hear_byols.training.batches import CropSource
from hear_byols.training.config import FREE_ON_RESUME, PretrainConfig
from hear_byols.training.distributed import Team, synchronise_batch_norm
from hear_byols.training.heads import BYOL_PROJECTION
from hear_byols.training.initial import initial_encoder, start_as_identity
from hear_byols.training.objective import Byol, embedding_spread, self_supervised_loss, supervised_loss, update_target
from hear_byols.training.randomness import derived_seed, seeded
from hear_byols.training.views import MixupMemory, ViewMaker

if TYPE_CHECKING:
    from lightning.fabric import Fabric

VALUES = ("loss", "loss_supervised", "loss_self_supervised", "spread")
STATISTICS_CROPS = 2048  # crops behind the data-set mean and std
_STATISTICS_BATCH = 256


class Pretrainer:
    """A run on one or several processes.

    Args:
        config: the run.
        crops: where batches come from; with targets for the hybrid.
        fabric: launched; decides on device, precision and processes.
        total_steps: length of the run, which the learning-rate schedule follows.
        encoder: to train instead of a fresh one of ``config.encoder``.
    """

    def __init__(
        self,
        config: PretrainConfig,
        crops: CropSource,
        fabric: Fabric,
        total_steps: int,
        encoder: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.crops = crops
        self.fabric = fabric
        self.device = fabric.device
        self.team = Team(fabric.global_rank, fabric.world_size)
        self.total_steps = total_steps
        self.n_steps = 0
        self.seconds = 0.0  # of training, over all sittings
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(config.seed, 0, "weights"))
            encoder = encoder or initial_encoder(config.encoder)
            self.byol = Byol(encoder, self._projection_size(), config.head_hidden).to(self.device)
        if self.team.size > 1:
            synchronise_batch_norm(self.byol, self.device)
        if config.compile:
            self.byol.online.compile()
            self.byol.target.compile()
        groups = by_rate(self.byol.online.encoder, config.rate_fan_in)
        heads = [*self.byol.online.projector.parameters(), *self.byol.predictor.parameters()]
        groups.setdefault(1.0, []).extend(heads)
        self._rates = list(groups)
        trained = [{"params": parameters} for parameters in groups.values()]
        self.optimizer = torch.optim.Adam(trained, lr=config.learning_rate, fused=self.device.type in ("cpu", "cuda"))
        self._module, self._optimizer = fabric.setup(self.byol, self.optimizer)
        self._generator = torch.Generator(self.device)
        self._own_generator = torch.Generator(self.device)
        self.mean, self.std, shape = self._measure()
        if config.identity_norm:
            self._start_as_identity()
        memory = MixupMemory(config.mixup_memory, shape, self.device)
        self.views = ViewMaker(config, self.mean, self.std, memory, self.team)

    def _projection_size(self) -> int:
        if self.crops.targets is not None:
            return self.crops.targets.n_features
        return self.config.projection_size or BYOL_PROJECTION

    def _measure(self) -> tuple[float, float, tuple[int, ...]]:
        """Mean and standard deviation of the log-mels, and the shape of a crop."""
        count, total, squares = 0, 0.0, 0.0
        for i in range(-(-STATISTICS_CROPS // _STATISTICS_BATCH)):
            self._seed(i, "statistics")
            n = _STATISTICS_BATCH - _STATISTICS_BATCH % self.team.size
            log_mels = self.crops.draw(n, self._generator, self._own_generator).log_mels
            values = log_mels.double()
            count += values.numel() * self.team.size
            total += self.team.mean(values.sum()).item() * self.team.size
            squares += self.team.mean(values.square().sum()).item() * self.team.size
        mean = total / count
        return mean, math.sqrt(max(squares / count - mean * mean, 0.0)), tuple(log_mels.shape[1:])

    def _start_as_identity(self) -> None:
        self._seed(0, "batch norm")
        log_mels = self.crops.draw(self.config.batch_size, self._generator, self._own_generator).log_mels
        online, target = self.byol.online.encoder, self.byol.target.encoder
        start_as_identity(online, (log_mels - self.mean) / self.std, self.team)
        target.load_state_dict(online.state_dict())

    def _seed(self, step: int, purpose: str = "") -> None:
        seeded(self._generator, self.config.seed, step, purpose)
        seeded(self._own_generator, self.config.seed, step, f"{purpose} rank {self.team.rank}")

    def step(self) -> Tensor:
        """Train on one batch.

        Returns:
            :data:`VALUES` of this process's part of the batch, on the device, so that nothing waits for them; the
            supervised loss is NaN without targets [shape=(4,)].
        """
        rate = self.config.rate(self.n_steps, self.total_steps)
        for group, share in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self._seed(self.n_steps)
        batch = self.crops.draw(self.config.batch_size, self._generator, self._own_generator)
        views = self.views(batch.log_mels, self._generator)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derived_seed(self.config.seed, self.n_steps, f"dropout rank {self.team.rank}"))
            outputs = self._module(*views)
        self_supervised = self_supervised_loss(outputs.predictions, outputs.targets)
        loss = self.config.beta * self_supervised
        supervised = torch.full_like(self_supervised, math.nan)
        if batch.features is not None:
            supervised = supervised_loss(outputs.projections, batch.features, batch.weights)
            loss = loss + self.config.alpha * supervised
        self._optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self._optimizer.step()
        update_target(self.byol.target, self.byol.online, self.config.ema_decay)
        self.n_steps += 1
        spread = embedding_spread(outputs.embeddings)
        return torch.stack([loss.detach(), supervised.detach(), self_supervised.detach(), spread])

    @property
    def is_finite(self) -> bool:
        """Whether all weights are numbers."""
        norms = torch._foreach_norm([p.detach() for p in self.byol.online.parameters()])
        return bool(torch.stack(norms).isfinite().all())

    def state_dict(self) -> dict:
        """Everything that :meth:`load_state_dict` needs to go on as if never stopped."""
        targets = self.crops.targets
        return {
            "config": dataclasses.asdict(self.config),
            "total_steps": self.total_steps,
            "data": self.crops.digest,
            "byol": self.byol.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "memory": self.views.memory.state_dict(),
            "statistics": [self.mean, self.std],
            "standardizer": None if targets is None else dict(vars(targets.standardizer)),  # the scale of the targets
            "n_steps": self.n_steps,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            CheckpointError: the state belongs to a run with other settings or data.
        """
        self._refuse_other_run(state)
        self.byol.load_state_dict(state["byol"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.views.memory.load_state_dict(state["memory"])
        self.mean, self.std = self.views.mean, self.views.std = state["statistics"]
        self.n_steps, self.seconds = state["n_steps"], state["seconds"]

    def _refuse_other_run(self, state: dict) -> None:
        free = FREE_ON_RESUME | ({"steps", "epochs"} if self._begins_like(state) else set())
        given = dataclasses.asdict(self.config)
        # An option that is younger than the saved run was at its default.
        saved = dataclasses.asdict(PretrainConfig()) | state["config"]
        for name in given.keys() - free:
            if saved[name] != given[name]:
                raise CheckpointError(
                    f"the run to be continued has {name}={saved[name]!r}, this one {given[name]!r}; "
                    "use its settings, or another output folder"
                )
        if state["data"] != self.crops.digest:
            raise CheckpointError("the run to be continued was on other data or features; use another output folder")

    def _begins_like(self, state: dict) -> bool:
        """Whether a run of this length would have had the learning rates that the saved one has had so far."""
        old, new, n_steps = state["total_steps"], self.total_steps, state["n_steps"]
        rate = self.config.rate
        return n_steps <= new and all(rate(step, old) == rate(step, new) for step in range(n_steps))

    def encoder_state(self) -> dict[str, Tensor]:
        """The online encoder's state dict, the product of pre-training."""
        return self.byol.online.encoder.state_dict()


def by_rate(module: nn.Module, fan_in: int) -> dict[float, list[nn.Parameter]]:
    """Trained parameters by their share of the learning rate (Yang et al. 2022, Tensor Programs V, table 3).

    A step of Adam moves each weight by about the rate, and all of a layer's together in few directions; so the wider a
    layer, the more a step outweighs its random start, and the fewer directions its outputs keep.

    Args:
        module: the encoder.
        fan_in: inputs of a layer up to which its weights learn at the full rate; wider ones learn at a rate in inverse
            proportion. 0: all at the full rate.

    Returns:
        For each share of the rate, in (0, 1], its parameters.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 1
        groups.setdefault(min(1.0, fan_in / inputs) if fan_in else 1.0, []).append(parameter)
    return groups
