"""Probes of frozen embeddings: hear-eval-kit's search, and the fast linear one (paper, section 2.4)."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from hear_byols._util.imports import require
from hear_byols.errors import OptionError
from hear_byols.evaluation.events import Postprocessing
from hear_byols.evaluation.predictor import FittedPredictor, GridPoint, fit
from hear_byols.evaluation.probe_data import ProbeData, Standardizer, join
from hear_byols.evaluation.scorer import Scorer
from hear_byols.evaluation.tasks import Task

linalg = require("scipy.linalg", "evaluation", "eval")
LEARNING_RATES = (3.2e-3, 1e-3, 3.2e-4, 1e-4)
STRENGTHS = (1e-2, 1e-1, 1.0, 10.0, 100.0)
_KIT_SEED = 42
_SLOW_TASKS = {"dcase2016_task2": 10}  # epochs between validations, where the kit has them rarer


@dataclass(frozen=True)
class ProbeResult:
    """What a probe scored.

    Its settings are what was chosen: grid point or strength, epochs, post-processing; and the score on each fold's
    validation rows that decided, the higher the better.
    """

    scores: dict[str, float]  # test scores by name, the mean over folds; the task's criterion first
    folds: list[dict[str, float]]  # test scores of every fold
    settings: dict[str, Any]


@dataclass(frozen=True)
class Search:
    """Size of the predictor's search; the defaults are hear-eval-kit's."""

    grid_points: int = 8  # of the 16, in an order that the seed draws
    max_epochs: int = 500
    hidden_size: int = 1024

    def __post_init__(self) -> None:
        if not 1 <= self.grid_points <= 16:
            raise OptionError(f"the grid has 16 points; grid_points must be 1 to 16, got {self.grid_points}")
        if self.max_epochs < 3 or self.hidden_size < 1:
            raise OptionError(f"max_epochs must be at least 3 and hidden_size at least 1, got {self}")

    def points(self, task: Task, seed: int) -> list[GridPoint]:
        """The grid points of a seed; those of seed 0 are the kit's own."""
        grid = [
            GridPoint(layers, rate, initialization, hidden_size=self.hidden_size, max_epochs=self.max_epochs)
            for layers, initialization, rate in product((1, 2), ("xavier_uniform", "xavier_normal"), LEARNING_RATES)
        ]
        random.Random(_KIT_SEED + seed).shuffle(grid)
        every = min(_SLOW_TASKS.get(task.name, 3), self.max_epochs)
        return [replace(point, check_every=every) for point in grid[: self.grid_points]]


def probe_mlp(
    scorer: Scorer,
    splits: Mapping[str, ProbeData],
    *,
    search: Search,
    seed: int = 0,
    standardize: bool = False,
    device: str | torch.device = "cpu",
) -> ProbeResult:
    """hear-eval-kit's protocol: search on the first data split, train the best point on the others, test them all.

    Args:
        scorer: of the task.
        splits: its rows.
        search: its size.
        seed: of grid, initial weights and dropout.
        standardize: by the training rows of each data split (paper, section 3.4).
        device: where to train.

    Raises:
        TaskError: too few rows to train on.
    """
    points = search.points(scorer.task, seed)
    chosen: list[FittedPredictor] = []
    scores = []
    for number, names in enumerate(scorer.task.data_splits()):
        train, valid, test = (join(splits, each) for each in names)
        scale = Standardizer(train.x) if standardize else lambda x: x
        data, valid_x, criterion = (scale(train.x), train.y), scale(valid.x), scorer.criterion(valid)
        options: dict[str, Any] = {"multilabel": scorer.multilabel, "device": device}
        first = 1000 * seed + 16 * number
        fitted = [fit(point, first + i, data, valid_x, criterion, **options) for i, point in enumerate(points)]
        best = max(fitted, key=lambda each: each.score)
        chosen.append(best)
        points = [best.point]
        scores.append(scorer.test(test, scorer.probabilities(best.predict(scale(test.x))), best.extra))
    epochs = [each.epoch + 1 for each in chosen]
    settings = {"grid_point": asdict(points[0]), "epochs": epochs, "standardized": standardize}
    return _result(scores, settings, [(each.score, each.extra) for each in chosen])


def probe_linear(scorer: Scorer, splits: Mapping[str, ProbeData]) -> ProbeResult:
    """The fast probe for daily use: ridge regression on standardized embeddings, in closed form, nothing random.

    Targets are -1 and +1. The strength (0.01 ... 100, times the number of features) is chosen on the validation rows by
    the task's own criterion; of equals the weakest.
    """
    scores, strengths, choices = [], [], []
    for names in scorer.task.data_splits():
        train, valid, test = (join(splits, each) for each in names)
        tried = [(*scorer.choose(valid, predict(valid.x)), strength, predict) for strength, predict in _ridges(train)]
        score, how, strength, predict = max(tried, key=lambda each: each[0] if math.isfinite(each[0]) else -math.inf)
        scores.append(scorer.test(test, predict(test.x), how))
        strengths.append(strength)
        choices.append((score, how))
    return _result(scores, {"strength": strengths, "standardized": True}, choices)


def _ridges(train: ProbeData) -> Iterator[tuple[float, Callable[[np.ndarray], np.ndarray]]]:
    """Fits of rising strength: functions from embeddings [shape=(n_rows, size)] to probabilities."""
    standardize = Standardizer(train.x)
    z = standardize(train.x)
    targets = train.y.astype(np.float64) * 2 - 1
    offset = targets.mean(0)
    n_rows, size = z.shape
    dual = n_rows < size
    gram = z @ z.T if dual else z.T @ z
    right = targets - offset if dual else z.T @ (targets - offset)
    for strength in STRENGTHS:
        matrix = gram.copy()
        matrix[np.diag_indices_from(matrix)] += strength * size
        solution = linalg.solve(matrix, right, assume_a="pos", overwrite_a=True)
        weights = z.T @ solution if dual else solution
        yield strength, lambda x, weights=weights: ((standardize(x) @ weights + offset) + 1) / 2


def _result(
    folds: list[dict[str, float]], settings: dict[str, Any], choices: Sequence[tuple[float, Postprocessing | None]]
) -> ProbeResult:
    """Mean scores, and what was chosen on each fold's validation rows."""
    chosen = {
        "validation": [score if math.isfinite(score) else None for score, _ in choices],
        "postprocessing": [asdict(how) if how else None for _, how in choices],
    }
    means = {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]}
    return ProbeResult(means, folds, {**settings, **chosen})
