"""The loop around the steps: log, watch, save, stop; the newest few states of a run stay, each whole or not there."""

import csv
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

from hear_byols._util.files import CONTINUES, output_path, writing
from hear_byols._util.imports import require
from hear_byols.errors import CheckpointError, TrainingError
from hear_byols.training.trainer import Trainer

PROGRESS = ("step", "minutes", "learning_rate")
Row = dict[str, float]


class MetricsLogger:
    """Lines of values over the steps of a run; a run that is continued goes on below the line of its state.

    Args:
        folder: for ``log.csv``, ``curves.png`` and, on request, ``tensorboard``.
        values: names of what a line holds behind :data:`PROGRESS`.
        n_steps: that the run has done; lines of later ones, from a sitting that was cut short, are removed.
        tensorboard: also write events.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, values: tuple[str, ...], n_steps: int = 0, tensorboard: bool = True) -> None:
        self.path = folder / "log.csv"
        self.fields = (*PROGRESS, *values)
        self.rows = [row for row in read_log(self.path) if row["step"] <= n_steps]
        with output_path(self.path, CONTINUES) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.fields)
            writer.writeheader()
            writer.writerows(map(_formatted, self.rows))
        self._events = None
        if tensorboard:
            require("tensorboard", "--tensorboard", "train")
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(folder / "tensorboard", purge_step=n_steps + 1 if n_steps else None)

    def add(self, row: Row) -> None:
        """Append a line with all :attr:`fields`."""
        self.rows.append(row)
        with writing(self.path, CONTINUES):
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.fields).writerow(_formatted(row))
            if self._events is not None:
                for name in self.fields[2:]:
                    if math.isfinite(row[name]):
                        self._events.add_scalar(name, row[name], int(row["step"]))

    def draw(self) -> None:
        """Draw losses, and below them the spread of the embeddings, over the steps.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        figures = require("matplotlib.figure", "a picture of the curves", "train")
        figure = figures.Figure(figsize=(7, 5), layout="constrained")
        upper, lower = figure.subplots(2, sharex=True, height_ratios=[2, 1])
        curves = {name: [row[name] for row in self.rows] for name in self.fields}
        marker = "" if len(self.rows) > 1 else "o"
        for name, values in curves.items():
            if name.startswith("loss_") and any(map(math.isfinite, values)):
                label = name.removeprefix("loss_").replace("_", " ")
                upper.plot(curves["step"], values, label=label, marker=marker)
        upper.legend(fontsize="small")
        lower.plot(curves["step"], curves["spread"], color="black", marker=marker)
        lower.set_xlabel("step")
        for axes, label in ((upper, "loss"), (lower, "spread")):
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
        with output_path(self.path.with_name("curves.png"), CONTINUES) as part:
            figure.savefig(part, dpi=120, format="png")

    def close(self) -> None:
        """Flush the events."""
        if self._events is not None:
            with writing(self.path.with_name("tensorboard"), CONTINUES):
                self._events.close()


def read_log(path: Path) -> list[Row]:
    """Read the lines of a ``log.csv``; none if there is no such file. A torn last line is left out."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return [{name: float(value) for name, value in line.items()} for line in lines if all(line.values())]


def _formatted(row: Row) -> dict[str, str]:
    return {name: f"{value:.9g}" for name, value in row.items()}


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
