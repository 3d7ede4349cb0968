"""Files of every format, rate and number of channels become the same mono signal."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr
import torch

from hear_byols import load_audio, load_model
from hear_byols.audio import EXTENSIONS, audio_seconds
from hear_byols.errors import InputError
from hear_byols.inputs import to_tensor

RATE = 16000
TONE_HZ = 1000
LEVEL = 0.5
LOSSLESS = [
    (".wav", "WAV", "PCM_16"),
    (".wav", "WAV", "FLOAT"),
    (".flac", "FLAC", "PCM_24"),
    (".aiff", "AIFF", "PCM_16"),
]
RATES = (8000, 16000, 22050, 44100, 48000)
# By extension, libsndfile's container and its subtype: rates and channels. Of six channels, Vorbis and Opus keep only
# the bass of the last (5.1); hence four.
CASES = {
    **{form: tuple(zip(RATES, (1, 2, 6, 2, 1), strict=True)) for form in LOSSLESS},
    (".ogg", "OGG", "VORBIS"): tuple(zip(RATES, (4, 1, 2, 4, 2), strict=True)),
    (".opus", "OGG", "OPUS"): ((8000, 4), (16000, 1), (48000, 2)),
    (".mp3", "MP3", "MPEG_LAYER_III"): tuple(zip(RATES, (1, 2, 1, 2, 1), strict=True)),
}


def tone(rate: int, seconds: float = 1.0, level: float = LEVEL) -> np.ndarray:
    return (level * np.sin(2 * np.pi * TONE_HZ * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def pitch_and_level(samples: np.ndarray) -> tuple[float, float]:
    """Frequency of the strongest component in Hz, and its amplitude, away from the edges."""
    middle = samples[len(samples) // 10 : -len(samples) // 10]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return spectrum.argmax() * RATE / len(middle), np.sqrt(2 * np.mean(middle.astype(float) ** 2))


@pytest.mark.parametrize("form", CASES)
def test_a_tone_keeps_pitch_level_and_length(tmp_path, form):
    extension, container, subtype = form
    path, lossy = tmp_path / f"tone{extension}", form not in LOSSLESS
    for rate, channels in CASES[form]:
        soundfile.write(path, np.repeat(tone(rate)[:, None], channels, 1), rate, format=container, subtype=subtype)
        samples = load_audio(path)
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        pitch, level = pitch_and_level(samples)
        assert pitch == pytest.approx(TONE_HZ, abs=2)
        assert level == pytest.approx(LEVEL, rel=0.05 if lossy else 0.002)
        assert len(samples) == pytest.approx(RATE, abs=0.1 * RATE if lossy else 1)  # codecs pad to whole frames
        assert audio_seconds(path) == pytest.approx(len(samples) / RATE, abs=0.1)
    assert extension in EXTENSIONS


def test_channels_are_averaged(tmp_path):
    for channels in [2, 6]:
        audio = np.zeros((RATE, channels), np.float32)
        audio[:, 0] = tone(RATE)
        soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
        np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), tone(RATE) / channels, atol=1e-7)


def test_own_rate_gives_the_very_samples_of_the_file_unclipped(tmp_path):
    audio = 3 * tone(RATE)
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), audio)


def test_block_by_block_equals_the_whole_signal_at_once(tmp_path):
    for rate in [8000, 44100]:
        audio = np.random.default_rng(0).uniform(-0.5, 0.5, (20 * 44100, 2)).astype(np.float32)  # several blocks
        soundfile.write(tmp_path / "a.wav", audio, rate, subtype="FLOAT")
        expected = soxr.resample(audio.mean(1), rate, RATE, quality="HQ")
        np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), expected)


def test_decoding_holds_one_block_beside_the_result(tmp_path):
    audio = np.zeros((60 * 48000, 6), np.float32)  # 69 MB in its own rate and channels
    soundfile.write(tmp_path / "a.flac", audio, 48000)
    del audio
    tracemalloc.start()
    samples = load_audio(tmp_path / "a.flac")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(samples) == 60 * RATE
    assert peak < 16e6  # result and its blocks 7.7 MB, a block of six channels 3.1 MB


def test_samples_that_are_not_finite_are_refused(tmp_path):
    for rate in [RATE, 44100]:
        for bad in [np.nan, np.inf, -np.inf]:
            audio = tone(rate)
            audio[-1] = bad
            soundfile.write(tmp_path / "bad.wav", audio, rate, subtype="FLOAT")
            with pytest.raises(InputError, match=r"bad\.wav: holds NaN or infinite samples"):
                load_audio(tmp_path / "bad.wav")


def test_files_that_are_no_audio_are_refused_by_name(tmp_path):
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "zero.wav").touch()
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    for name, reason in [
        ("text.wav", "cannot be read as audio"),
        ("zero.wav", "cannot be read as audio"),
        ("empty.wav", "holds no samples"),
        ("missing.wav", "no such file"),
        (".", "is a folder"),
    ]:
        with pytest.raises(InputError, match=reason) as caught:
            load_audio(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_tensor_is_given_when_asked_and_models_take_both(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 16000)
    array, tensor = load_audio(tmp_path / "a.wav"), load_audio(tmp_path / "a.wav", as_tensor=True)
    assert isinstance(array, np.ndarray)
    assert torch.equal(tensor, torch.from_numpy(array))
    model = load_model("random_cnn")
    expected = model(tensor.to(model.device)[None])
    assert torch.equal(model(array[None]), expected)
    assert torch.equal(torch.stack([tensor, tensor])[:1], tensor[None])
    assert torch.equal(model.scene_embeddings(array[None]), model.scene_embeddings(tensor[None]))


def test_arrays_go_to_the_models_device():
    array, tensor = np.zeros((1, 100), np.float32), torch.zeros(1, 100)
    assert to_tensor(array, device=torch.device("meta")).device.type == "meta"
    assert to_tensor(tensor, device=torch.device("meta")).device.type == "cpu"  # moving it is the caller's
