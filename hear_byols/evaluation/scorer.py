"""What a task asks of a prediction, settled once: its criterion, its scores, and how events are cut out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from hear_byols.errors import TaskError
from hear_byols.evaluation.events import Postprocessing, events_of_rows, postprocessing_grid, reference_events
from hear_byols.evaluation.predictor import Criterion, loss
from hear_byols.evaluation.rows import Rows
from hear_byols.evaluation.scores import EVENT_SCORES, MINIMIZED, SCENE_SCORES, event_scores, scene_score
from hear_byols.evaluation.tasks import Task


class Scorer(Protocol):
    """Scores of one task.

    Attributes:
        task: whose.
        multilabel: whether labels exclude each other not.
    """

    task: Task
    multilabel: bool

    def choose(self, rows: Rows, probabilities: np.ndarray) -> tuple[float, Postprocessing | None]:
        """The criterion's score, the higher the better, and the post-processing that gives it, if there is any."""
        ...

    def test(self, rows: Rows, probabilities: np.ndarray, how: Postprocessing | None) -> dict[str, float]:
        """All scores by name, the criterion first."""
        ...

    def strictest(self) -> Postprocessing | None:
        """The post-processing that is taken where none is chosen."""
        ...


def make_scorer(task: Task) -> Scorer:
    """The scorer of a task.

    Raises:
        TaskError: an unknown score, or a grid of post-processing that is none.
    """
    return EventScorer(task) if task.is_event else SceneScorer(task)


def probabilities_of(scorer: Scorer, logits: np.ndarray) -> np.ndarray:
    """Sigmoid or softmax of logits [shape=(n_rows, n_labels)]."""
    values = torch.from_numpy(logits)
    return (torch.sigmoid(values) if scorer.multilabel else torch.softmax(values, -1)).numpy()


def criterion_of(scorer: Scorer, valid: Rows) -> Criterion:
    """From validation logits to what decides: the task's first score, or its loss where its metadata says so."""
    if scorer.task.metadata.get("use_scoring_for_early_stopping", True):
        return lambda logits: scorer.choose(valid, probabilities_of(scorer, logits))
    targets, how = torch.from_numpy(valid.y), scorer.strictest()
    return lambda logits: (-loss(torch.from_numpy(logits), targets, scorer.multilabel).item(), how)


class SceneScorer:
    """Scores of labels of whole clips.

    Args:
        task: of scenes.

    Raises:
        TaskError: an unknown score.
    """

    def __init__(self, task: Task) -> None:
        _check(task, SCENE_SCORES)
        self.task = task
        self.multilabel = task.prediction_type == "multilabel"

    def choose(self, rows: Rows, probabilities: np.ndarray) -> tuple[float, None]:
        """See :class:`Scorer`."""
        name = self.task.evaluation[0]
        return _sign(name) * scene_score(name, probabilities, rows.y), None

    def test(self, rows: Rows, probabilities: np.ndarray, how: Postprocessing | None = None) -> dict[str, float]:
        """See :class:`Scorer`."""
        return {name: scene_score(name, probabilities, rows.y) for name in dict.fromkeys(self.task.evaluation)}

    def strictest(self) -> None:
        """None: there are no events."""


class EventScorer:
    """Scores of events; those of MIDI pitches also as notes.

    Args:
        task: of events.

    Raises:
        TaskError: an unknown score, or a grid of post-processing that is none.
    """

    def __init__(self, task: Task) -> None:
        _check(task, EVENT_SCORES)
        self.task = task
        self.multilabel = task.prediction_type == "multilabel"
        self.grid = postprocessing_grid(task)
        names = list(task.evaluation)
        if all(label.isdigit() and 0 < int(label) < 128 for label in task.vocabulary):
            names += [note for name in names if (note := name.replace("event_", "note_")) in EVENT_SCORES]
        self.names = tuple(dict.fromkeys(names))

    def choose(self, rows: Rows, probabilities: np.ndarray) -> tuple[float, Postprocessing]:
        """See :class:`Scorer`; of equals the strictest post-processing."""
        name = self.task.evaluation[0]
        results = []
        for how in self.grid:
            value = _sign(name) * self._scores(name, rows, probabilities, how)[name]
            results.append((0.0 if math.isnan(value) else value, how, value))
        _, how, value = max(results, key=lambda result: result[:2])
        return value, how

    def test(self, rows: Rows, probabilities: np.ndarray, how: Postprocessing | None) -> dict[str, float]:
        """See :class:`Scorer`."""
        found: dict[str, float] = {}
        for name in self.names:
            found.update(self._scores(name, rows, probabilities, how or self.grid[0]))
        return found

    def strictest(self) -> Postprocessing:
        """The first of the grid."""
        return self.grid[0]

    def _scores(self, name: str, rows: Rows, probabilities: np.ndarray, how: Postprocessing) -> dict[str, float]:
        predicted = events_of_rows(rows, probabilities, how, self.task.vocabulary)
        return event_scores(name, predicted, reference_events(rows), self.task.vocabulary)


def _sign(name: str) -> int:
    return -1 if name in MINIMIZED else 1


def _check(task: Task, known: Mapping[str, Any]) -> None:
    unknown = [name for name in task.evaluation if name not in known]
    if unknown:
        raise TaskError(
            f"{task.folder}: evaluation names {', '.join(unknown)}; known for {task.embedding_type} tasks are "
            f"{', '.join(known)}"
        )
