"""The real hear-eval-kit embeds tasks with this package and trains its classifiers on the result.

3000 one-second clips through the CvT take about a minute of processor time, the classifiers another minute. Then
hear_byols.evaluation against the kit: rows, targets, post-processing and scores are the same. Training has randomness
of its own; ``benchmarks/agreement.py`` compares its results over seeds.
"""

import json
import math
import pickle
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from checkout import ROOT
from task_folders import SPLITS, event, scene_task, tone, write_clip, write_event_task

pytest.importorskip("sed_eval", reason="needs sed_eval (extra eval)")
sys.path.insert(0, str(ROOT / "benchmarks"))

from agreement import LAUNCHER, MODULE, kit_score, stored

import hear_byols
from hear_byols.evaluation.events import Postprocessing
from hear_byols.evaluation.probe_data import data_of_splits
from hear_byols.evaluation.scorer import EventScorer
from hear_byols.evaluation.scores import SCENE_SCORES, event_scores
from hear_byols.evaluation.synthesis import SYNTHESES, synthesize
from hear_byols.evaluation.tasks import read_task


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal within the package's promise: 1e-4 of the largest component."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def assert_as_python(kits, folder: Path, task: Path, split: str, name: str) -> None:
    """The kit stored for a clip of a task what the package gives for it alone."""
    audio, _ = soundfile.read(task / "16000" / split / name, dtype="float32")
    model = hear_byols.load_model(kits.weights)
    ours = hear_byols.get_scene_embeddings(torch.from_numpy(audio)[None], model)[0].numpy()
    assert_same(np.load(folder / split / f"{name}.embedding.npy"), ours)


