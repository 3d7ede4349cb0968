"""The 16 kHz version of a 48 kHz task."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from task_folders import scene_task, tone, write_clip

from hear_byols.cli.main import main
from hear_byols.errors import TaskError
from hear_byols.evaluation.resampling import resample_task, sinc_resample


def test_our_resampler_is_torchaudios():
    """The arrays are those of torchaudio 2.11.0's functional.resample with its defaults."""
    stored = np.load(Path(__file__).parent / "torchaudio_resample.npz")
    for source, target in ((48000, 16000), (44100, 16000), (22050, 16000), (8000, 16000), (16000, 44100)):
        expected = stored[f"{source}_{target}"]
        samples = stored["samples"][: len(expected) * source // target]
        got = sinc_resample(samples, source, target)
        assert len(got) == -(-len(samples) * target // source)
        ours = got[: len(expected) - 200]  # the stored signal goes on where this one may end
        np.testing.assert_allclose(ours, expected[: len(ours)], atol=1e-5)
    assert sinc_resample(got, 16000, 16000) is got


@pytest.fixture
def task(tmp_path):
    """A task whose audio is at 48 kHz only."""
    return scene_task(tmp_path, n=1, rate=48000)


def test_files_keep_name_and_format_and_only_what_is_missing_or_older_than_its_source_is_made(task):
    done = resample_task(task, 16000)
    assert (done.n_written, done.n_present, done.failures) == (9, 0, ())
    source, _ = soundfile.read(task / "48000/test/test_mid0.wav", dtype="float32")
    got, rate = soundfile.read(task / "16000/test/test_mid0.wav", dtype="float32")
    assert rate == 16000
    assert np.abs(got - sinc_resample(source, 48000, 16000)).max() < 2 / 32768  # the file has 16 bits
    (task / "16000/test/test_low0.wav").unlink()
    kept = task / "16000/train/train_low0.wav"
    stamp = kept.stat().st_mtime_ns
    write_clip(task, "valid", "valid_low0.wav", tone(880, rate=48000), rate=48000)
    done = resample_task(task, 16000)
    assert (done.n_written, done.n_present) == (2, 7)
    assert kept.stat().st_mtime_ns == stamp


def test_files_that_cannot_be_read_or_were_cut_off_are_told_and_the_others_are_made(task, capsys):
    (task / "48000/test/test_low0.wav").write_bytes(b"no audio")
    clip = task / "48000/test/test_mid0.wav"
    clip.write_bytes(clip.read_bytes()[:-20000])
    assert main(["tasks", "resample", str(task), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "test_low0.wav: cannot be read as audio" in error
    assert "test_mid0.wav: is cut off" in error
    assert len(list((task / "16000").rglob("*.wav"))) == 7
    assert not list((task / "16000").rglob("*.part*"))
    assert main(["tasks", "check", str(task), "--rate", "48000"]) == 1
    assert "test_mid0.wav: is cut off" in capsys.readouterr().out


def test_the_result_may_lie_elsewhere_and_has_no_other_rate(task, tmp_path):
    assert main(["tasks", "resample", str(task), "--output", str(tmp_path / "out"), "--quiet"]) == 0
    assert main(["tasks", "check", str(tmp_path / "out")]) == 0
    assert not (task / "16000").exists()
    with pytest.raises(TaskError, match="no audio at a rate other than 16000 Hz"):
        resample_task(tmp_path / "out")
