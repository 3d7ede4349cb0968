"""Results as tables: a row a model, the mean over seeds, and published scores of the same task.

Published are the paper's Tables 5 to 9 and the HEAR leaderboard (``reference.csv``).

The paper's figures are those of Elbanna et al. 2022 (PMLR 166); the leaderboard's are those of the HEAR benchmark
(hearbenchmark.com). Neither copy states a licence: single figures, quoted with their source. Values are fractions of 1.
The paper calls its scores accuracies; those of vocal imitations are mAP, since its CREPE row is the leaderboard's.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hear_byols.evaluation.scores import MINIMIZED, is_part


@dataclass(frozen=True)
class Row:
    """One model, or one published system, on one task with one probe."""

    model: str  # label
    values: dict[str, list[float]]  # of every score, one a seed
    source: str = ""  # of published scores; empty for ours
    cost: tuple[str, ...] = ("", "", "")  # cells on size, speed and memory; empty for published scores
    validation: tuple[float, ...] = ()  # mean over folds of what the probe chose by, the higher the better, one a seed


@dataclass(frozen=True)
class Table:
    """All rows of a task and probe, the best first."""

    task: str  # name of its folder
    probe: str  # which, and the size of its search, in words
    scores: tuple[str, ...]  # shown, the criterion first
    rows: tuple[Row, ...]  # of models and published systems

    @property
    def title(self) -> str:
        """Heading."""
        return f"{self.task}, {self.probe}"


def make_tables(records: Sequence[dict[str, Any]]) -> list[Table]:
    """A table for every task and probe; with the kit's predictor the published scores of exactly this task besides."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["task"]["folder"], _probe_name(record)), []).append(record)
    return [_table(members) for members in groups.values()]


def _probe_name(record: dict[str, Any]) -> str:
    if record["probe"] == "linear":
        return "linear probe"
    search = record["key"]["search"]
    return f"predictor of hear-eval-kit ({search['grid_points']} grid points, {search['max_epochs']} epochs at most)"


def _table(records: Sequence[dict[str, Any]]) -> Table:
    task = records[0]["task"]
    names = list(records[0]["scores"])
    scores = tuple(name for name in names if not is_part(name, names))
    by_model: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_model.setdefault(record["model"], []).append(record)
    rows = [
        Row(
            model,
            {name: [each["scores"][name] for each in members] for name in names},
            cost=_cost(members[0]),
            validation=tuple(float(np.mean(np.array(each["settings"]["validation"], float))) for each in members),
        )
        for model, members in by_model.items()
    ]
    systems: dict[tuple[str, str], dict[str, list[float]]] = {}
    for name in scores if records[0]["probe"] == "mlp" else ():  # published scores are the kit's
        for each in published(task["name"], task["folder"], name):
            systems.setdefault((each["system"], each["source"]), {})[name] = [float(each["value"])]
    rows += [Row(system, values, source) for (system, source), values in systems.items()]
    rows.sort(key=lambda row: _sort_key(row, scores[0]))
    return Table(task["folder"], _probe_name(records[0]), scores, tuple(rows))


def _sort_key(row: Row, score: str) -> float:
    value = float(np.mean(row.values.get(score, [math.nan])))
    if math.isnan(value):
        return math.inf
    return value if score in MINIMIZED else -value


def _cost(record: dict[str, Any]) -> tuple[str, str, str]:
    cost, speed = record["cost"], ""
    if cost["seconds"]:
        times = cost["audio_seconds"] / cost["seconds"]
        speed = f"{times:.{0 if times >= 100 else 1}f}x ({cost['device']})"
    return str(record["size"]), speed, f"{cost['peak_bytes'] / 1e9:.2f} GB"


def cell(values: Sequence[float], minimized: bool = False) -> str:
    """A score's mean times 100, cut after one decimal towards the worse, and its spread over seeds."""
    if not values:
        return ""
    mean = float(np.mean(values))
    if not math.isfinite(mean):  # infinite: d' of classes that are told apart without fault
        return "-" if math.isnan(mean) else str(mean)
    tenths = round(1000 * mean, 6)  # beyond the rounding of floats
    text = f"{(math.ceil(tenths) if minimized else math.floor(tenths)) / 10:.1f}"
    if len(values) > 1:
        text += f" ± {math.ceil(round(1000 * float(np.std(values, ddof=1)), 6)) / 10:.1f}"
    return text


def published(task: str, folder: str, score: str) -> list[dict[str, str]]:
    """Scores of exactly this task: same name, same size, same score; none for stand-ins, which have other names.

    The last part of a folder's name is HEAR's word for the size (``nsynth_pitch-v2.2.3-5h``).
    """
    mode = folder.rpartition("-")[2]
    return [row for row in all_published() if (row["task"], row["mode"], row["score"]) == (task, mode, score)]


@cache
def all_published() -> list[dict[str, str]]:
    """Rows of ``reference.csv``: the task by its name in HEAR, its size, score, whose it is, value and source."""
    with open(Path(__file__).with_name("reference.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
