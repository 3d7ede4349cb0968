"""Files of every format, rate and number of channels become the same mono signal."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr
import torch

from hear_byols import load_audio, load_model
from hear_byols.audio import EXTENSIONS, audio_seconds
from hear_byols.errors import InputError

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


def test_channels_are_averaged_and_resampled_as_if_at_once(tmp_path):
    path = tmp_path / "a.wav"
    for channels in [1, 2, 6]:
        audio = np.zeros((RATE, channels), np.float32)
        audio[:, 0] = 3 * tone(RATE)  # is not clipped
        soundfile.write(path, audio, RATE, subtype="FLOAT")
        np.testing.assert_allclose(
            load_audio(path), 3 * tone(RATE) / channels, atol=1e-7 if channels > 1 else 0, rtol=0
        )
    for rate in [8000, 44100]:
        audio = np.random.default_rng(0).uniform(-0.5, 0.5, (20 * 44100, 2)).astype(np.float32)  # several blocks
        soundfile.write(path, audio, rate, subtype="FLOAT")
        np.testing.assert_array_equal(load_audio(path), soxr.resample(audio.mean(1), rate, RATE, quality="HQ"))


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


def test_samples_that_are_not_finite_are_refused_by_name(tmp_path):
    for rate in (RATE, 44100):
        for bad in (np.nan, np.inf, -np.inf):
            soundfile.write(tmp_path / "a.wav", np.append(tone(rate), bad), rate, subtype="FLOAT")
            with pytest.raises(InputError, match=rf"{tmp_path / 'a.wav'}: holds NaN or infinite samples"):
                load_audio(tmp_path / "a.wav")


def test_file_array_tensor_and_list_agree(tmp_path):
    samples = (np.random.default_rng(0).uniform(-0.5, 0.5, 8000) * 32767).round() / 32768
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_16")
    array, tensor = load_audio(tmp_path / "a.wav"), load_audio(tmp_path / "a.wav", as_tensor=True)
    np.testing.assert_array_equal(array, samples)
    assert torch.equal(tensor, torch.from_numpy(array))
    model = load_model("random_cnn")
    assert torch.equal(model.scene_embeddings([array]), model.scene_embeddings(tensor[None]))
