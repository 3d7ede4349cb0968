"""Scores on examples small enough to be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from task_folders import write_task

from hear_byols.errors import TaskError
from hear_byols.evaluation.scorer import make_scorer
from hear_byols.evaluation.scores import SCENE_SCORES, event_scores
from hear_byols.evaluation.tasks import Event, read_task

TARGETS = np.eye(3)[[0, 1, 2, 2]]
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6], [0.3, 0.5, 0.2]])


def test_accuracy_and_pitch_accuracy_count_the_largest():
    assert SCENE_SCORES["top1_acc"](PROBABILITIES, TARGETS) == 0.5
    assert SCENE_SCORES["pitch_acc"](PROBABILITIES, TARGETS) == 0.5


def test_chroma_accuracy_forgives_octaves():
    targets, probabilities = np.eye(30)[[0, 5, 7]], np.eye(30)[[24, 17, 8]]
    assert SCENE_SCORES["chroma_acc"](probabilities, targets) == pytest.approx(2 / 3)
    assert SCENE_SCORES["pitch_acc"](probabilities, targets) == 0


def test_mean_average_precision_is_the_mean_over_classes():
    # class 0: positive first of 4 -> 1; class 1: positive second -> 1/2; class 2: positives first and second -> 1
    assert SCENE_SCORES["mAP"](PROBABILITIES, TARGETS) == pytest.approx((1 + 1 / 2 + 1) / 3)


def test_auc_and_d_prime_are_means_over_classes():
    # pairs in right order: class 0: 3 of 3; class 1: 2 of 3; class 2: 4 of 4
    assert SCENE_SCORES["aucroc"](PROBABILITIES, TARGETS) == pytest.approx((1 + 2 / 3 + 1) / 3)
    two = np.array([[0.1, 0.9], [0.6, 0.4], [0.4, 0.6], [0.8, 0.2]]), np.array([[0, 1], [0, 1], [1, 0], [1, 0]])
    assert SCENE_SCORES["aucroc"](*two) == pytest.approx(0.75)
    assert SCENE_SCORES["d_prime"](*two) == pytest.approx(0.6744897501960817 * math.sqrt(2))


def test_a_class_without_positives_leaves_auc_undefined():
    assert math.isnan(SCENE_SCORES["aucroc"](PROBABILITIES[:2], TARGETS[:2]))
    assert math.isnan(SCENE_SCORES["d_prime"](PROBABILITIES[:2], TARGETS[:2]))


REFERENCE = {"a": [Event("x", 0, 1000), Event("y", 2000, 3000)], "b": [Event("x", 500, 900)]}


def event_score(name, predicted, reference=REFERENCE, vocabulary=("x", "y")):
    return event_scores(name, predicted, reference, vocabulary)


def test_onsets_count_within_200_ms_over_all_clips_together():
    predicted = {"a": [Event("x", 190, 300), Event("y", 2300, 3000)], "b": [Event("x", 450, 800)]}
    scores = event_score("event_onset_200ms_fms", predicted)
    assert scores["event_onset_200ms_fms"] == scores["event_onset_200ms_fms_f_measure"] == pytest.approx(2 / 3)
    assert scores["event_onset_200ms_fms_precision"] == pytest.approx(2 / 3)
    assert event_score("event_onset_50ms_fms", predicted)["event_onset_50ms_fms"] == pytest.approx(1 / 3)


def test_offsets_count_within_a_fifth_of_the_event():
    predicted = {"a": [Event("x", 10, 1190), Event("y", 2000, 3300)], "b": [Event("x", 500, 900)]}
    score = event_score("event_onset_offset_50ms_20perc_fms", predicted)["event_onset_offset_50ms_20perc_fms"]
    assert score == pytest.approx(2 / 3)
    assert event_score("event_onset_50ms_fms", predicted)["event_onset_50ms_fms"] == 1


def test_segment_error_rate_counts_seconds():
    reference = {"a": [Event("x", 0, 2000), Event("y", 2000, 3000)]}  # 3 active label-seconds
    predicted = {"a": [Event("x", 0, 1000), Event("x", 2000, 3000)]}  # one missed, one x for y
    assert event_score("segment_1s_er", predicted, reference)["segment_1s_er"] == pytest.approx(2 / 3)


def test_without_any_prediction_the_f_measure_is_undefined():
    assert math.isnan(event_score("event_onset_200ms_fms", {"a": [], "b": []})["event_onset_200ms_fms"])


NOTES = {"a": [Event("60", 0, 500), Event("64", 600, 1100)], "b": [Event("60", 0, 400)]}


def test_note_scores_are_means_over_clips():
    predicted = {"a": [Event("60", 40, 500), Event("65", 600, 1100)], "b": [Event("60", 0, 700)]}
    onsets = event_score("note_onset_50ms_fms", predicted, NOTES, ("60", "64", "65"))
    assert onsets["note_onset_50ms_fms"] == pytest.approx((0.5 + 1) / 2)
    both = event_score("note_onset_offset_50ms_20perc_fms", predicted, NOTES, ("60", "64", "65"))
    assert both["note_onset_offset_50ms_20perc_fms"] == pytest.approx(0.5 / 2)
    nothing = event_score("note_onset_50ms_fms", {"a": [], "b": []}, NOTES, ("60", "64"))
    assert nothing["note_onset_50ms_fms"] == 0


def task(tmp_path, vocabulary, **metadata):
    splits = {split: {} for split in ("train", "valid", "test")}
    return read_task(write_task(tmp_path / "t", splits, vocabulary, **metadata))


def test_pitches_get_note_scores_besides(tmp_path):
    kinds = {"embedding_type": "event", "prediction_type": "multilabel", "evaluation": ["event_onset_50ms_fms"]}
    assert make_scorer(task(tmp_path / "n", ["60", "61"], **kinds)).names == (
        "event_onset_50ms_fms",
        "note_onset_50ms_fms",
    )
    assert make_scorer(task(tmp_path / "o", ["door", "61"], **kinds)).names == ("event_onset_50ms_fms",)


def test_unknown_scores_are_refused_before_any_work(tmp_path):
    with pytest.raises(TaskError, match=r"evaluation names bleu; known for scene tasks are top1_acc"):
        make_scorer(task(tmp_path, ["x"], evaluation=["top1_acc", "bleu"]))
