"""hear_byols.evaluation against the real hear-eval-kit: rows, targets, post-processing and scores are the same.

Training has randomness of its own; ``benchmarks/agreement.py`` compares its results over seeds.
"""

import json
import pickle
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from kits_environment import Kits
from task_folders import write_clip, write_task

pytest.importorskip("sed_eval", reason="needs sed_eval (extra eval)")
sys.path.insert(0, str(ROOT / "benchmarks"))

from agreement import LAUNCHER, MODULE, kit_score, stored

from hear_byols.evaluation.events import Postprocessing
from hear_byols.evaluation.probe_data import ProbeData, data_of_splits
from hear_byols.evaluation.scorer import EventScorer
from hear_byols.evaluation.scores import SCENE_SCORES, event_scores
from hear_byols.evaluation.synthesis import SYNTHESES, synthesize
from hear_byols.evaluation.tasks import Task, read_task

PITCHES = {"low": 300.0, "mid": 420.0, "high": 560.0}


def scene_task(parent: Path) -> Path:
    """Tones in noise of three pitches, hard enough not to be all right; scores as FSD50K's."""
    generator, time = np.random.default_rng(0), np.arange(8000) / 16000
    splits = {
        split: {f"{split}_{label}{i}.wav": [label] for label in PITCHES for i in range(n)}
        for split, n in (("train", 20), ("valid", 8), ("test", 12))
    }
    scores = ["top1_acc", "pitch_acc", "chroma_acc", "mAP", "d_prime", "aucroc"]
    folder = write_task(parent / "tones-v1-test", splits, list(PITCHES), evaluation=scores)
    for split, labels in splits.items():
        for name, (label,) in labels.items():
            tone = 0.02 * np.sin(2 * np.pi * PITCHES[label] * generator.uniform(0.8, 1.2) * time)
            write_clip(folder, split, name, tone + 0.1 * generator.normal(size=8000))
    return folder


def run_kit(kits: Kits, home: Path, task: Path) -> Path:
    """The kit's embeddings and predictions of a task, a grid of short trainings."""
    done = kits.embed(home, task, MODULE)
    command = ["python", "-c", LAUNCHER, "heareval.predictions.runner", done, "--grid-points", "2", "--grid", "faster"]
    result = kits.start(command, home, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
    assert result.returncode == 0, result.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def scenes(kits: Kits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Path]:
    home = tmp_path_factory.mktemp("scenes")
    folder = scene_task(home)
    return read_task(folder), run_kit(kits, home, folder)


@pytest.fixture(scope="module")
def notes(kits: Kits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Path]:
    """All event scores that the kit knows, on notes loud and sparse enough to be found after ten epochs."""
    home = tmp_path_factory.mktemp("notes")
    config = replace(SYNTHESES["office"], n_clips=(8, 3, 4), clip_seconds=8.0, level_db=(20.0,))
    folder = synthesize(home, config)
    path = folder / "task_metadata.json"
    names = ["event_onset_200ms_fms", "event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms", "segment_1s_er"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "evaluation": names}))
    return read_task(folder), run_kit(kits, home, folder)


def rows_of(task: Task, done: Path) -> dict[str, ProbeData]:
    return data_of_splits(task, [stored(task, done)])


@pytest.mark.parametrize("which", ["scenes", "notes"])
def test_rows_and_targets_are_the_kits(which: str, request: pytest.FixtureRequest) -> None:
    task, done = request.getfixturevalue(which)
    for split, rows in rows_of(task, done).items():
        shape = json.loads((done / f"{split}.embedding-dimensions.json").read_text())
        np.testing.assert_array_equal(rows.x, np.fromfile(done / f"{split}.embeddings.npy", np.float32).reshape(shape))
        labels = pickle.loads((done / f"{split}.target-labels.pkl").read_bytes())
        for target, names in zip(rows.y, labels, strict=True):
            assert {task.vocabulary[i] for i in np.flatnonzero(target)} == set(names)
        assert rows.y.sum() > 0


def kit_predictions(kits: Kits, done: Path) -> dict[str, Any]:
    """What the kit predicted; its pickle holds tensors."""
    program = (
        "import pickle, sys, torch\n"
        "content = pickle.load(open(sys.argv[1], 'rb'))\n"
        "plain = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in content.items()}\n"
        "pickle.dump(plain, open(sys.argv[2], 'wb'))\n"
    )
    result = kits.start(["python", "-c", program, done / "test.predictions.pkl", done / "plain.pkl"], done)
    assert result.returncode == 0, result.stderr
    return pickle.loads((done / "plain.pkl").read_bytes())


def test_scene_scores_of_the_kits_predictions_are_the_kits(kits: Kits, scenes: tuple[Task, Path]) -> None:
    task, done = scenes
    predicted = kit_predictions(kits, done)
    theirs = json.loads((done / "test.predicted-scores.json").read_text())
    for name in task.evaluation:
        ours = SCENE_SCORES[name](predicted["prediction"], predicted["target"])
        assert ours == pytest.approx(kit_score(theirs, name), abs=1e-6), name
        assert ours > 0.2


def test_events_and_their_scores_are_the_kits(kits: Kits, notes: tuple[Task, Path]) -> None:
    task, done = notes
    predicted, rows = kit_predictions(kits, done), rows_of(task, done)["test"]
    theirs = json.loads((done / "test.predicted-scores.json").read_text())
    np.testing.assert_array_equal(predicted["target"], rows.y)
    how = Postprocessing(**dict(theirs["postprocessing"]))
    ours = EventScorer(task).events(rows, predicted["prediction"], how)
    as_kit = {name: [asdict(event) for event in events] for name, events in ours.items()}
    assert as_kit == predicted["predicted_events"]
    assert sum(map(len, as_kit.values())) > 3
    for name in task.evaluation:
        for part, value in event_scores(
            name, ours, {clip.name: clip.events for clip in rows.clips}, task.vocabulary
        ).items():
            assert value == pytest.approx(kit_score(theirs, part), abs=1e-6), part
