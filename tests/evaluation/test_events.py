"""From probabilities to events and back."""

import itertools

import numpy as np
import pytest
from task_folders import event, write_event_task

from hear_byols.errors import TaskError
from hear_byols.evaluation.events import Postprocessing, events_of_clip, postprocessing_grid
from hear_byols.evaluation.probe_data import frame_targets
from hear_byols.evaluation.tasks import Event, read_task


def event_task(parent, events=(), **params):
    return read_task(write_event_task(parent, {"a.wav": list(events)}, evaluation_params=params))


def slow_events(probabilities, times, how, vocabulary):
    """The obvious way: a median over neighbours, mirrored at the edges, then runs of frames above one half."""
    width, n = round(how.median_filter_ms / np.diff(times).mean()), len(times)
    events = []
    for label, name in enumerate(vocabulary):
        column = probabilities[:, label]
        if width:
            mirrored = np.concatenate([column[::-1], column, column[::-1]])
            column = [sorted(mirrored[n + i - width // 2 :][:width])[width // 2] for i in range(n)]
        for active, frames in itertools.groupby(range(n), lambda i, column=column: column[i] > 0.5):
            run = times[list(frames)]
            if active and run[-1] - run[0] >= how.min_duration:
                events.append(Event(name, run[0], run[-1]))
    return events


def test_events_are_those_of_the_obvious_way():
    times = 50.0 * np.arange(60)
    smooth = np.random.default_rng(0).uniform(size=(64, 2))
    probabilities = sum(smooth[i : i + 60] for i in range(5)) / 5
    for median_filter_ms, min_duration in itertools.product((0, 150, 200, 250), (0, 100, 125)):
        how = Postprocessing(median_filter_ms, min_duration)
        got = events_of_clip(probabilities, times, how, ["x", "y"])
        expected = slow_events(probabilities, times, how, ["x", "y"])
        assert sorted(got, key=lambda e: (e.label, e.start)) == expected
        assert got == sorted(got, key=lambda e: e.start)
        assert len(expected) > 2
    # One timestamp has no distance of timestamps.
    assert events_of_clip(np.ones((1, 1)), np.zeros(1), Postprocessing(250, 0), ["x"]) == [Event("x", 0.0, 0.0)]


def test_an_event_holds_from_its_start_to_its_end_inclusive(tmp_path):
    task = event_task(tmp_path, [event("y", 100, 200), event("y", 251, 299)])
    targets = frame_targets(task, task.clips["test"][0], 50.0 * np.arange(8))
    assert targets[:, 0].tolist() == [0] * 8
    assert targets[:, 1].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]  # the second falls between two timestamps


def test_the_grid_is_the_tasks_own_or_the_kits(tmp_path):
    assert postprocessing_grid(event_task(tmp_path / "a")) == [Postprocessing(250, 125), Postprocessing(250, 250)]
    own = event_task(tmp_path / "b", event_postprocessing_grid={"median_filter_ms": [150], "min_duration": [50]})
    assert postprocessing_grid(own) == [Postprocessing(150, 50)]
    with pytest.raises(TaskError, match="event_postprocessing_grid must hold lists"):
        postprocessing_grid(event_task(tmp_path / "c", event_postprocessing_grid={"min_duration": [50]}))
