"""The protocol: order of rows, search, folds, standardization, and the fast probe."""

import random

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from task_folders import PITCHES, SPLITS, event, scene_task, write_event_task, write_task

from hear_byols.errors import InputError, TaskError
from hear_byols.evaluation import probe
from hear_byols.evaluation.embeddings import Embeddings
from hear_byols.evaluation.probe import Search
from hear_byols.evaluation.probe_data import Standardizer, data_of_splits, frame_targets, join
from hear_byols.evaluation.scorer import make_scorer
from hear_byols.evaluation.tasks import read_task

SMALL = Search(grid_points=2, max_epochs=60, hidden_size=32)


def noisy(task, size=6, noise=0.4, seed=0):
    """Embeddings in which each label has a direction of its own."""
    generator, found = np.random.default_rng(seed), Embeddings()
    directions = generator.normal(size=(len(task.vocabulary), size))
    for clip in task.all_clips():
        vector = directions[task.index_of[clip.labels[0]]] + noise * generator.normal(size=size)
        found.vectors[clip.split, clip.name] = vector.astype(np.float32)
    return found


def probe_mlp(task, rows, **options):
    return probe.probe_mlp(make_scorer(task), rows, search=SMALL, **options)


def probe_linear(task, rows):
    return probe.probe_linear(make_scorer(task), rows)


@pytest.fixture
def task(tmp_path):
    return read_task(scene_task(tmp_path, n=8))


def test_rows_are_in_the_kits_order_parts_side_by_side_and_splits_after_each_other(task):
    parts = noisy(task, seed=1), noisy(task, size=3, seed=2)
    rows = data_of_splits(task, parts)
    generator = random.Random(0)
    for split in SPLITS:
        clips = list(task.clips[split])
        generator.shuffle(clips)
        assert list(rows[split].clips) == clips
        assert rows[split].y.argmax(1).tolist() == [task.index_of[clip.labels[0]] for clip in clips]
        expected = [np.concatenate([each.vectors[split, clip.name] for each in parts]) for clip in clips]
        np.testing.assert_array_equal(rows[split].x, expected)
    both = join(rows, ("valid", "test"))
    np.testing.assert_array_equal(both.x, np.concatenate([rows["valid"].x, rows["test"].x]))


def test_the_first_seed_has_the_kits_own_grid_points(task):
    """As its ParameterGrid and ``random.shuffle`` after ``seed_everything(42)`` give them."""
    points = [f"{p.hidden_layers} {p.learning_rate:g} {p.initialization[7:]}" for p in Search().points(task, 0)]
    assert points[:4] == ["1 0.0001 normal", "2 0.001 uniform", "1 0.001 normal", "1 0.00032 normal"]
    assert points[4:] == ["2 0.00032 normal", "2 0.00032 uniform", "2 0.0032 normal", "2 0.0032 uniform"]
    first = Search().points(task, 0)[0]
    assert (first.hidden_size, first.dropout, first.batch_size, first.max_epochs) == (1024, 0.1, 1024, 500)
    assert (first.check_every, first.patience) == (3, 20)
    assert Search().points(task, 1) != Search().points(task, 0)


def test_separable_labels_are_learnt_in_every_fold_and_a_seed_repeats(tmp_path):
    task = read_task(scene_task(tmp_path, splits=("fold00", "fold01", "fold02"), n=6, split_mode="new_split_kfold"))
    rows = data_of_splits(task, [noisy(task)])
    first, again, other = (probe_mlp(task, rows, seed=seed) for seed in (0, 0, 1))
    assert len(first.folds) == len(first.settings["epochs"]) == 3
    assert first.scores["top1_acc"] == pytest.approx(np.mean([fold["top1_acc"] for fold in first.folds]))
    assert first.scores["top1_acc"] > 0.8
    assert first == again
    assert other.settings != first.settings


def test_training_never_sees_the_test_rows(task):
    """Whatever the test split holds, the predictor and the choice stay the same."""
    found = noisy(task)
    rows = data_of_splits(task, [found])
    before = probe_mlp(task, rows), probe_linear(task, rows)
    for clip in task.clips["test"]:
        found.vectors["test", clip.name] = -1e3 * found.vectors["test", clip.name]
    rows = data_of_splits(task, [found])
    after = probe_mlp(task, rows), probe_linear(task, rows)
    for a, b in zip(before, after, strict=True):
        assert a.settings == b.settings
        assert a.scores != b.scores


STRENGTHS = (0.01, 0.1, 1, 10, 100)


def ridge_accuracies(train, data):
    """Of each strength, on other rows than those of the training."""
    scale = Standardizer(train.x)
    fits = [Ridge(alpha=each * train.x.shape[1]).fit(scale(train.x), 2 * train.y - 1) for each in STRENGTHS]
    return [np.mean(fit.predict(scale(data.x)).argmax(1) == data.y.argmax(1)) for fit in fits]


