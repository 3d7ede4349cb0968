"""Published scores of the same HEAR task: the paper's Tables 5 to 9 and the HEAR leaderboard (``reference.csv``).

The paper's figures are those of Elbanna et al. 2022 (PMLR 166); the leaderboard's are those of the HEAR benchmark
(hearbenchmark.com). Neither copy states a licence: single figures, quoted with their source. Values are fractions of 1.
The paper calls its scores accuracies; those of vocal imitations are mAP, since its CREPE row is the leaderboard's.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

MODES = ("5h", "50h", "full")


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
