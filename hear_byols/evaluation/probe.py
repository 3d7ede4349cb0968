"""Probes of frozen embeddings: hear-eval-kit's search, and the fast linear one (paper, section 2.4)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from hear_byols.errors import OptionError
from hear_byols.evaluation.linear import Predict, fit_ridge
from hear_byols.evaluation.predictor import FittedPredictor, GridPoint, fit
from hear_byols.evaluation.rows import Rows, Standardizer, join
from hear_byols.evaluation.scorer import Scorer, criterion_of, probabilities_of
from hear_byols.evaluation.tasks import Task

LEARNING_RATES = (3.2e-3, 1e-3, 3.2e-4, 1e-4)
GRID_POINTS = 8
_KIT_SEED = 42
_SLOW_TASKS = {"dcase2016_task2": 10}  # epochs between validations, where the kit has them rarer


@dataclass(frozen=True)
class ProbeResult:
    """What a probe scored.

    Args:
        scores: test scores by name, the mean over folds; the task's criterion first.
        folds: test scores of every fold.
        settings: what was chosen: grid point or strength, epochs, post-processing; and the score on each fold's
            validation rows that decided, the higher the better.
    """

    scores: dict[str, float]
    folds: list[dict[str, float]]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Search:
    """Size of the predictor's search; the defaults are hear-eval-kit's.

    Args:
        grid_points: of the 16, in an order that the seed draws.
        max_epochs: of a training.
        hidden_size: of the hidden layers.
    """

    grid_points: int = GRID_POINTS
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
    splits: Mapping[str, Rows],
    *,
    seed: int = 0,
    search: Search | None = None,
    standardize: bool = False,
    device: str | torch.device = "cpu",
) -> ProbeResult:
    """hear-eval-kit's protocol: search on the first data split, train the best point on the others, test them all.

    Args:
        scorer: of the task.
        splits: its rows.
        seed: of grid, initial weights and dropout.
        search: its size.
        standardize: by the training rows of each data split (paper, section 3.4).
        device: where to train.

    Raises:
        TaskError: too few rows to train on.
    """
    points = (search or Search()).points(scorer.task, seed)
    chosen: list[FittedPredictor] = []
    folds = []
    for number, names in enumerate(scorer.task.data_splits()):
        train, valid, test = (join(splits, names_) for names_ in (names.train, names.valid, names.test))
        scale = Standardizer(train.x) if standardize else lambda x: x
        data, valid_x, criterion = (scale(train.x), train.y), scale(valid.x), criterion_of(scorer, valid)
        fitted = [
            fit(
                point,
                1000 * seed + 16 * number + i,
                data,
                valid_x,
                criterion,
                multilabel=scorer.multilabel,
                device=device,
            )
            for i, point in enumerate(points)
        ]
        best = max(fitted, key=lambda each: each.score)
        chosen.append(best)
        points = [chosen[0].point]
        folds.append(scorer.test(test, probabilities_of(scorer, best.predict(scale(test.x))), best.extra))
    settings = {
        "grid_point": asdict(chosen[0].point),
        "validation": [_finite(each.score) for each in chosen],
        "epochs": [each.epoch + 1 for each in chosen],
        "postprocessing": [asdict(each.extra) if each.extra else None for each in chosen],
        "standardized": standardize,
    }
    return ProbeResult(_means(folds), folds, settings)


def probe_linear(scorer: Scorer, splits: Mapping[str, Rows]) -> ProbeResult:
    """The ridge probe: standardized always, nothing random.

    Args:
        scorer: of the task.
        splits: its rows.
    """
    folds, strengths, validations, postprocessings = [], [], [], []
    for names in scorer.task.data_splits():
        train, valid, test = (join(splits, names_) for names_ in (names.train, names.valid, names.test))

        def choose(predict: Predict, valid: Rows = valid) -> float:
            score = scorer.choose(valid, predict(valid.x))[0]
            return score if math.isfinite(score) else -math.inf

        predict, strength = fit_ridge(train, choose)
        score, how = scorer.choose(valid, predict(valid.x))
        folds.append(scorer.test(test, predict(test.x), how))
        strengths.append(strength)
        validations.append(_finite(score))
        postprocessings.append(asdict(how) if how else None)
    settings = {
        "strength": strengths,
        "validation": validations,
        "postprocessing": postprocessings,
        "standardized": True,
    }
    return ProbeResult(_means(folds), folds, settings)


def _means(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
