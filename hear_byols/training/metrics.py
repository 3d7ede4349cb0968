"""The log of a run: CSV, TensorBoard and a picture."""

import csv
import math
from pathlib import Path

from hear_byols._util.files import CONTINUES, output_path, writing
from hear_byols._util.imports import require

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
