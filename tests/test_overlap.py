"""Overlapping windows share columns, and the vectors are those of the windows one by one."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from untrained import assert_same, make_model, noise

from hear_byols.model import EmbeddingModel
from hear_byols.streaming import StreamingEmbedder

TOLERANCE = 1e-5  # of the largest component
HOPS = [5, 7, 10, 12.5, 20, 33.3, 40, 50, 60, 100, 250, 700]  # ms; a spectrogram frame is 10


def window_by_window(model: EmbeddingModel, audio: torch.Tensor) -> torch.Tensor:
    """The obvious way: every window is cut out, transformed and encoded alone."""
    framing, norm = model.framing, model.config.normalization
    starts = framing.starts(0, framing.n_windows(audio.shape[1]))
    padded = F.pad(audio, framing.padding)
    cut = torch.stack([padded[:, start : start + framing.frame_samples] for start in starts], 1)
    spectrograms = model.log_mel(cut.flatten(0, 1)).unflatten(0, cut.shape[:2])
    if norm.mode == "dataset":
        standard = (spectrograms + 5) / 4
    else:
        std, mean = torch.std_mean(spectrograms.double(), (1, 2, 3), keepdim=True)
        if norm.mode == "halfway":
            mean, std = (mean - 5) / 2, (std.clamp_min(0.4) * 4).sqrt()
        standard = ((spectrograms - mean) / std.clamp_min(1e-5)).float()
    with torch.no_grad():
        vectors = [model.encode(window[None], model.encoder) for window in standard.flatten(0, 1)]
    return torch.cat(vectors).unflatten(0, cut.shape[:2])


@settings(max_examples=30, deadline=None)
@given(
    frame_ms=st.floats(85, 700),
    hop_ms=st.sampled_from(HOPS),
    n_samples=st.integers(1, 14000),
    n_clips=st.integers(1, 2),
    mode=st.sampled_from(["dataset", "clip", "halfway"]),
    layers=st.sampled_from(["last", "multi", "heads"]),
    batch_size=st.sampled_from([None, 1, 3, 8]),
    room=st.sampled_from([0, 20_000, 1 << 22]),
    pieces=st.sampled_from([{"cpu": 64}, {}]),  # a GPU's are larger
    win_length=st.sampled_from([400, 401, 1024]),
)
def test_any_windows_equal_window_by_window(n_samples, n_clips, mode, layers, room, pieces, **options):
    model = make_model(mode, layers, **options)
    audio = noise(n_clips, n_samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hear_byols.frontend._MAX_KNOWN", room)
        patch.setattr("hear_byols.encoders.overlap._PIECE", pieces)
        assert_same(model.timestamp_embeddings(audio)[0], window_by_window(model, audio), TOLERANCE)


@pytest.mark.parametrize("hop_ms", [33.3, 50])
def test_a_frame_is_transformed_once_for_statistics_and_vectors(hop_ms, monkeypatch):
    model, n_frames = make_model("clip", hop_ms=hop_ms), []
    segments_log_mel = model.log_mel.segments_log_mel
    monkeypatch.setattr(model.log_mel, "segments_log_mel", lambda x: n_frames.append(x.shape[1]) or segments_log_mel(x))
    model.timestamp_embeddings(noise(1, 48000))
    n_windows = model.framing.n_windows(48000)
    assert sum(n_frames) <= (n_windows * 101 if hop_ms == 33.3 else n_windows * 4 + 397)


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_a_distinct_column_is_computed_once(batch_size):
    """At 1 s and 50 ms 9 of 12 columns depend on the signal alone; a hundred such begin in a second."""
    model = make_model(batch_size=batch_size)
    n_columns = []
    model.encoder.fc2.register_forward_hook(lambda module, inputs, output: n_columns.append(len(output)))
    model.timestamp_embeddings(noise(1, 80000))
    n_windows, n_own, n_shared = 101, 3, 500 + 8 * 8 + 1 - 3
    n_most = n_windows * n_own + n_shared + 12
    assert sum(n_columns) <= n_most + 16 * len(n_columns)  # filled up to multiples of 16
    n_columns.clear()
    embedder = StreamingEmbedder(model)
    for chunk in noise(1, 80000)[0].split(800):
        embedder.feed(chunk)
    embedder.finish()
    assert sum(n_columns) <= n_most


def test_windows_shorter_than_the_analysis_window():
    model = make_model(encoder="cvt", frame_ms=15, hop_ms=7)
    for audio in (noise(2, 1), noise(2, 1500)):
        assert_same(model.timestamp_embeddings(audio)[0], window_by_window(model, audio), TOLERANCE)


@pytest.mark.parametrize(("frame_ms", "hop_ms", "layers"), [(500, 50, "last"), (523.7, 40, "multi")])
def test_an_lstm_reads_shared_columns(frame_ms, hop_ms, layers):
    model, n_calls = make_model("clip", layers, "clstm", frame_ms=frame_ms, hop_ms=hop_ms), []
    audio = noise(1, 6001)
    wanted = window_by_window(model, audio)
    model.encoder.register_forward_pre_hook(lambda module, inputs: n_calls.append(1))
    assert_same(model.timestamp_embeddings(audio)[0], wanted, TOLERANCE)
    assert not n_calls


def test_windows_far_apart_go_whole():
    """Where windows share too little, each is encoded as it is: nothing is gathered for nothing."""
    model, calls = make_model(hop_ms=250), []
    model.encoder.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape))
    model.timestamp_embeddings(noise(1, 16000))
    assert calls == [(5, 1, 64, 101)]
