"""Same audio, same vector: alone, in any batch, in any order, in pieces of any batch size, as tensor, array or file."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hear_byols
from hear_byols.config import EncoderConfig, ModelConfig, NormalizationConfig
from hear_byols.encoders import EMBEDDING_SIZES
from hear_byols.model import EmbeddingModel

TOLERANCE = 1e-4  # of the largest component
PROPERTY = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def make_model(encoder: str = "cvt", mode: str = "clip", **options) -> EmbeddingModel:
    """An untrained model, the same each time."""
    norm = NormalizationConfig(mode, -5.0, 4.0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return EmbeddingModel(
            ModelConfig(EncoderConfig(encoder, EMBEDDING_SIZES[encoder]), normalization=norm), **options
        )


def sounds(n_clips: int, n_samples: int, seed: int) -> torch.Tensor:
    """Clips that differ in level and colour, so that shared statistics would show."""
    random = np.random.RandomState(seed)
    clips = random.uniform(-1, 1, (n_clips, n_samples))
    clips = np.cumsum(clips, axis=1) / 50 * (np.arange(n_clips) % 2)[:, None] + clips * 10.0 ** -random.uniform(
        0, 4, (n_clips, 1)
    )
    return torch.from_numpy(np.clip(clips, -1, 1).astype(np.float32))


def assert_same(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape
    assert torch.isfinite(a).all()
    assert (a - b).abs().max() <= TOLERANCE * b.abs().max()


@pytest.fixture(scope="module", params=["clip", "dataset"])
def model(request):
    return make_model(mode=request.param)


@PROPERTY
@given(n_clips=st.integers(2, 6), n_samples=st.integers(1, 24000), seed=st.integers(0, 999), data=st.data())
def test_scene_alone_in_a_batch_and_reordered(model, n_clips, n_samples, seed, data):
    audio = sounds(n_clips, n_samples, seed)
    together = hear_byols.get_scene_embeddings(audio, model)
    alone = torch.cat([hear_byols.get_scene_embeddings(clip[None], model) for clip in audio])
    assert_same(together, alone)
    order = data.draw(st.permutations(range(n_clips)))
    assert_same(hear_byols.get_scene_embeddings(audio[order], model), alone[order])


@PROPERTY
@given(n_clips=st.integers(1, 3), n_samples=st.integers(1, 12000), seed=st.integers(0, 999), data=st.data())
def test_timestamps_alone_in_a_batch_and_reordered(model, n_clips, n_samples, seed, data):
    audio = sounds(n_clips, n_samples, seed)
    together, times = hear_byols.get_timestamp_embeddings(audio, model)
    for i, clip in enumerate(audio):
        vectors, centres = hear_byols.get_timestamp_embeddings(clip[None], model)
        assert_same(together[i], vectors[0])
        assert torch.equal(times[i], centres[0])


@PROPERTY
@given(lengths=st.lists(st.sampled_from([1, 777, 1600, 8000, 16001]), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_a_list_of_different_lengths_equals_its_clips(model, lengths, seed):
    clips = [sounds(2, length, seed + i)[1] for i, length in enumerate(lengths)]
    vectors = hear_byols.get_scene_embeddings(clips, model)
    windows, times = hear_byols.get_timestamp_embeddings(clips, model)
    for i, clip in enumerate(clips):
        assert_same(vectors[i], hear_byols.get_scene_embeddings(clip[None], model)[0])
        expected, centres = hear_byols.get_timestamp_embeddings(clip[None], model)
        assert_same(windows[i], expected[0])
        assert torch.equal(times[i], centres[0])


@pytest.mark.parametrize("encoder", EMBEDDING_SIZES)
def test_batch_size_changes_nothing(encoder):
    audio, model = sounds(3, 9000, 5), make_model(encoder, frame_ms=300)
    scenes, windows = model.scene_embeddings(audio), model.timestamp_embeddings(audio)[0]
    for model.batch_size in (1, 3, 1000):
        assert_same(model.scene_embeddings(audio), scenes)
        assert_same(model.timestamp_embeddings(audio)[0], windows)


def test_windows_equal_clips_cut_by_hand():
    """The slow obvious version: cut each padded window, transform it alone, standardize, encode."""
    for mode, frame_ms, hop_ms in [
        ("clip", 1000, 50),
        ("clip", 250, 33.3),
        ("clip", 160.3125, 7),
        ("dataset", 500, 50),
        ("halfway", 500, 50),
    ]:
        model = make_model("cnn", mode, frame_ms=frame_ms, hop_ms=hop_ms, batch_size=5)
        audio = sounds(2, 7001, 3)[1:]
        vectors, times = model.timestamp_embeddings(audio)
        length, hop = model.framing.frame_samples, hop_ms * 16
        padded = torch.nn.functional.pad(audio, (length // 2, length))
        starts = [int(np.floor(i * hop + 0.5)) for i in range(int(7001 // hop) + 1)]
        spectrograms = torch.stack([model.log_mel(padded[:, s : s + length])[0] for s in starts])
        mean, std = (-5.0, 4.0) if mode == "dataset" else (spectrograms.double().mean(), spectrograms.double().std())
        if mode == "halfway":
            mean, std = (mean - 5) / 2, (std * 4).sqrt()
        with torch.no_grad():
            expected = model.encoder(((spectrograms - mean) / std).float()[:, None])
        assert_same(vectors[0], expected)
        np.testing.assert_allclose(times[0].numpy(), np.arange(len(starts)) * hop_ms, rtol=1e-6)


def test_threads_change_nothing(one_thread):
    model, audio = make_model(), sounds(4, 30000, 8)
    single = model.scene_embeddings(audio)
    torch.set_num_threads(2)
    assert_same(model.scene_embeddings(audio), single)


def test_array_tensor_and_file_agree(tmp_path):
    model = make_model()
    samples = (sounds(2, 20000, 4)[1] * 32767).round() / 32768
    soundfile.write(tmp_path / "clip.wav", samples.numpy(), 16000, subtype="PCM_16")
    read = hear_byols.load_audio(tmp_path / "clip.wav")
    np.testing.assert_array_equal(read, samples.numpy())
    expected = model.scene_embeddings(samples[None])
    assert torch.equal(model.scene_embeddings(read[None]), expected)
    assert torch.equal(model.scene_embeddings([read]), expected)
    assert torch.equal(model.scene_embeddings(samples[None].double()), expected)


def test_original_mode_is_the_one_that_depends_on_batch_mates():
    model, audio = make_model(mode="original"), sounds(2, 16000, 6)
    difference = model.scene_embeddings(audio)[0] - model.scene_embeddings(audio[:1])[0]
    assert difference.abs().max() > 100 * TOLERANCE


def test_half_precision_stays_near():
    audio = sounds(2, 16000, 9)
    exact = make_model().scene_embeddings(audio)
    half = make_model(precision="bfloat16").scene_embeddings(audio)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_gpu_equals_cpu():
    for encoder in EMBEDDING_SIZES:
        model, audio = make_model(encoder, frame_ms=500), sounds(3, 20000, 7)
        scenes, (windows, _) = model.scene_embeddings(audio), model.timestamp_embeddings(audio)
        model.cuda()
        assert_same(model.scene_embeddings(audio.cuda()).cpu(), scenes)
        assert_same(model.timestamp_embeddings(audio.cuda())[0].cpu(), windows)


def test_silence_and_very_short_clips_are_finite():
    for encoder, mode in [
        *((encoder, "clip") for encoder in EMBEDDING_SIZES),
        *(("cnn", mode) for mode in ("dataset", "halfway", "original")),
    ]:
        model = make_model(encoder, mode, frame_ms=150)
        for n_samples in (1, 1599, 1601):
            for audio in (torch.zeros(1, n_samples), sounds(2, n_samples, 1)[1:]):
                assert torch.isfinite(model.scene_embeddings(audio)).all()
                vectors, times = model.timestamp_embeddings(audio)
                assert torch.isfinite(vectors).all()
                assert vectors.shape[1] == times.shape[1] == n_samples // 800 + 1


def test_silence_stays_near_other_sounds_halfway():
    """A clip without spread counts as having a tenth of the data set's, or silence would be thousands of times it."""
    model = make_model("cnn", "halfway")
    silence, sound = (model.scene_embeddings(audio).abs().max() for audio in (torch.zeros(1, 8000), sounds(2, 8000, 1)))
    assert silence < 10 * sound


def test_clips_under_100_ms_are_followed_by_zeros():
    model, clip = make_model(), sounds(2, 700, 3)[1:]
    padded = torch.nn.functional.pad(clip, (0, 1600 - 700))
    assert torch.equal(model.scene_embeddings(clip), model.scene_embeddings(padded))
