"""Pre-training loop of BYOL-S and Hybrid BYOL-S (paper, sections 2, 2.2 and 2.3)."""

from __future__ import annotations

import csv
import dataclasses
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hear_byols.encoders import build_encoder
from hear_byols.errors import CheckpointError, OptionError
from hear_byols.training.batches import FixedCrops, RandomCrops
from hear_byols.training.heads import BYOL_HIDDEN, BYOL_PROJECTION
from hear_byols.training.objective import Byol, embedding_spread, self_supervised_loss, supervised_loss, update_target
from hear_byols.training.targets import N_FEATURES
from hear_byols.training.views import MixupMemory, ViewMaker

logger = logging.getLogger(__name__)

LOG_FIELDS = ("step", "minutes", "learning_rate", "loss", "loss_supervised", "loss_self_supervised", "spread")
STATISTICS_CROPS = 2048  # crops behind the data-set mean and std


@dataclass(frozen=True)
class PretrainConfig:
    """One pre-training run. Defaults are the paper's where it gives them.

    Args:
        encoder: ``"cnn"``, ``"resnetish34"``, ``"clstm"`` or ``"cvt"``.
        hybrid: whether hand-crafted features supervise the projector.
        alpha: weight of the supervised loss (hybrid only).
        beta: weight of the self-supervised loss.
        crop_frames: spectrogram frames of a crop.
        batch_size: crops of a batch; each gives two views.
        steps: length of the run.
        max_minutes: stop after this time even if ``steps`` are not reached; the schedule follows whichever ends first.
        learning_rate: of Adam, at its highest.
        warmup: share of the run in which the rate rises linearly; it falls to 0 as a cosine afterwards.
        ema_decay: of the target network.
        head_hidden: width of the heads' hidden layers.
        mixup_ratio: largest share of background in a view.
        mixup_memory: past inputs kept as backgrounds.
        seed: of initialisation and all draws.
        compile: compile both networks (slow start, faster steps).
        save_minutes: time between two checkpoints.
        log_steps: steps between two lines of the log, whose losses are means over those steps.

    Raises:
        OptionError: a value out of range.
    """

    encoder: str = "cvt"
    hybrid: bool = True
    alpha: float = 1.0
    beta: float = 1.0
    crop_frames: int = 96
    batch_size: int = 256
    steps: int = 100_000
    max_minutes: float | None = None
    learning_rate: float = 3e-4
    warmup: float = 0.05
    ema_decay: float = 0.99
    head_hidden: int = BYOL_HIDDEN
    mixup_ratio: float = 0.4
    mixup_memory: int = 2048
    seed: int = 42
    compile: bool = False
    save_minutes: float = 5.0
    log_steps: int = 20

    def __post_init__(self) -> None:
        for name in ("crop_frames", "steps", "head_hidden", "mixup_memory", "log_steps"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if self.batch_size < 2:
            raise OptionError(f"batch_size must be at least 2 (batch norm), got {self.batch_size!r}")
        for name in ("warmup", "ema_decay", "mixup_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}")
        for name in ("alpha", "beta", "learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise OptionError(f"{name} must be finite and not negative, got {getattr(self, name)!r}")

    @property
    def projection_size(self) -> int:
        """6373 for the hybrid (paper, section 2.2), else 256."""
        return N_FEATURES if self.hybrid else BYOL_PROJECTION


def scheduled_rate(progress: float, peak: float, warmup: float) -> float:
    """Learning rate: linear rise, then a half cosine down to 0.

    Args:
        progress: share of the run that is done, from 0 to 1.
        peak: highest rate.
        warmup: share of the run in which the rate rises.
    """
    if progress < warmup:
        return peak * max(progress / warmup, 0.01)
    fall = (min(progress, 1.0) - warmup) / max(1 - warmup, 1e-9)
    return peak * 0.5 * (1 + math.cos(math.pi * fall))


class Pretrainer:
    """Everything that changes during a run, and one step of it.

    Args:
        config: the run.
        crops: where batches come from; with features if ``config.hybrid``.
        device: where the networks live.
        encoder: to train instead of a fresh one of ``config.encoder``.
    """

    def __init__(
        self,
        config: PretrainConfig,
        crops: FixedCrops | RandomCrops,
        device: torch.device | str = "cpu",
        encoder: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.crops = crops
        self.device = torch.device(device)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            encoder = encoder or build_encoder(config.encoder)
            self.byol = Byol(encoder, config.projection_size, config.head_hidden).to(self.device)
        trained = [p for p in self.byol.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=config.learning_rate)
        self.draws = torch.Generator().manual_seed(config.seed)
        log_mels, _ = crops.draw(STATISTICS_CROPS, torch.Generator().manual_seed(config.seed))
        self.mean, self.std = log_mels.mean().item(), log_mels.std().item()
        memory = MixupMemory(config.mixup_memory, tuple(log_mels.shape[1:]), self.device)
        generator = torch.Generator(self.device).manual_seed(config.seed + 1)
        self.views = ViewMaker(self.mean, self.std, generator, memory, config.mixup_ratio)
        self.n_steps = 0
        self.seconds = 0.0  # of training, over all sittings
        if config.compile:
            self.byol.online.compile()
            self.byol.target.compile()

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by time."""
        by_time = self.seconds / 60 / self.config.max_minutes if self.config.max_minutes else 0.0
        return max(self.n_steps / self.config.steps, by_time)

    def step(self) -> dict[str, float]:
        """Train on one batch.

        Returns:
            Losses, spread of the embeddings and learning rate.
        """
        begun = time.perf_counter()
        config = self.config
        rate = scheduled_rate(self.progress, config.learning_rate, config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        log_mels, features = self.crops.draw(config.batch_size, self.draws)
        outputs = self.byol(*self.views(log_mels.to(self.device)))
        self_supervised = self_supervised_loss(outputs.predictions, outputs.targets)
        loss = config.beta * self_supervised
        supervised: Tensor | None = None
        if config.hybrid:
            supervised = supervised_loss(outputs.projections, features.to(self.device))
            loss = loss + config.alpha * supervised
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        update_target(self.byol.target, self.byol.online, config.ema_decay)
        self.n_steps += 1
        self.seconds += time.perf_counter() - begun
        return {
            "loss": loss.item(),
            "loss_supervised": math.nan if supervised is None else supervised.item(),
            "loss_self_supervised": self_supervised.item(),
            "spread": embedding_spread(outputs.embeddings).item(),
            "learning_rate": rate,
        }

    def state_dict(self) -> dict:
        """Everything that :meth:`load_state_dict` needs to go on as if never stopped."""
        return {
            "config": dataclasses.asdict(self.config),
            "byol": self.byol.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draws": self.draws.get_state(),
            "view_draws": self.views.generator.get_state(),
            "memory": self.views.memory.state_dict(),
            "statistics": [self.mean, self.std],
            "n_steps": self.n_steps,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            CheckpointError: the state belongs to another kind of run.
        """
        for name in ("encoder", "hybrid", "crop_frames", "head_hidden", "mixup_memory"):
            if state["config"][name] != getattr(self.config, name):
                raise CheckpointError(
                    f"cannot resume: the run to be continued has {name}={state['config'][name]!r}, "
                    f"this one {getattr(self.config, name)!r}"
                )
        self.byol.load_state_dict(state["byol"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.draws.set_state(state["draws"])
        self.views.generator.set_state(state["view_draws"])
        self.views.memory.load_state_dict(state["memory"])
        self.mean, self.std = self.views.mean, self.views.std = state["statistics"]
        self.n_steps, self.seconds = state["n_steps"], state["seconds"]

    def encoder_state(self) -> dict[str, Tensor]:
        """The online encoder's state dict, the product of pre-training."""
        return self.byol.online.encoder.state_dict()


class TrainingLog:
    """CSV log: one line for every ``log_steps`` steps, means over them.

    Args:
        path: appended to if it exists.
        log_steps: steps of a line.
    """

    def __init__(self, path: Path, log_steps: int) -> None:
        self.path = path
        self.log_steps = log_steps
        self.last: dict[str, float] = {}
        self._rows: list[dict[str, float]] = []

    def add(self, trainer: Pretrainer, values: dict[str, float]) -> None:
        """Take in what a step returned."""
        self._rows.append(values)
        if trainer.n_steps % self.log_steps:
            return
        means = {name: sum(row[name] for row in self._rows) / len(self._rows) for name in values}
        self._rows = []
        self.last = {"step": trainer.n_steps, "minutes": trainer.seconds / 60, **means}
        logger.info(" ".join(f"{name} {self.last[name]:.6g}" for name in LOG_FIELDS))
        new = not self.path.exists()
        with open(self.path, "a", newline="") as handle:
            writer = csv.DictWriter(handle, LOG_FIELDS)
            if new:
                writer.writeheader()
            writer.writerow({name: f"{self.last[name]:.6g}" for name in LOG_FIELDS})


def save_state(trainer: Pretrainer, path: Path) -> None:
    """Write the state to continue from, atomically."""
    partial = path.with_suffix(".tmp")
    torch.save(trainer.state_dict(), partial)
    os.replace(partial, path)


def load_state(trainer: Pretrainer, path: Path) -> None:
    """Continue from :func:`save_state`'s file.

    Raises:
        CheckpointError: not such a file, or of another kind of run.
    """
    try:
        state = torch.load(path, map_location=trainer.device, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as the state of a run: {error}") from error
    # Generators keep their states on the CPU.
    state["draws"], state["view_draws"] = state["draws"].cpu(), state["view_draws"].cpu()
    trainer.load_state_dict(state)


def run(trainer: Pretrainer, output: Path, export=None) -> dict[str, float]:
    """Train until the run's steps or minutes are used up.

    Args:
        trainer: fresh or resumed.
        output: folder for ``state.pt`` and ``log.csv``; made if missing.
        export: called with the trainer and the last line of the log whenever the state is saved, and at the end.

    Returns:
        The last line of the log.
    """
    output.mkdir(parents=True, exist_ok=True)
    log = TrainingLog(output / "log.csv", trainer.config.log_steps)
    saved = trainer.seconds
    while trainer.progress < 1:
        log.add(trainer, trainer.step())
        if trainer.seconds - saved >= trainer.config.save_minutes * 60 or trainer.progress >= 1:
            saved = trainer.seconds
            save_state(trainer, output / "state.pt")
            trainer.crops.refresh()
            if export is not None:
                export(trainer, log.last)
    return log.last
