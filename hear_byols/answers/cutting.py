"""From scores over time to events: median filter, thresholds and shortest duration, chosen on labelled recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from hear_byols.evaluation.events import Postprocessing, events_of_clip
from hear_byols.evaluation.tasks import Event

MEDIANS_MS = (0.0, 150.0, 250.0, 500.0)
SHORTEST_MS = (0.0, 125.0, 250.0)
THRESHOLDS = tuple(np.round(np.arange(0.2, 0.81, 0.05), 2).tolist())
TOLERANCE_MS = 200.0  # of an onset


@dataclass(frozen=True)
class Cutting:
    """How events are cut out of scores."""

    median_ms: float  # width of the median filter over time; 0 for none
    shortest_ms: float  # shortest event, from its first to its last window
    thresholds: tuple[float, ...]  # of the classes' scores

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Cutting:
        """The reverse of ``dataclasses.asdict``; KeyError, TypeError or ValueError for what is none."""
        thresholds = tuple(float(value) for value in content["thresholds"])
        return cls(float(content["median_ms"]), float(content["shortest_ms"]), thresholds)


def cut(values: np.ndarray, times_ms: np.ndarray, how: Cutting, classes: Sequence[str]) -> list[Event]:
    """Events in scores [shape=(n_windows, n_classes)], from the first to the last window of each, by their onsets."""
    shifted = values - np.array(how.thresholds) + 0.5  # there the threshold is one half
    return events_of_clip(shifted, times_ms, Postprocessing(how.median_ms, how.shortest_ms), classes)


def choose_cutting(
    values: Sequence[np.ndarray],
    times_ms: Sequence[np.ndarray],
    references: Sequence[Sequence[Event]],
    classes: tuple[str, ...],
    folds: np.ndarray,
) -> tuple[Cutting, dict[str, Any]]:
    """Choose what gives the best onset F on recordings whose scores come from heads that had not seen them.

    Of every recording there are scores of the classes, the times of their windows, the labelled events, and its fold.

    Returns:
        The choice, made on all recordings; and scores of each fold by the choice of the others: ``onset_f``,
        ``precision``, ``recall`` and ``spread`` of the F over the folds.
    """
    grid = list(product(MEDIANS_MS, SHORTEST_MS))
    numbers, places = np.unique(folds, return_inverse=True)
    # True positives, predicted and labelled events of every choice, class, threshold and fold.
    counts = np.zeros((len(grid), len(classes), len(THRESHOLDS), len(numbers), 3), np.int64)
    for (g, (median, shortest)), (t, threshold) in product(enumerate(grid), enumerate(THRESHOLDS)):
        how = Cutting(median, shortest, (threshold,) * len(classes))
        for place, value, stamps, reference in zip(places, values, times_ms, references, strict=True):
            counts[g, :, t, place] += count_onsets(cut(value, stamps, how, classes), reference, classes)
    choice = _best(counts.sum(3))
    parts = np.zeros((len(numbers), 3), np.int64)
    for i in range(len(numbers)):
        g, thresholds = _best(counts.sum(3) - counts[:, :, :, i])
        parts[i] = counts[g, np.arange(len(classes)), thresholds, i].sum(0)
    f, precision, recall = (float(value) for value in _f_scores(parts.sum(0)))
    scores = {
        "onset_f": f,
        "precision": precision,
        "recall": recall,
        "spread": float(np.std([_f_scores(part)[0] for part in parts])),
        "n_recordings": len(values),
        "n_folds": len(numbers),
    }
    median, shortest = grid[choice[0]]
    return Cutting(median, shortest, tuple(THRESHOLDS[t] for t in choice[1])), scores


def count_onsets(found: Sequence[Event], reference: Sequence[Event], classes: Sequence[str]) -> np.ndarray:
    """Onsets of a recording that are right within 200 ms, that were found, and that there are (n_classes, 3)."""
    counts = np.zeros((len(classes), 3), np.int64)
    for i, label in enumerate(classes):
        ours, theirs = (sorted(e.start for e in events if e.label == label) for events in (found, reference))
        counts[i] = _matches(ours, theirs), len(ours), len(theirs)
    return counts


def _matches(ours: Sequence[float], theirs: Sequence[float]) -> int:
    """Most pairs within the tolerance; for sorted times of one tolerance the first that fits is best."""
    i = j = n = 0
    while i < len(ours) and j < len(theirs):
        if abs(ours[i] - theirs[j]) <= TOLERANCE_MS:
            i, j, n = i + 1, j + 1, n + 1
        elif ours[i] < theirs[j]:
            i += 1
        else:
            j += 1
    return n


def _best(counts: np.ndarray) -> tuple[int, np.ndarray]:
    """Grid point and threshold of each class with the best F over all classes [shape=(n_grid, n_classes, n_t, 3)].

    Each class takes its best threshold, of equals the nearest to one half.
    """
    f = _f_scores(counts)[0] - 1e-6 * np.abs(np.array(THRESHOLDS) - 0.5)
    thresholds = f.argmax(-1)  # [shape=(n_grid, n_classes)]
    chosen = np.take_along_axis(counts, thresholds[..., None, None], axis=2)[:, :, 0].sum(1)
    grid = int(_f_scores(chosen)[0].argmax())
    return grid, thresholds[grid]


def _f_scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F, precision and recall of counts along the last axis."""
    right, found, there = (counts[..., i] for i in range(3))
    return 2 * right / (found + there).clip(1), right / found.clip(1), right / there.clip(1)
