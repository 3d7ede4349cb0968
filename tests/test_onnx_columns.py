"""ONNX files of timestamps compute the columns that windows share once; the vectors are the model's own."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from untrained import assert_same, make_model, noise

pytest.importorskip("onnxscript", reason='needs pip install "hear_byols[onnx]"')
pytest.importorskip("onnxruntime", reason='needs pip install "hear_byols[onnx]"')

from hear_byols.model import EmbeddingModel
from hear_byols.onnx import graph as graphs
from hear_byols.onnx.export import compare, export_onnx, metadata, open_session
from hear_byols.onnx.graph import TimestampGraph
from hear_byols.onnx.int8 import TOLERANCE as INT8_TOLERANCE
from hear_byols.onnx.int8 import quantize

pytestmark = pytest.mark.usefixtures("one_thread")
HOPS = [7, 10, 12.5, 20, 25, 30, 33.3125, 40, 50, 80, 700]  # ms; a spectrogram frame is 10, and a column 80
TOLERANCE = 1e-5  # of the largest component


def embed(model: EmbeddingModel, audio: torch.Tensor) -> torch.Tensor:
    """By what the exporter follows, without the exporter's seconds."""
    with torch.no_grad():
        return TimestampGraph(model)(audio)[0]


@settings(max_examples=25, deadline=None)
@given(
    frame_ms=st.floats(85, 1100),
    hop_ms=st.sampled_from(HOPS),
    n_samples=st.integers(1, 14000),
    n_clips=st.integers(1, 2),
    mode=st.sampled_from(["dataset", "clip", "halfway"]),
    layers=st.sampled_from(["last", "multi", "heads"]),
)
def test_any_windows_equal_the_models(frame_ms, hop_ms, n_samples, n_clips, mode, layers):
    model = make_model(mode, layers, frame_ms=frame_ms, hop_ms=hop_ms)
    audio = noise(n_clips, n_samples)
    assert_same(embed(model, audio), model.timestamp_embeddings(audio)[0], TOLERANCE)


@pytest.mark.parametrize(("layers", "frame_ms", "hop_ms"), [("last", 500, 50), ("multi", 523.7, 40)])
def test_an_lstm_reads_shared_columns(layers, frame_ms, hop_ms):
    model, audio = make_model("clip", layers, "clstm", frame_ms=frame_ms, hop_ms=hop_ms), noise(2, 6001)
    assert TimestampGraph(model).shares_columns
    assert_same(embed(model, audio), model.timestamp_embeddings(audio)[0], TOLERANCE)


@pytest.mark.parametrize("hop_ms", [10, 50])
def test_a_distinct_frame_or_column_is_computed_once(hop_ms):
    """At a window of 1 s 9 of 12 columns depend on the signal alone; a hundred such begin in a second."""
    graph, n_columns, n_frames = TimestampGraph(make_model(hop_ms=hop_ms)), [], []
    last = graph.get_submodule("encoder.fc2")
    last.register_forward_hook(lambda module, inputs, output: n_columns.append(output.shape[0]))
    graph.log_mel.register_forward_hook(lambda module, inputs, output: n_frames.append(output[:, 0].numel()))
    with torch.no_grad():
        graph(noise(1, 80000))
    n_windows, n_own, n_shared = 5000 // hop_ms + 1, 3, 500 + 9 * 8
    assert sum(n_columns) <= n_windows * n_own + n_shared
    assert sum(n_frames) <= n_windows * 4 + 600


@pytest.mark.parametrize(("encoder", "hop_ms"), [("cnn", 330), ("cnn", 33.3125), ("cvt", 50)])
def test_windows_that_share_too_little_go_whole(encoder, hop_ms, monkeypatch):
    monkeypatch.setattr(graphs, "embed_windows", None)
    model, audio = make_model(encoder=encoder, hop_ms=hop_ms), noise(1, 8000)
    assert_same(embed(model, audio), model.timestamp_embeddings(audio)[0], TOLERANCE)


def test_the_file_of_any_length_and_batch_equals_the_model(tmp_path):
    model = make_model("clip", "multi", frame_ms=1000, hop_ms=50)
    path = export_onnx(model, tmp_path / "model.onnx", timestamps=True).path
    session = open_session(path, threads=1)
    for shape in [(1, 1), (2, 799), (1, 8000), (3, 16001), (1, 30303)]:
        audio = noise(*shape)
        vectors, times = session.run(["embeddings", "times_ms"], {"waveform": audio.numpy()})
        wanted, wanted_times = model.timestamp_embeddings(audio)
        assert_same(torch.from_numpy(vectors), wanted, TOLERANCE)
        np.testing.assert_array_equal(times, wanted_times.numpy())
    small = tmp_path / "int8.onnx"
    shutil.copy(path, small)
    quantize(small, metadata(model, True))
    assert 1e-5 < compare(model, small, timestamps=True) <= INT8_TOLERANCE