@pytest.mark.parametrize(
    ("size", "noise", "kinds"),
    [(6, 2.0, {}), (300, 12.0, {"splits": ("f0", "f1", "f2", "f3"), "split_mode": "presplit_kfold"})],
    ids=["more clips than features", "fewer, in folds"],
)
def test_the_linear_probe_is_ridge_regression_of_the_strength_that_validates_best(tmp_path, size, noise, kinds):
    task = read_task(scene_task(tmp_path, n=8, **kinds))
    rows = data_of_splits(task, [noisy(task, size=size, noise=noise)])
    strengths, validation, scores = [], [], []
    for names in task.data_splits():
        train, valid, test = (join(rows, each) for each in names)
        on_valid, on_test = ridge_accuracies(train, valid), ridge_accuracies(train, test)
        best = np.argmax(on_valid)  # of equals the weakest
        strengths.append(STRENGTHS[best])
        validation.append(on_valid[best])
        scores.append(on_test[best])
    result = probe_linear(task, rows)
    assert result.settings["strength"] == strengths
    assert result.settings["validation"] == pytest.approx(validation)
    assert result.scores["top1_acc"] == pytest.approx(np.mean(scores))
    assert 0.4 < np.mean(scores) < 1


def test_standardization_rescues_features_of_huge_scale(task):
    """As openSMILE's, which reach 1e13 (paper, section 3.4)."""
    huge = noisy(task, size=1, noise=1.0, seed=5)
    scaled = Embeddings({key: 1e10 * vector for key, vector in huge.vectors.items()})
    rows = data_of_splits(task, [noisy(task), scaled])
    results = [probe_mlp(task, rows, standardize=on) for on in (False, True)]
    plain, standardized = (result.scores["top1_acc"] for result in results)
    assert standardized > 0.8
    assert standardized > plain


def test_the_standardizer_uses_the_training_rows_and_clips():
    train = np.random.default_rng(0).normal(3, 2, size=(100, 2)).astype(np.float32)
    train[:, 1] = 7
    scale = Standardizer(train)
    assert np.abs(scale(train).mean(0)).max() < 1e-6
    assert scale(train)[:, 0].std(ddof=1) == pytest.approx(1, abs=1e-5)
    assert scale(np.array([[1e9, 8.0]])).tolist() == [[10, 10]]


def event_task(tmp_path, evaluation=("event_onset_200ms_fms", "segment_1s_er"), **metadata):
    clips = {
        f"{i}.wav": [event(label, start := 1000.0 * j + 100 * i, start + 400) for j, label in enumerate("xyx")]
        for i in range(4)
    }
    return read_task(write_event_task(tmp_path, clips, evaluation=list(evaluation), **metadata))


def event_embeddings(task):
    generator, found, times = np.random.default_rng(1), Embeddings(), 50.0 * np.arange(70)
    for clip in task.all_clips():
        active = frame_targets(task, clip, times)
        found.vectors[clip.split, clip.name] = (active + 0.1 * generator.normal(size=active.shape)).astype(np.float32)
        found.timestamps[clip.split, clip.name] = times
    return found


@pytest.mark.parametrize(
    ("run", "metadata", "min_duration", "chosen_by"),
    [
        (probe_mlp, {}, 250, (0.95, 1)),  # of equals the strictest
        (probe_linear, {}, 250, (0.95, 1)),
        (probe_mlp, {"evaluation": ["segment_1s_er"]}, 250, (-0.1, 0)),  # an error rate is minimized
        (probe_mlp, {"use_scoring_for_early_stopping": False}, 125, (-0.2, -1e-9)),  # the loss
    ],
)
def test_visible_events_are_found(tmp_path, run, metadata, min_duration, chosen_by):
    task = event_task(tmp_path, **metadata)
    result = run(task, data_of_splits(task, [event_embeddings(task)]))
    assert result.scores.get("event_onset_200ms_fms", 1) > 0.95
    assert result.scores["segment_1s_er"] < 0.1
    assert chosen_by[0] <= result.settings["validation"][0] <= chosen_by[1]
    assert result.settings["postprocessing"] == [{"median_filter_ms": 250, "min_duration": min_duration}]


def test_what_fits_neither_parts_nor_vocabulary_is_refused(tmp_path):
    task = event_task(tmp_path)
    one, two = event_embeddings(task), event_embeddings(task)
    two.timestamps = {key: times * 2 for key, times in two.timestamps.items()}
    with pytest.raises(InputError, match="timestamps differ"):
        data_of_splits(task, [one, two])
    for labels, says in (
        (["low", "mid"], "a multiclass task needs one label"),
        (["deep"], r"the label 'deep' is not in .*labelvocabulary.csv"),
    ):
        names = {split: {f"{split}.wav": labels} for split in SPLITS}
        task = read_task(write_task(tmp_path / labels[0], names, list(PITCHES)))
        found = Embeddings({(split, f"{split}.wav"): np.zeros(2, np.float32) for split in SPLITS})
        with pytest.raises(TaskError, match=says):
            data_of_splits(task, [found])
