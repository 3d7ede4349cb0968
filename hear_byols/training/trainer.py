"""What all training runs have in common: weights, optimizer, progress, and a state from which they go on exactly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from hear_byols.encoders import build_encoder
from hear_byols.encoders.multilayer import MultilayerEncoder
from hear_byols.errors import CheckpointError, OptionError
from hear_byols.hear import load_model
from hear_byols.training.config import FREE_ON_RESUME, PretrainConfig
from hear_byols.training.distributed import World, derived_seed, seeded, synchronize_batch_norm

if TYPE_CHECKING:
    from lightning.fabric import Fabric

FORGET_BIAS = 2.0  # a gate of 0.88: what an LSTM saw is half gone after five steps; with torch's 0 after one
Network = TypeVar("Network", bound=nn.Module)


class Trainer(Generic[Network]):
    """A run on one or several processes; subclasses make the network and take the steps.

    Args:
        config: of the run.
        fabric: launched; decides on device, precision and processes.
        total_steps: length of the run, which the learning-rate schedule follows.
        data: digest of what the run learns from.
    """

    values: tuple[str, ...]  # of a step, for the log; the first is the loss
    mean: float  # of the log-mels
    std: float

    def __init__(self, config: PretrainConfig, fabric: Fabric, total_steps: int, data: str) -> None:
        self.config, self.total_steps, self.data = config, total_steps, data
        self.fabric, self.device = fabric, fabric.device
        self.world = World(fabric.global_rank, fabric.world_size)
        self.n_steps = 0
        self.seconds = 0.0  # of training, over all sittings
        self._generator = torch.Generator(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(config.seed, 0, "weights"))
            self.encoder = initial_encoder(config.encoder, config.init)
            self.network = self.make_network().to(self.device)
        if self.world.size > 1:
            synchronize_batch_norm(self.network, self.device)
        if config.compile:
            self.network.compile()
        shares = by_rate(self.network, self.encoder, config.rate_fan_in)
        self._rates = list(shares)
        groups = [{"params": parameters} for parameters in shares.values()]
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay, fused=fused)
        self._module, self._optimizer = fabric.setup(self.network, self.optimizer)

    def make_network(self) -> Network:
        """Everything that is trained or follows what is trained, around the online encoder, the run's product."""
        raise NotImplementedError

    def checkpoint_head(self) -> nn.Linear | None:
        """What the encoder's checkpoint holds besides it: the linear map to ``layers="heads"``."""
        return None

    def step(self) -> Tensor:
        """Train on one batch; returns :attr:`values` of this process's part, on the device: nothing waits for them."""
        raise NotImplementedError

    def begin_step(self) -> None:
        """Set the learning rate and the seeds of the step."""
        rate = self.config.rate(self.n_steps, self.total_steps)
        for group, share in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self.seed(self.n_steps)

    def seed(self, step: int, purpose: str = "") -> None:
        """Seed the generator, alike in all processes."""
        seeded(self._generator, self.config.seed, step, purpose)

    def forward(self, *inputs: Any) -> Any:
        """Run the network; dropout is a function of step and process."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derived_seed(self.config.seed, self.n_steps, f"dropout rank {self.world.rank}"))
            return self._module(*inputs)

    def learn(self, loss: Tensor) -> None:
        """Take the optimizer's step."""
        self._optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.config.clip_norm:
            limits = {"max_norm": self.config.clip_norm, "error_if_nonfinite": False}  # the loop looks at the weights
            self.fabric.clip_gradients(self._module, self._optimizer, **limits)
        self._optimizer.step()
        self.n_steps += 1

    @property
    def is_finite(self) -> bool:
        """Whether all trained weights are numbers."""
        norms = torch._foreach_norm([p.detach() for p in self.network.parameters() if p.requires_grad])  # pyright: ignore
        return bool(torch.stack(norms).isfinite().all())

    def extra_state(self) -> dict[str, Any]:
        """What else the subclass needs to go on."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`extra_state`."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that :meth:`load_state_dict` needs to go on as if never stopped."""
        return {
            "config": dataclasses.asdict(self.config),
            "total_steps": self.total_steps,
            "data": self.data,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "statistics": [self.mean, self.std],
            "n_steps": self.n_steps,
            "seconds": self.seconds,
            **self.extra_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            CheckpointError: the state belongs to a run with other settings or data, or is not whole.
        """
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise CheckpointError(f"the state of a run lacks {', '.join(sorted(missing))}; remove it")
        self._refuse_other_run(state)
        self.network.load_state_dict({_present_name(key): value for key, value in state["network"].items()})
        self.optimizer.load_state_dict(state["optimizer"])
        self.mean, self.std = state["statistics"]
        self.n_steps, self.seconds = state["n_steps"], state["seconds"]
        self.load_extra_state(state)

    def _refuse_other_run(self, state: dict[str, Any]) -> None:
        # An option that is younger than the saved run was at its default; one that is gone has no effect.
        fields = PretrainConfig.__dataclass_fields__
        saved = PretrainConfig(**{name: value for name, value in state["config"].items() if name in fields})
        n_steps, total = state["n_steps"], state["total_steps"]
        rates = ((saved.rate(step, total), self.config.rate(step, self.total_steps)) for step in range(n_steps))
        free = FREE_ON_RESUME
        if n_steps <= self.total_steps and all(old == new for old, new in rates):  # at the same rates so far
            free |= {"steps", "epochs", "restarts"}
        for name in (name for name in fields if name not in free):
            old, new = getattr(saved, name), getattr(self.config, name)
            if old != new:
                differ = f"the run to be continued has {name}={old!r}, this one {new!r}"
                raise CheckpointError(f"{differ}; use its settings, or another output folder")
        if state["data"] != self.data:
            raise CheckpointError("the run to be continued was on other data or features; use another output folder")


def initial_encoder(name: str, init: str = "") -> MultilayerEncoder:
    """Build an untrained encoder, its LSTM's forget gates open (Jozefowicz et al. 2015, section 2.2), or load one.

    The CLSTM's embedding is its LSTM's last output, 24 steps after the beginning of a crop of 0.95 s. ``init`` is a
    model of that encoder, whose weights it begins with.

    Raises:
        OptionError: no such encoder, or ``init`` has another one.
        WeightsNotFoundError: no such model.
    """
    encoder = build_encoder(name)
    if init:
        given = load_model(init).encoder
        if not isinstance(given, type(encoder)):
            raise OptionError(f"init {init!r} has the encoder {type(given).__name__}, not that of {name!r}")
        given.head = None
        encoder.load_state_dict(given.state_dict())
        return encoder
    for lstm in (module for module in encoder.modules() if isinstance(module, nn.LSTM)):
        for name, value in lstm.named_parameters():
            if name.startswith("bias_"):  # input, forget, cell, output gate; the two biases of a gate are added
                value.detach().unflatten(0, (4, -1))[1] = FORGET_BIAS / 2
    return encoder


def _present_name(key: str) -> str:
    """Of a weight; the states of versions before 1.0 have the heads' former names."""
    return key.replace("projector.", "projection_head.").replace("predictor.", "prediction_head.")


def by_rate(network: nn.Module, encoder: nn.Module, fan_in: int) -> dict[float, list[nn.Parameter]]:
    """Trained parameters by their share of the rate, in (0, 1] (Yang et al. 2022, Tensor Programs V, table 3).

    A step of Adam moves each weight by about the rate, and all of a layer's together in few directions; so the wider a
    layer, the more a step outweighs its random start, and the fewer directions its outputs keep. Layers of the encoder
    with more than ``fan_in`` inputs learn slower in proportion; with 0 all learn at the full rate.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    slowed = set(encoder.parameters())
    for parameter in (p for p in network.parameters() if p.requires_grad):
        inputs = parameter[0].numel() if parameter.ndim > 1 and parameter in slowed else 1
        groups.setdefault(min(1.0, fan_in / inputs) if fan_in else 1.0, []).append(parameter)
    return groups
