"""The 16 kHz version of a 48 kHz task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from task_folders import scene_task, tone, write_clip

from hear_byols.cli.main import main
from hear_byols.errors import TaskError
from hear_byols.evaluation.resampling import resample_task, sinc_resample

RATES = ((48000, 16000), (44100, 16000), (22050, 16000), (8000, 16000), (16000, 44100))


def test_our_resampler_is_torchaudios_as_stored():
    """The arrays are those of torchaudio 2.11.0's functional.resample with its defaults."""
    stored = np.load(Path(__file__).parent / "torchaudio_resample.npz")
    for source, target in RATES:
        expected = stored[f"{source}_{target}"]
        samples = stored["samples"][: len(expected) * source // target]
        got = sinc_resample(samples, source, target)
        ours = got[: len(expected) - 200]  # the stored signal goes on where this one may end
        np.testing.assert_allclose(ours, expected[: len(ours)], atol=1e-5)


def test_our_resampler_is_torchaudios():
    functional = _torchaudio().functional
    samples = np.random.default_rng(0).uniform(-1, 1, 5001).astype(np.float32)
    for source, target in (*RATES, (96000, 16000), (11025, 16000)):
        expected = functional.resample(torch.from_numpy(samples), source, target).numpy()
        np.testing.assert_allclose(sinc_resample(samples, source, target), expected, atol=1e-5)


def test_a_resampled_tone_is_the_tone():
    time = np.arange(4800) / 48000
    got = sinc_resample(np.sin(2 * np.pi * 1000 * time).astype(np.float32), 48000, 16000)
    assert got.shape == (1600,)
    np.testing.assert_allclose(got[100:-100], np.sin(2 * np.pi * 1000 * np.arange(1600) / 16000)[100:-100], atol=2e-3)
    assert sinc_resample(got, 16000, 16000) is got


def _torchaudio():
    try:
        import torchaudio
    except (ImportError, OSError):  # OSError: compiled for another torch
        pytest.skip("needs torchaudio")
    return torchaudio


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
    expected = sinc_resample(source, 48000, 16000)
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


def test_a_clip_that_was_cut_off_is_neither_resampled_nor_passed_over(task, capsys):
    clip = task / "48000/test/test_low0.wav"
    clip.write_bytes(clip.read_bytes()[:-20000])
    assert main(["tasks", "resample", str(task), "--quiet"]) == 1
    assert "test_low0.wav: is cut off" in capsys.readouterr().err
    assert main(["tasks", "check", str(task), "--rate", "48000"]) == 1
    assert "test_low0.wav: is cut off" in capsys.readouterr().out


def test_the_result_may_lie_elsewhere(task, tmp_path):
    assert main(["tasks", "resample", str(task), "--output", str(tmp_path / "out"), "--quiet"]) == 0
    assert main(["tasks", "check", str(tmp_path / "out")]) == 0
    assert not (task / "16000").exists()


def test_a_task_without_another_rate_is_refused(tmp_path):
    with pytest.raises(TaskError, match="no audio at a rate other than 16000 Hz"):
        resample_task(scene_task(tmp_path))
