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


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run an example as a script and return its accuracies by the words before them."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run_example(name: str, *arguments: str) -> dict[str, float]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with torch.random.fork_rng(devices=[]):
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return {words: float(value) for words, value in re.findall(r"(\w[\w ]*): ([\d.]+)\n", capsys.readouterr().out)}

    return run_example


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """FOLDER/<class>/*.wav with files of different rates, lengths and channels."""
    rng = np.random.default_rng(0)
    for name, pitch in (("low", 200), ("high", 1500)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8):
            rate = (8000, 16000, 44100)[i % 3]
            time = np.arange(int(rate * rng.uniform(0.2, 0.6))) / rate
            tone = 0.3 * np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time) + 0.01 * rng.normal(size=time.size)
            soundfile.write(tmp_path / "data" / name / f"{i}.wav", np.stack([tone] * (1 + i % 2), 1), rate)
    return tmp_path / "data"


def test_the_frozen_probe_learns_from_its_own_sounds_and_from_folders_of_files(run, folder: Path) -> None:
    assert run("frozen_probe.py", "--model", "random_cnn")["test accuracy"] > 2 * CHANCE
    (folder / "low" / "broken.wav").write_bytes(b"no audio")  # is left out
    assert run("frozen_probe.py", "--model", "random_cnn", "--data", str(folder))["test accuracy"] > 0.7


def test_one_class_is_refused(run, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="two or more folders"):
        run("frozen_probe.py", "--model", "random_cnn", "--data", str(tmp_path))


# ---- what fine-tuning relies on


@pytest.mark.parametrize("name", ["random_cnn", "random_resnetish34", "random_clstm", "random_cvt"])
def test_gradients_reach_every_parameter_through_a_call(name: str) -> None:
    model = hear_byols.load_model(name).train()
    torch.manual_seed(0)
    model(torch.rand(3, 16000) - 0.5).square().mean().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The embedding is the last step, where the CLSTM's backward direction has only its zero state behind it.
    assert without == (["encoder.lstm.weight_hh_l0_reverse"] if name == "random_clstm" else [])


def test_a_call_in_training_mode_is_another_and_differentiable() -> None:
    model, audio = hear_byols.load_model("random_cnn"), torch.rand(3, 8000) - 0.5
    expected = model.scene_embeddings(audio)
    assert torch.equal(model.train().scene_embeddings(audio), expected)
    assert model(audio).requires_grad
    assert not torch.equal(model(audio), expected)
