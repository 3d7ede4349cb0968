"""The real hear-eval-kit embeds a benchmark task with this package and trains its classifiers on the result.

3000 one-second clips through the CvT take about a minute of processor time, the classifiers another minute.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from task_folders import SPLITS, event, scene_task, tone, write_clip, write_event_task

import hear_byols


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
