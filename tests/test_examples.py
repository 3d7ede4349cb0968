"""The example runs as its docstring says, and learns; what fine-tuning relies on in the model holds."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import hear_byols

pytest.importorskip("sklearn", reason='needs pip install "hear_byols[sklearn]"')

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CHANCE = 1 / 3


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: str) -> float:
    """Run the frozen probe as a script; its accuracy on test clips."""
    monkeypatch.setattr(sys, "argv", ["frozen_probe.py", "--model", "random_cnn", *arguments])
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(EXAMPLES / "frozen_probe.py"), run_name="__main__")
    return float(re.search(r"test accuracy: ([\d.]+)\n", capsys.readouterr().out)[1])


def test_the_frozen_probe_learns_from_its_own_sounds_and_from_folders_of_files(tmp_path, monkeypatch, capsys) -> None:
    """FOLDER/<class>/*.wav with files of different rates, lengths and channels."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    assert run(monkeypatch, capsys) > 2 * CHANCE
    with pytest.raises(SystemExit, match="two or more folders"):
        run(monkeypatch, capsys, "--data", str(tmp_path))
    rng = np.random.default_rng(0)
    for name, pitch in (("low", 200), ("high", 1500)):
        (tmp_path / name).mkdir()
        for i in range(8):
            rate = (8000, 16000, 44100)[i % 3]
            time = np.arange(int(rate * rng.uniform(0.2, 0.6))) / rate
            tone = 0.3 * np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time) + 0.01 * rng.normal(size=time.size)
            soundfile.write(tmp_path / name / f"{i}.wav", np.stack([tone] * (1 + i % 2), 1), rate)
    (tmp_path / "low" / "broken.wav").write_bytes(b"no audio")  # is left out
    assert run(monkeypatch, capsys, "--data", str(tmp_path)) > 0.7


@pytest.mark.parametrize("name", ["random_cnn", "random_resnetish34", "random_clstm", "random_cvt"])
def test_a_call_in_training_mode_is_another_and_gradients_reach_every_parameter(name: str) -> None:
    """What fine-tuning relies on."""
    model = hear_byols.load_model(name).train()
    torch.manual_seed(0)
    audio = torch.rand(3, 16000) - 0.5
    vectors = model(audio)
    vectors.square().mean().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The embedding is the last step, where the CLSTM's backward direction has only its zero state behind it.
    assert without == (["encoder.lstm.weight_hh_l0_reverse"] if name == "random_clstm" else [])
    assert not torch.equal(vectors, model.scene_embeddings(audio))
