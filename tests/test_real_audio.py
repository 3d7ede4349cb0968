"""Recordings instead of synthetic sounds: streams, ONNX and Ray give the vectors of the shipped model as loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hear_byols
from hear_byols.cli.main import main
from hear_byols.streaming import StreamingEmbedder

TASKS = Path(__file__).resolve().parents[2] / "shared" / "data" / "tasks"
FOLDERS = (
    "arabic_keywords-v1-full/16000/test",
    "esc10-v1-full/16000/fold00",
    "speechocean_age_gender-v1-full/16000/test",
)
TOLERANCE = 1e-4  # of the largest component

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not TASKS.is_dir(), reason="no recordings in ../shared/data/tasks beside the project"),
]


@pytest.fixture(scope="module")
def recordings() -> list[Path]:
    """Words, environmental sounds and sentences: two files of each."""
    return [path for folder in FOLDERS for path in sorted((TASKS / folder).iterdir())[:2]]


def load(path: Path) -> torch.Tensor:
    return torch.from_numpy(hear_byols.load_audio(path))[None]


def assert_same(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def test_a_stream_gives_the_offline_windows(recordings):
    model = hear_byols.load_model(normalization="dataset")
    for path in recordings:
        stream = StreamingEmbedder(model)
        parts = [stream.feed(chunk) for chunk in load(path)[0].split(1234)] + [stream.finish()]
        assert_same(
            torch.cat([vectors for vectors, _ in parts]).numpy(), model.timestamp_embeddings(load(path))[0][0].numpy()
        )


@pytest.mark.parametrize("option", [[], ["--timestamps"]])
@pytest.mark.parametrize("name", ["cnn_hybrid", "cvt_hybrid"])
def test_an_exported_file_gives_the_models_vectors(recordings, tmp_path, name, option):
    pytest.importorskip("onnxscript", reason='needs pip install "hear_byols[onnx]"')
    runtime = pytest.importorskip("onnxruntime", reason='needs pip install "hear_byols[onnx]"')
    assert main(["export", name, "-o", str(tmp_path / "model.onnx"), *option]) == 0
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    model = hear_byols.load_model(name)
    for path in recordings:
        wanted = model.timestamp_embeddings(load(path))[0] if option else model.scene_embeddings(load(path))
        assert_same(session.run(None, {session.get_inputs()[0].name: load(path).numpy()})[0], wanted.numpy())


@pytest.mark.ray
def test_workers_give_the_models_vectors(recordings, tmp_path):
    pytest.importorskip("ray", reason='needs pip install "hear_byols[ray]"')
    parquet = pytest.importorskip("pyarrow.parquet")
    files = [str(path) for path in recordings]
    arguments = ["--engine", "ray", "--workers", "1", "--device", "cpu", "--relative-to", str(TASKS)]
    assert main(["embed", *files, "-o", str(tmp_path), *arguments]) == 0
    table = parquet.read_table(tmp_path / "embeddings")
    assert sorted(table["source"].to_pylist()) == sorted(str(path.relative_to(TASKS)) for path in recordings)
    model = hear_byols.load_model()
    for name, vector in zip(table["source"].to_pylist(), table["embedding"].to_numpy(), strict=True):
        assert_same(vector, model.scene_embeddings(load(TASKS / name))[0].numpy())
