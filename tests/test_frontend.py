"""The log-mel front end: equal to the library the paper used; test_overlap has what windows share."""

from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import noise

from hear_byols import frontend
from hear_byols.config import FrontendConfig
from hear_byols.frontend import LogMel


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
