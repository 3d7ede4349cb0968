"""The 16 kHz version of a 48 kHz task."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
from task_folders import scene_task, tone, write_clip

from hear_byols.cli.main import main
from hear_byols.errors import TaskError
from hear_byols.evaluation.resampling import resample_task

try:
    import torchaudio
except (ImportError, OSError):  # OSError: compiled for another torch
    pytest.skip("needs torchaudio (extra eval)", allow_module_level=True)


@pytest.fixture
def task(tmp_path):
    """A task whose audio is at 48 kHz only."""
    folder = scene_task(tmp_path, n=1)
    for number, split in enumerate(("train", "valid", "test")):
        for i, name in enumerate(json.loads((folder / f"{split}.json").read_text())):
            (folder / "16000" / split / name).unlink()
            write_clip(folder, split, name, tone(440, rate=48000, seed=10 * number + i), rate=48000)
        (folder / "16000" / split).rmdir()
    (folder / "16000").rmdir()
    return folder


def test_files_keep_name_and_format_and_are_torchaudios(task):
    done = resample_task(task, 16000)
    assert (done.n_written, done.n_present, done.failures) == (9, 0, ())
    source, _ = soundfile.read(task / "48000/test/test_mid0.wav", dtype="float32")
    expected = torchaudio.transforms.Resample(48000, 16000)(torch.from_numpy(source)).numpy()
    got, rate = soundfile.read(task / "16000/test/test_mid0.wav", dtype="float32")
    assert rate == 16000
    assert np.abs(got - expected).max() < 2 / 32768  # the file has 16 bits


def test_a_second_run_does_only_what_is_missing_or_older_than_its_source(task):
    resample_task(task, 16000)
    (task / "16000/test/test_low0.wav").unlink()
    kept = task / "16000/train/train_low0.wav"
    stamp = kept.stat().st_mtime_ns
    write_clip(task, "valid", "valid_low0.wav", tone(880, rate=48000), rate=48000)
    done = resample_task(task, 16000)
    assert (done.n_written, done.n_present) == (2, 7)
    assert kept.stat().st_mtime_ns == stamp


def test_an_unreadable_file_is_told_and_the_others_are_made(task, capsys):
    (task / "48000/test/test_low0.wav").write_bytes(b"no audio")
    assert main(["tasks", "resample", str(task), "--quiet"]) == 1
    assert "test_low0.wav: cannot be read as audio" in capsys.readouterr().err
    assert len(list((task / "16000").rglob("*.wav"))) == 8
    assert not list((task / "16000").rglob("*.part*"))


def test_the_result_may_lie_elsewhere(task, tmp_path):
    assert main(["tasks", "resample", str(task), "--output", str(tmp_path / "out"), "--quiet"]) == 0
    assert main(["tasks", "check", str(tmp_path / "out")]) == 0
    assert not (task / "16000").exists()


def test_a_task_without_another_rate_is_refused(tmp_path):
    with pytest.raises(TaskError, match="no audio at a rate other than 16000 Hz"):
        resample_task(scene_task(tmp_path))
