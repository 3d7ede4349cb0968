"""hear_byols.evaluation against the real hear-eval-kit: rows, targets, post-processing and scores are the same.

Training has randomness of its own; ``benchmarks/agreement.py`` compares its results over seeds.
"""

import json
import pickle
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkout import ROOT
from task_folders import scene_task

pytest.importorskip("sed_eval", reason="needs sed_eval (extra eval)")
sys.path.insert(0, str(ROOT / "benchmarks"))

from agreement import LAUNCHER, MODULE, kit_score, stored

from hear_byols.evaluation.events import Postprocessing
from hear_byols.evaluation.probe_data import data_of_splits
from hear_byols.evaluation.scorer import EventScorer
from hear_byols.evaluation.scores import SCENE_SCORES, event_scores
from hear_byols.evaluation.synthesis import SYNTHESES, synthesize
from hear_byols.evaluation.tasks import read_task


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
