"""What a task asks of a prediction, settled once: its criterion, its scores, and how events are cut out."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from hear_byols.errors import TaskError
from hear_byols.evaluation.events import Postprocessing, events_of_clip, postprocessing_grid
from hear_byols.evaluation.predictor import Criterion, loss
from hear_byols.evaluation.probe_data import ProbeData
from hear_byols.evaluation.scores import EVENT_SCORES, MINIMIZED, SCENE_SCORES, event_scores
from hear_byols.evaluation.tasks import Event, Task


class Scorer:
    """Scores of labels of whole clips; of events, see :class:`EventScorer`.

    Raises:
        TaskError: an unknown score.
    """

    known: Mapping[str, Any] = SCENE_SCORES
    strictest: Postprocessing | None = None  # post-processing that is taken where none is chosen

    def __init__(self, task: Task) -> None:
        unknown = [name for name in task.evaluation if name not in self.known]
        if unknown:
            raise TaskError(
                f"{task.folder}: evaluation names {', '.join(unknown)}; known for {task.embedding_type} tasks are "
                f"{', '.join(self.known)}"
            )
        self.task = task
        self.multilabel = task.prediction_type == "multilabel"  # labels do not exclude each other
        self.names = tuple(dict.fromkeys(task.evaluation))
        self.sign = -1 if self.names[0] in MINIMIZED else 1

    def choose(self, data: ProbeData, probabilities: np.ndarray) -> tuple[float, Postprocessing | None]:
        """The criterion's score, the higher the better, and the post-processing that gives it, if there is any."""
        return self.sign * SCENE_SCORES[self.names[0]](probabilities, data.y), None

    def test(self, data: ProbeData, probabilities: np.ndarray, how: Postprocessing | None) -> dict[str, float]:
        """All scores by name, the criterion first; NaN where one is not defined, as for a class without positives."""
        return {name: SCENE_SCORES[name](probabilities, data.y) for name in self.names}

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Sigmoid or softmax of logits [shape=(n_rows, n_labels)]."""
        values = torch.from_numpy(logits)
        return (torch.sigmoid(values) if self.multilabel else torch.softmax(values, -1)).numpy()

    def criterion(self, valid: ProbeData) -> Criterion:
        """From validation logits to what decides: the task's first score, or its loss where its metadata says so."""
        if self.task.metadata.get("use_scoring_for_early_stopping", True):
            return lambda logits: self.choose(valid, self.probabilities(logits))
        targets = torch.from_numpy(valid.y)
        return lambda logits: (-loss(torch.from_numpy(logits), targets, self.multilabel).item(), self.strictest)


class EventScorer(Scorer):
    """Scores of events; those of MIDI pitches also as notes.

    Raises:
        TaskError: an unknown score, or a grid of post-processing that is none.
    """

    known = EVENT_SCORES

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.grid = postprocessing_grid(task)
        self.strictest = self.grid[0]
        if all(label.isdigit() and 0 < int(label) < 128 for label in task.vocabulary):
            notes = [note for name in self.names if (note := name.replace("event_", "note_")) in EVENT_SCORES]
            self.names = tuple(dict.fromkeys((*self.names, *notes)))

    def choose(self, data: ProbeData, probabilities: np.ndarray) -> tuple[float, Postprocessing]:
        """See :class:`Scorer`; of equals the strictest post-processing."""
        name = self.names[0]
        results = [(self.sign * self._scores(name, data, probabilities, how)[name], how) for how in self.grid]
        return max(results, key=lambda result: (0.0 if math.isnan(result[0]) else result[0], result[1]))

    def test(self, data: ProbeData, probabilities: np.ndarray, how: Postprocessing | None) -> dict[str, float]:
        """See :class:`Scorer`."""
        found: dict[str, float] = {}
        for name in self.names:
            found.update(self._scores(name, data, probabilities, how or self.grid[0]))
        return found

    def events(self, data: ProbeData, probabilities: np.ndarray, how: Postprocessing) -> dict[str, list[Event]]:
        """Events of every clip."""
        clips = zip(data.clips, data.by_clip(probabilities), data.by_clip(data.timestamps), strict=True)
        return {clip.name: events_of_clip(values, times, how, self.task.vocabulary) for clip, values, times in clips}

    def _scores(self, name: str, data: ProbeData, probabilities: np.ndarray, how: Postprocessing) -> dict[str, float]:
        reference = {clip.name: clip.events for clip in data.clips}
        return event_scores(name, self.events(data, probabilities, how), reference, self.task.vocabulary)


def make_scorer(task: Task) -> Scorer:
    """The scorer of a task."""
    return EventScorer(task) if task.is_event else Scorer(task)
