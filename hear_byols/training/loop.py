"""The loop around the steps: log, watch, save, stop; the newest few states of a run stay, each whole or not there."""

import logging
import math
import time
import zipfile
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hear_byols._util.files import CONTINUES, output_path
from hear_byols.errors import CheckpointError, TrainingError
from hear_byols.training.metrics import MetricsLogger, Row
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
) -> None:
    """Train to the end of the run, or until the time is up, from the newest state.

    States are saved at lines of the log only, so that a resumed run writes the same lines as an uninterrupted one.

    Args:
        trainer: a fresh run.
        output: folder for ``states/``, ``log.csv``, ``curves.png`` and ``tensorboard/``; made if missing.
        export: called with the run and the last line of the log after each state is saved; in the first process only.
        max_minutes: of this sitting.
        tensorboard: also write TensorBoard events.
        progress: show a bar.

    Raises:
        CheckpointError: the output folder belongs to another run.
        TrainingError: a loss is not finite, or the embeddings have collapsed.
    """
    folder = output / "states"
    if load_newest(trainer, folder):
        logger.info("continuing at step %d of %d", trainer.n_steps, trainer.total_steps)
    leads, total = trainer.world.rank == 0, trainer.total_steps
    metrics = MetricsLogger(output, trainer.values, trainer.n_steps, tensorboard) if leads else None
    bar = tqdm(total=total, initial=trainer.n_steps, unit="step", disable=not (progress and leads))
    end, saved = trainer.seconds + 60 * max_minutes, trainer.seconds
    with bar, closing(metrics) if metrics else nullcontext():
        if metrics and metrics.rows and trainer.n_steps >= total:
            export(trainer, metrics.rows[-1])  # of a finished run, whose last sitting may have had no room for it
        while trainer.n_steps < total:
            row = _train_lines(trainer, bar)
            _refuse_failure(row, trainer, folder)
            if metrics is not None:
                metrics.add(row)
            stop = trainer.n_steps >= total or trainer.seconds >= end
            save = stop or trainer.seconds - saved >= 60 * trainer.config.save_minutes
            stop, save = trainer.fabric.broadcast((stop, save))  # by one process's clock
            if save:
                saved = trainer.seconds
                if metrics is not None:
                    save_state(trainer, folder)
                    export(trainer, row)
                    metrics.draw()
                trainer.fabric.barrier()
            if stop:
                break
    if trainer.n_steps < total:
        message = "stopped after %g minutes at step %d of %d; the same command continues"
        logger.info(message, max_minutes, trainer.n_steps, total)


def _train_lines(trainer: Trainer, bar: tqdm) -> Row:
    """Train until the next line of the log; returns it."""
    log_steps = trainer.config.log_steps
    n_steps = min(log_steps - trainer.n_steps % log_steps, trainer.total_steps - trainer.n_steps)
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
    """Stop before anything broken is saved."""
    kept = states(folder)
    rest = f"the last good state is {kept[-1]}" if kept else "no state had been saved yet"
    if not (math.isfinite(row["loss"]) and trainer.is_finite):
        fault = f"loss or weights are not finite before step {row['step']:g} (loss {row['loss']:g})"
        raise TrainingError(f"{fault}; {rest}. Lower the learning rate, or train in --precision float32")
    if row["spread"] < MIN_SPREAD:
        fault = f"the embeddings have collapsed by step {row['step']:g}: their spread is {row['spread']:.2g}"
        advice = "Lower the learning rate, or use larger batches"
        raise TrainingError(f"{fault}, less than {MIN_SPREAD:g}; {rest}. {advice}")


def save_state(trainer: Trainer, folder: Path) -> Path:
    """Write the state of a run into a folder, and remove all but the newest :data:`STATES_KEPT`; returns the file.

    Raises:
        OutputError: the file cannot be written; those before it are kept.
    """
    path = folder / f"step-{trainer.n_steps:09d}.pt"
    with output_path(path, CONTINUES) as part:
        torch.save(trainer.state_dict(), part)
    for old in states(folder)[:-STATES_KEPT]:
        old.unlink()
    return path


def states(folder: Path) -> list[Path]:
    """Saved states, the newest last."""
    return sorted(folder.glob("step-*.pt"))


def load_newest(trainer: Trainer, folder: Path) -> bool:
    """Continue from the newest whole state; damaged ones are passed over with a warning. Returns whether there was one.

    Raises:
        CheckpointError: none of the states there are is whole, or they belong to another run.
    """
    found = states(folder)
    for path in reversed(found):
        try:
            state = _read(path, trainer)
        except CheckpointError as error:
            logger.warning("%s", error)
            continue
        trainer.load_state_dict(state)
        return True
    if found:
        raise CheckpointError(f"none of the {len(found)} states in {folder} can be read; remove them to begin anew")
    return False


def _read(path: Path, trainer: Trainer) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch does not compare the checksums
                raise OSError(f"the checksum of {damaged} is another one")
        state = torch.load(path, map_location=trainer.device, weights_only=True)
    except Exception as error:  # zipfile and torch raise many kinds
        raise CheckpointError(f"{path} cannot be read as the state of a run ({error})") from error
    if not isinstance(state, dict) or "n_steps" not in state:
        raise CheckpointError(f"{path} is not the state of a run")
    return state
