"""The loop around the steps: log, watch, save, stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from hear_byols.errors import TrainingError
from hear_byols.training.metrics import MetricsLogger, Row
from hear_byols.training.states import load_newest, save_state, states
from hear_byols.training.trainer import Trainer

logger = logging.getLogger(__name__)

MIN_SPREAD = 0.005  # of embeddings, 1 for uniform directions; below, they have collapsed
STATES_KEPT = 2


def train(
    trainer: Trainer,
    output: Path,
    export: Callable[[Trainer, Row], object],
    max_minutes: float = math.inf,
    tensorboard: bool = True,
    progress: bool = False,
) -> Row:
    """Train to the end of the run, or until the time is up; continue from the newest state in ``output``.

    States are saved at lines of the log only, so that a resumed run writes the same lines as an uninterrupted one.

    Args:
        trainer: a fresh run.
        output: folder for ``states/``, ``log.csv``, ``curves.png`` and ``tensorboard/``; made if missing.
        export: called with the run and the last line of the log after each state is saved; in the first process only.
        max_minutes: of this sitting.
        tensorboard: also write TensorBoard events.
        progress: show a bar.

    Returns:
        The last line of the log.

    Raises:
        CheckpointError: the output folder belongs to another run.
        TrainingError: a loss is not finite, or the embeddings have collapsed.
    """
    folder = output / "states"
    if load_newest(trainer, folder):
        logger.info("continuing at step %d of %d", trainer.n_steps, trainer.total_steps)
    leads = trainer.world.rank == 0
    metrics = MetricsLogger(output, trainer.values, trainer.n_steps, tensorboard) if leads else None
    bar = tqdm(total=trainer.total_steps, initial=trainer.n_steps, unit="step", disable=not (progress and leads))
    end, saved = trainer.seconds + 60 * max_minutes, trainer.seconds
    row = metrics.rows[-1] if metrics and metrics.rows else {}
    try:
        if row and trainer.n_steps >= trainer.total_steps:
            export(trainer, row)  # of a finished run, whose last sitting may have had no room for it
        while trainer.n_steps < trainer.total_steps:
            row = _train_lines(trainer, bar)
            _refuse_failure(row, trainer, folder)
            if metrics is not None:
                metrics.add(row)
            stop = trainer.n_steps >= trainer.total_steps or trainer.seconds >= end
            save = stop or trainer.seconds - saved >= 60 * trainer.config.save_minutes
            stop, save = trainer.fabric.broadcast((stop, save))  # by one process's clock
            if save:
                saved = trainer.seconds
                if metrics is not None:
                    save_state(trainer, folder, STATES_KEPT)
                    export(trainer, row)
                    metrics.draw()
                trainer.fabric.barrier()
            if stop:
                break
    finally:
        bar.close()
        if metrics is not None:
            metrics.close()
    if trainer.n_steps < trainer.total_steps:
        logger.info(
            "stopped after %g minutes at step %d of %d; the same command continues",
            max_minutes,
            trainer.n_steps,
            trainer.total_steps,
        )
    return row


def _train_lines(trainer: Trainer, bar: tqdm) -> Row:
    """Train until the next line of the log; returns it."""
    n_steps = min(
        trainer.config.log_steps - trainer.n_steps % trainer.config.log_steps, trainer.total_steps - trainer.n_steps
    )
    begun = time.perf_counter()
    total = torch.zeros(len(trainer.values), device=trainer.device)
    for _ in range(n_steps):
        total += trainer.step()
        bar.update()
    means = dict(zip(trainer.values, (trainer.world.mean(total) / n_steps).tolist(), strict=True))
    trainer.seconds += time.perf_counter() - begun  # the device has finished these steps
    bar.set_postfix({name: f"{means[name]:.3g}" for name in trainer.values[1:]}, refresh=False)
    return {
        "step": trainer.n_steps,
        "minutes": trainer.seconds / 60,
        "learning_rate": trainer.config.rate(trainer.n_steps - 1, trainer.total_steps),
        **means,
    }


def _refuse_failure(row: Row, trainer: Trainer, folder: Path) -> None:
    """Stop before anything broken is saved.

    Raises:
        TrainingError: see :func:`train`.
    """
    kept = states(folder)
    rest = f"the last good state is {kept[-1]}" if kept else "no state had been saved yet"
    if not (math.isfinite(row["loss"]) and trainer.is_finite):
        raise TrainingError(
            f"loss or weights are not finite before step {row['step']:g} (loss {row['loss']:g}); {rest}. "
            "Lower the learning rate, or train in --precision float32"
        )
    if row["spread"] < MIN_SPREAD:
        raise TrainingError(
            f"the embeddings have collapsed by step {row['step']:g}: their spread is {row['spread']:.2g}, less than "
            f"{MIN_SPREAD:g}; {rest}. Lower the learning rate, or use larger batches"
        )
