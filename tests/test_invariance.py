"""Same audio, same vector: alone, in any batch, in any order, in pieces of any batch size, as tensor, array or file."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from untrained import SIZES, assert_same, make_model

import hear_byols
from hear_byols._util.device import _switches, autocast

PROPERTY = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sounds(n_clips: int, n_samples: int, seed: int) -> torch.Tensor:
    """Clips that differ in level and colour, so that shared statistics would show."""
    random = np.random.RandomState(seed)
    clips = random.uniform(-1, 1, (n_clips, n_samples))
    clips = np.cumsum(clips, axis=1) / 50 * (np.arange(n_clips) % 2)[:, None] + clips * 10.0 ** -random.uniform(
        0, 4, (n_clips, 1)
    )
    return torch.from_numpy(np.clip(clips, -1, 1).astype(np.float32))


@pytest.fixture(scope="module", params=["clip", "dataset"])
def model(request):
    return make_model(request.param, encoder="cvt")


@PROPERTY
@given(n_clips=st.integers(2, 5), n_samples=st.integers(1, 20000), seed=st.integers(0, 999), data=st.data())
def test_alone_in_a_batch_and_reordered(model, n_clips, n_samples, seed, data):
    audio = sounds(n_clips, n_samples, seed)
    alone = torch.cat([hear_byols.get_scene_embeddings(clip[None], model) for clip in audio])
    assert_same(hear_byols.get_scene_embeddings(audio, model), alone)
    order = data.draw(st.permutations(range(n_clips)))
    assert_same(hear_byols.get_scene_embeddings(audio[order], model), alone[order])
    together, times = hear_byols.get_timestamp_embeddings(audio[:3], model)
    for i, clip in enumerate(audio[:3]):
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


@pytest.mark.parametrize("encoder", SIZES)
def test_batch_size_changes_nothing(encoder):
    audio, model = sounds(3, 9000, 5), make_model("clip", encoder=encoder, frame_ms=300)
    scenes, (windows, times) = model.scene_embeddings(audio), model.timestamp_embeddings(audio)
    for model.batch_size in (1, 3, 1000):  # 1: each clip and window alone
        assert_same(model.scene_embeddings(audio), scenes)
        vectors, centres = model.timestamp_embeddings(audio)
        assert_same(vectors, windows)
        assert torch.equal(centres, times)


def test_threads_change_nothing(one_thread):
    model, audio = make_model("clip", encoder="cvt"), sounds(4, 30000, 8)
    single = model.scene_embeddings(audio)
    torch.set_num_threads(2)
    assert_same(model.scene_embeddings(audio), single)


def test_original_mode_is_the_one_that_depends_on_batch_mates():
    model, audio = make_model("original", encoder="cvt"), sounds(2, 16000, 6)
    difference = model.scene_embeddings(audio)[0] - model.scene_embeddings(audio[:1])[0]
    assert difference.abs().max() > 0.01


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_used_and_stays_near(precision):
    audio = sounds(2, 16000, 9)
    exact = make_model("clip", encoder="cvt").scene_embeddings(audio)
    half = make_model("clip", encoder="cvt", precision=precision).scene_embeddings(audio)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.05 * exact.abs().max()


def test_tf32_is_off_with_float32_on_a_gpu_and_as_before_outside():
    def switched() -> list[object]:
        return [getattr(owner, name) for owner, name, _ in _switches()]

    before = switched()
    with suppress(RuntimeError), autocast("float32", torch.device("cuda")):  # needs no GPU to be set
        assert switched() == [value for _, _, value in _switches()]
        raise RuntimeError
    assert switched() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_gpu_equals_cpu():
    for encoder in SIZES:
        model, audio = make_model("clip", encoder=encoder, frame_ms=500), sounds(3, 20000, 7)
        audio -= audio.mean(1, keepdim=True)  # beside an offset, quiet bands show how an FFT rounds, 1e-4 on any device
        scenes, (windows, _) = model.scene_embeddings(audio), model.timestamp_embeddings(audio)
        model.cuda()  # in place, as the kits do it
        got = model.scene_embeddings(audio.cuda()), *model.timestamp_embeddings(audio.cuda())
        assert {vectors.device.type for vectors in got} == {"cuda"}
        assert_same(got[0].cpu(), scenes)
        assert_same(got[1].cpu(), windows)


def test_silence_and_very_short_clips_are_finite():
    for encoder, mode in [
        *((encoder, "clip") for encoder in SIZES),
        *(("cnn", mode) for mode in ("dataset", "halfway", "original")),
    ]:
        model = make_model(mode, encoder=encoder, frame_ms=150)
        for n_samples in (1, 1599, 1601):
            for audio in (torch.zeros(1, n_samples), sounds(2, n_samples, 1)[1:]):
                assert torch.isfinite(model.scene_embeddings(audio)).all()
                vectors, times = model.timestamp_embeddings(audio)
                assert torch.isfinite(vectors).all()
                assert vectors.shape[1] == times.shape[1] == n_samples // 800 + 1


def test_silence_stays_near_other_sounds_halfway():
    """A clip without spread counts as having a tenth of the data set's, or silence would be thousands of times it."""
    model = make_model("halfway")
    silence, sound = (model.scene_embeddings(audio).abs().max() for audio in (torch.zeros(1, 8000), sounds(2, 8000, 1)))
    assert silence < 10 * sound


def test_clips_under_100_ms_are_followed_by_zeros():
    model, clip = make_model("clip"), sounds(2, 700, 3)[1:]
    padded = torch.nn.functional.pad(clip, (0, 1600 - 700))
    assert torch.equal(model.scene_embeddings(clip), model.scene_embeddings(padded))
