"""From probabilities to events, and scores on examples small enough to be worked out by hand."""

import itertools
import math

import numpy as np
import pytest
from task_folders import event, write_event_task, write_task

from hear_byols.errors import TaskError
from hear_byols.evaluation.events import Postprocessing, events_of_clip, postprocessing_grid
from hear_byols.evaluation.probe_data import frame_targets
from hear_byols.evaluation.scorer import make_scorer
from hear_byols.evaluation.scores import SCENE_SCORES, event_scores
from hear_byols.evaluation.tasks import Event, read_task

# Probabilities and targets
FOUR = (np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6], [0.3, 0.5, 0.2]]), np.eye(3)[[0, 1, 2, 2]])
FIRST_TWO = (FOUR[0][:2], FOUR[1][:2])  # the last class has no positives
TWO_CLASSES = (np.array([[0.1, 0.9], [0.6, 0.4], [0.4, 0.6], [0.8, 0.2]]), np.array([[0, 1], [0, 1], [1, 0], [1, 0]]))
SEMITONES = (np.eye(30)[[24, 17, 8]], np.eye(30)[[0, 5, 7]])


def test_scene_scores():
    for name, example, expected in (
        ("top1_acc", FOUR, 1 / 2),
        ("pitch_acc", FOUR, 1 / 2),
        ("pitch_acc", SEMITONES, 0),
        ("chroma_acc", SEMITONES, 2 / 3),  # forgives octaves
        # class 0: positive first of 4 -> 1; class 1: positive second -> 1/2; class 2: positives first and second -> 1
        ("mAP", FOUR, (1 + 1 / 2 + 1) / 3),
        # pairs in right order: class 0: 3 of 3; class 1: 2 of 3; class 2: 4 of 4
        ("aucroc", FOUR, (1 + 2 / 3 + 1) / 3),
        ("aucroc", TWO_CLASSES, 0.75),
        ("d_prime", TWO_CLASSES, 0.6744897501960817 * math.sqrt(2)),
        ("aucroc", FIRST_TWO, math.nan),
        ("d_prime", FIRST_TWO, math.nan),
    ):
        assert SCENE_SCORES[name](*example) == pytest.approx(expected, nan_ok=True), name


REFERENCE = {"a": [Event("x", 0, 1000), Event("y", 2000, 3000)], "b": [Event("x", 500, 900)]}
LATE = {"a": [Event("x", 190, 300), Event("y", 2300, 3000)], "b": [Event("x", 450, 800)]}
LONGER = {"a": [Event("x", 10, 1190), Event("y", 2000, 3300)], "b": [Event("x", 500, 900)]}
SECONDS = {"a": [Event("x", 0, 2000), Event("y", 2000, 3000)]}  # 3 active label-seconds
CONFUSED = {"a": [Event("x", 0, 1000), Event("x", 2000, 3000)]}  # one missed, one x for y
NOTES = {"a": [Event("60", 0, 500), Event("64", 600, 1100)], "b": [Event("60", 0, 400)]}
PLAYED = {"a": [Event("60", 40, 500), Event("65", 600, 1100)], "b": [Event("60", 0, 700)]}
NOTHING = {"a": [], "b": []}


def test_event_scores():
    for name, predicted, reference, expected in (
        ("event_onset_200ms_fms", LATE, REFERENCE, 2 / 3),  # all clips together
        ("event_onset_50ms_fms", LATE, REFERENCE, 1 / 3),
        ("event_onset_200ms_fms", NOTHING, REFERENCE, math.nan),
        ("event_onset_50ms_fms", LONGER, REFERENCE, 1),
        ("event_onset_offset_50ms_20perc_fms", LONGER, REFERENCE, 2 / 3),  # offsets within a fifth of the event
        ("segment_1s_er", CONFUSED, SECONDS, 2 / 3),
        ("note_onset_50ms_fms", PLAYED, NOTES, (1 / 2 + 1) / 2),  # means over clips
        ("note_onset_offset_50ms_20perc_fms", PLAYED, NOTES, 1 / 2 / 2),
        ("note_onset_50ms_fms", NOTHING, NOTES, 0),
    ):
        scores = event_scores(name, predicted, reference, ("x", "y", "60", "64", "65"))
        assert scores[name] == pytest.approx(expected, nan_ok=True), name


def test_f_measures_come_with_precision_and_recall():
    predicted = {"a": REFERENCE["a"], "b": []}
    scores = event_scores("event_onset_200ms_fms", predicted, REFERENCE, ("x", "y"))
    assert scores == {
        "event_onset_200ms_fms": pytest.approx(4 / 5),
        "event_onset_200ms_fms_f_measure": pytest.approx(4 / 5),
        "event_onset_200ms_fms_precision": 1,
        "event_onset_200ms_fms_recall": pytest.approx(2 / 3),
    }


def test_pitches_get_note_scores_besides(tmp_path):
    def names(*vocabulary):
        folder = write_event_task(tmp_path / vocabulary[0], {}, vocabulary, evaluation=["event_onset_50ms_fms"])
        return make_scorer(read_task(folder)).names

    assert names("60", "61") == ("event_onset_50ms_fms", "note_onset_50ms_fms")
    assert names("door", "61") == ("event_onset_50ms_fms",)


def test_unknown_scores_are_refused_before_any_work(tmp_path):
    folder = write_task(tmp_path / "t", {"train": {}, "valid": {}, "test": {}}, ["x"], evaluation=["top1_acc", "bleu"])
    with pytest.raises(TaskError, match=r"evaluation names bleu; known for scene tasks are top1_acc"):
        make_scorer(read_task(folder))


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