@pytest.fixture(scope="module")
def embedded(kits, task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit's embeddings of the whole task with the shipped weights."""
    return kits.embed(tmp_path_factory.mktemp("embedded"), task, "hear_byols", "--model", kits.weights)


def test_the_kit_stores_the_vectors_that_python_gives(kits, embedded: Path, task: Path) -> None:
    for split in SPLITS:
        names = sorted(json.loads((task / f"{split}.json").read_text()))
        for name in names[:: math.ceil(len(names) / 5)]:
            assert_as_python(kits, embedded, task, split, name)


def test_the_kit_predicts_digits_well_above_chance(kits, embedded: Path) -> None:
    scores = kits.predict(embedded, "--grid", "fast")["test"]
    assert scores["test_score"] == scores["test_top1_acc"]
    assert scores["test_top1_acc"] > 0.3  # chance is 0.1; two points of a grid of short trainings


def test_a_variant_needs_no_model_and_names_its_folder(kits, tmp_path: Path) -> None:
    task = scene_task(tmp_path, n=2)
    folder = kits.embed(tmp_path, task, "hear_byols.variants.cvt_hybrid")
    assert folder.parent.name == "hear_byols.variants.cvt_hybrid"
    stored = sorted(folder.rglob("*.embedding.npy"))
    assert len(stored) == 18
    for path in stored:
        assert_as_python(kits, folder, task, path.parent.name, path.name.removesuffix(".embedding.npy"))


@pytest.fixture
def event_task(tmp_path: Path) -> Path:
    """A task of a few clips of 1.5 s, each with an event, made up like the public ones."""
    grid = {"event_postprocessing_grid": {"median_filter_ms": [250], "min_duration": [125]}}
    clips = {f"{i}.wav": [event("tone", 400, 900)] for i in range(3)}
    folder = write_event_task(tmp_path / "made", clips, ["tone"], sample_duration=1.5, evaluation_params=grid)
    for seed, split in enumerate(SPLITS):
        for name in clips:
            write_clip(folder, split, f"{split}_{name}", tone(440, seconds=1.5, seed=seed))
    return folder


@pytest.mark.parametrize(
    ("options", "suffix"), [({}, ""), ({"frame_ms": 500, "hop_ms": 25}, "-frame-ms=500-hop-ms=25")]
)
def test_timestamps_reach_the_kit(
    kits, event_task: Path, tmp_path: Path, options: dict[str, float], suffix: str
) -> None:
    module = "hear_byols.variants.random_cvt"
    folder = kits.embed(tmp_path, event_task, module, "--model-options", json.dumps(options))
    assert folder.parent.name == f"{module}{suffix}"
    stored = folder / "test" / "test_1.wav"
    audio, _ = soundfile.read(event_task / "16000" / "test" / "test_1.wav", dtype="float32")
    model = hear_byols.load_model("random_cvt", **options)
    vectors, centres = hear_byols.get_timestamp_embeddings(torch.from_numpy(audio)[None], model)
    assert_same(np.load(f"{stored}.embedding.npy"), vectors[0].numpy())
    assert json.loads(Path(f"{stored}.timestamps.json").read_text()) == centres[0].tolist()
    labels = json.loads(Path(f"{stored}.target-labels.json").read_text())
    hop_ms = options.get("hop_ms", 50)
    assert [bool(label) for label in labels] == [400 <= i * hop_ms <= 900 for i in range(len(labels))]


# ---- agreement


def compare(kits, home: Path, folder: Path) -> SimpleNamespace:
    """The task, the kit's embeddings of it, predictions and scores of short trainings, and our rows."""
    task, done = read_task(folder), kits.embed(home, folder, MODULE)
    scores = kits.predict(done, "--grid", "faster", launcher=["-c", LAUNCHER])
    predicted = pickle.loads((done / "test.predictions.pkl").read_bytes())
    rows = data_of_splits(task, [stored(task, done)])
    return SimpleNamespace(task=task, done=done, scores=scores, predicted=predicted, rows=rows)


@pytest.fixture(scope="module")
def scenes(kits, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All scene scores that the kit knows, on tones of which a third have another label than one can hear."""
    home = tmp_path_factory.mktemp("scenes")
    names = ["top1_acc", "pitch_acc", "chroma_acc", "mAP", "d_prime", "aucroc"]
    folder = scene_task(home, n=12, evaluation=names)
    labels = json.loads((folder / "test.json").read_text())
    wrong = {name: ["mid"] for name in list(labels)[::3]}
    (folder / "test.json").write_text(json.dumps({**labels, **wrong}))
    return compare(kits, home, folder)


@pytest.fixture(scope="module")
def notes(kits, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All event scores that the kit knows, on notes loud and sparse enough to be found after ten epochs."""
    home = tmp_path_factory.mktemp("notes")
    names = ("event_onset_200ms_fms", "event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms", "segment_1s_er")
    small = {"n_clips": (8, 3, 4), "clip_seconds": 8.0, "level_db": (20.0,), "evaluation": names}
    return compare(kits, home, synthesize(home, replace(SYNTHESES["office"], **small)))


@pytest.mark.parametrize("which", ["scenes", "notes"])
def test_rows_and_targets_are_the_kits(which: str, request: pytest.FixtureRequest) -> None:
    kit: SimpleNamespace = request.getfixturevalue(which)
    for split, rows in kit.rows.items():
        shape = json.loads((kit.done / f"{split}.embedding-dimensions.json").read_text())
        stored = np.fromfile(kit.done / f"{split}.embeddings.npy", np.float32).reshape(shape)
        np.testing.assert_array_equal(rows.x, stored)
        labels = pickle.loads((kit.done / f"{split}.target-labels.pkl").read_bytes())
        for target, names in zip(rows.y, labels, strict=True):
            assert {kit.task.vocabulary[i] for i in np.flatnonzero(target)} == set(names)
        assert rows.y.sum() > 0


def test_scene_scores_of_the_kits_predictions_are_the_kits(scenes: SimpleNamespace) -> None:
    for name in scenes.task.evaluation:
        ours = SCENE_SCORES[name](*(scenes.predicted[key].numpy() for key in ("prediction", "target")))
        assert ours == pytest.approx(kit_score(scenes.scores, name), abs=1e-6), name
        assert ours > 0.2


def test_events_and_their_scores_are_the_kits(notes: SimpleNamespace) -> None:
    task, rows, predicted = notes.task, notes.rows["test"], notes.predicted
    np.testing.assert_array_equal(predicted["target"], rows.y)
    how = Postprocessing(**dict(notes.scores["postprocessing"]))
    ours = EventScorer(task).events(rows, predicted["prediction"].numpy(), how)
    as_kit = {name: [asdict(event) for event in events] for name, events in ours.items()}
    assert as_kit == predicted["predicted_events"]
    assert sum(map(len, as_kit.values())) > 3
    reference = {clip.name: clip.events for clip in rows.clips}
    for name in task.evaluation:
        for part, value in event_scores(name, ours, reference, task.vocabulary).items():
            assert value == pytest.approx(kit_score(notes.scores, part), abs=1e-6), part
