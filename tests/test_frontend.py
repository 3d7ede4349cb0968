"""The log-mel front end: equal to the library the paper used, and shared between windows without a difference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_byols import frontend
from hear_byols.config import FrontendConfig
from hear_byols.frontend import LogMel, SharedSpectrogram


def noise(n_clips: int, n_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).uniform(-1, 1, (n_clips, n_samples)).astype(np.float32))


@pytest.mark.parametrize("win_length", [400, 1024])
def test_equals_torchaudio(win_length):
    """The arrays are those of torchaudio 2.11.0's MelSpectrogram for noise, a chirp and faint noise."""
    stored = np.load(Path(__file__).parent / "torchaudio_mel.npz")
    expected = np.log(stored[f"mel_{win_length}"] + np.finfo(np.float32).eps)
    got = LogMel(FrontendConfig(win_length=win_length))(torch.from_numpy(stored["audio"])).numpy()
    difference = np.abs(got - expected)
    assert difference.max() < 1e-4
    assert difference.mean() < 1e-6


def test_long_clips_in_blocks_equal_one_block(monkeypatch):
    audio = noise(2, 30000)
    whole = LogMel()(audio)
    monkeypatch.setitem(frontend._MAX_VALUES, "cpu", 34 * 1024)
    torch.testing.assert_close(LogMel()(audio), whole, atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    frame=st.integers(201, 20000),
    hop=st.integers(1, 3000),
    n_windows=st.integers(1, 12),
    win_length=st.sampled_from([400, 401, 1024]),
)
def test_shared_windows_equal_window_by_window(frame, hop, n_windows, win_length):
    log_mel = LogMel(FrontendConfig(win_length=win_length))
    frame = max(frame, log_mel.min_samples)
    starts = torch.arange(n_windows) * hop
    audio = noise(2, int(starts[-1]) + frame, seed=frame)
    shared = SharedSpectrogram(log_mel, frame)(audio, starts)
    alone = torch.stack([log_mel(audio[:, start : start + frame]) for start in starts.tolist()], dim=1)
    torch.testing.assert_close(shared, alone, atol=1e-4, rtol=0)
