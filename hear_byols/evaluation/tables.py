"""Results as tables: a row a model, the mean over seeds, and published scores of the same task.

Published are the paper's Tables 5 to 9 and the HEAR leaderboard (``reference.csv``).

The paper's figures are those of Elbanna et al. 2022 (PMLR 166); the leaderboard's are those of the HEAR benchmark
(hearbenchmark.com). Neither copy states a licence: single figures, quoted with their source. Values are fractions of 1.
The paper calls its scores accuracies; those of vocal imitations are mAP, since its CREPE row is the leaderboard's.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hear_byols.evaluation.scores import MINIMIZED, is_part


@dataclass(frozen=True)
class Row:
    """One model, or one published system, on one task with one probe.

    Args:
        model: label.
        values: of every score, one a seed.
        source: of published scores; empty for ours.
        cost: cells on size, speed and memory; empty for published scores.
        validation: the mean over folds of the score that the probe chose by, the higher the better, one a seed.
    """

    model: str
    values: dict[str, list[float]]
    source: str = ""
    cost: tuple[str, ...] = ("", "", "")
    validation: tuple[float, ...] = ()


@dataclass(frozen=True)
class Table:
    """All rows of a task and probe, the best first.

    Args:
        task: name of its folder.
        name: of the task.
        probe: which, and the size of its search, in words.
        scores: shown, the criterion first.
        rows: of models and published systems.
    """

    task: str
    name: str
    probe: str
    scores: tuple[str, ...]
    rows: tuple[Row, ...]

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
            validation=tuple(_validation(each) for each in members),
        )
        for model, members in by_model.items()
    ]
    systems: dict[tuple[str, str], dict[str, list[float]]] = {}
    for name in scores if records[0]["probe"] == "mlp" else ():  # published scores are the kit's
        for each in published(task["name"], task["folder"], name):
            systems.setdefault((each.system, each.source), {})[name] = [each.value]
    rows += [Row(system, values, source) for (system, source), values in systems.items()]
    rows.sort(key=lambda row: _sort_key(row, scores[0]))
    return Table(task["folder"], task["name"], _probe_name(records[0]), scores, tuple(rows))


def _sort_key(row: Row, score: str) -> float:
    value = float(np.mean(row.values.get(score, [math.nan])))
    if math.isnan(value):
        return math.inf
    return value if score in MINIMIZED else -value


def _validation(record: dict[str, Any]) -> float:
    return float(np.mean([math.nan if score is None else score for score in record["settings"]["validation"]]))


def _cost(record: dict[str, Any]) -> tuple[str, str, str]:
    cost = record["cost"]
    return str(record["size"]), _speed(cost), f"{cost['peak_bytes'] / 1e9:.2f} GB"


def _speed(cost: dict[str, Any]) -> str:
    if not cost["seconds"]:
        return ""
    speed = cost["audio_seconds"] / cost["seconds"]
    return f"{speed:.{0 if speed >= 100 else 1}f}x ({cost['device']})"


def cell(values: Sequence[float], minimized: bool = False) -> str:
    """A score's mean times 100, cut after one decimal towards the worse, and its spread over seeds."""
    if not values:
        return ""
    mean = float(np.mean(values))
    if math.isnan(mean):
        return "-"
    tenths = round(1000 * mean, 6)  # beyond the rounding of floats
    text = f"{(math.ceil(tenths) if minimized else math.floor(tenths)) / 10:.1f}"
    if len(values) > 1:
        text += f" ± {math.ceil(round(1000 * float(np.std(values, ddof=1)), 6)) / 10:.1f}"
    return text


@dataclass(frozen=True)
class Published:
    """A published score.

    Args:
        task: HEAR's name of the task.
        mode: its size, ``"5h"``, ``"50h"`` or ``"full"``.
        score: name of the score.
        system: whose.
        value: a fraction of 1.
        source: where it was published.
    """

    task: str
    mode: str
    score: str
    system: str
    value: float
    source: str


def published(task: str, folder: str, score: str) -> list[Published]:
    """Scores of exactly this task: same name, same size, same score; none for stand-ins, which have other names.

    Args:
        task: name in the task's metadata.
        folder: name of the task's folder, whose last part HEAR uses for the size (``nsynth_pitch-v2.2.3-5h``).
        score: name of the score.
    """
    mode = folder.rpartition("-")[2]
    return [row for row in _rows() if (row.task, row.mode, row.score) == (task, mode, score)]


@lru_cache(maxsize=1)
def _rows() -> tuple[Published, ...]:
    with open(Path(__file__).with_name("reference.csv"), newline="", encoding="utf-8") as file:
        return tuple(Published(**{**row, "value": float(row["value"])}) for row in csv.DictReader(file))
