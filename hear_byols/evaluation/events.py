"""From probabilities at timestamps to events (hear-eval-kit's post-processing)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from hear_byols._util.imports import require
from hear_byols.errors import TaskError
from hear_byols.evaluation.tasks import Event, Task

ndimage = require("scipy.ndimage", "evaluation", "eval")
_THRESHOLD = 0.5


@dataclass(frozen=True, order=True)
class Postprocessing:
    """How events are cut out."""

    median_filter_ms: float = 250  # width of the median filter over time; 0 for none
    min_duration: float = 125  # shortest event that is kept, in ms, from its first to its last timestamp


def postprocessing_grid(task: Task) -> list[Postprocessing]:
    """What validation chooses from: the metadata's ``event_postprocessing_grid``, by default 250 ms, 125 and 250 ms.

    Raises:
        TaskError: the metadata's grid is not one.
    """
    default = {"median_filter_ms": [250], "min_duration": [125, 250]}
    grid = (task.metadata.get("evaluation_params") or {}).get("event_postprocessing_grid") or default
    try:
        return [Postprocessing(*map(float, values)) for values in product(*(grid[name] for name in default))]
    except (KeyError, TypeError, ValueError) as error:
        raise TaskError(
            f"{task.folder}: event_postprocessing_grid must hold lists of median_filter_ms and min_duration, got {grid}"
        ) from error


def events_of_clip(
    probabilities: np.ndarray, timestamps: np.ndarray, how: Postprocessing, vocabulary: Sequence[str]
) -> list[Event]:
    """Filter, threshold at one half, and make an event of each run of timestamps, in order of the onsets.

    Args:
        probabilities: [shape=(n_timestamps, n_labels)].
        timestamps: in ms, ascending.
        how: to cut them out.
        vocabulary: labels by index.
    """
    width = round(how.median_filter_ms / np.diff(timestamps).mean()) if len(timestamps) > 1 else 0
    if width:
        probabilities = ndimage.median_filter(probabilities, size=(width, 1))
    active = np.pad(probabilities > _THRESHOLD, ((1, 1), (0, 0))).astype(np.int8)
    changes = np.diff(active, axis=0)
    events = []
    for label in map(int, np.flatnonzero(changes.any(axis=0))):
        firsts, ends = np.flatnonzero(changes[:, label] == 1), np.flatnonzero(changes[:, label] == -1)
        for start, stop in zip(timestamps[firsts], timestamps[ends - 1], strict=True):
            if stop - start >= how.min_duration:
                events.append(Event(vocabulary[label], float(start), float(stop)))
    return sorted(events, key=lambda event: event.start)
