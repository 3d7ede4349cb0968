"""Scenes of any length: local encoders take a clip in stretches, the others say how much they take."""

import pytest
import torch
from untrained import assert_same, make_model

import hear_byols
from hear_byols import scenes
from hear_byols.errors import InputError

LOCAL = ("cnn", "resnetish34")
HOP = 160


def sound(n_frames: int, seed: int = 0) -> torch.Tensor:
    """Noise whose loudness wanders, so that means and maxima depend on every stretch."""
    generator = torch.Generator().manual_seed(seed)
    n_samples = (n_frames - 1) * HOP + 37
    loudness = torch.rand(1, 1, 12, generator=generator)
    loudness = torch.nn.functional.interpolate(loudness, n_samples, mode="linear")[0]
    return loudness * torch.randn(2, n_samples, generator=generator).clamp(-3, 3)


@pytest.mark.parametrize("encoder", LOCAL)
def test_stretches_equal_the_whole(monkeypatch, encoder):
    """Also where the last stretch is a frame long, and where strides do not divide the number of frames."""
    kinds = [("clip", "last"), ("halfway", "heads"), ("clip", "multi"), ("dataset", "multi"), ("original", "multi")]
    for (mode, layers), n_frames in zip(kinds, (513, 520, 767, 768, 1025), strict=True):
        model, audio = make_model(mode, layers, encoder), sound(n_frames)
        monkeypatch.setattr(scenes, "STRETCH_FRAMES", 10**9)
        expected = model.scene_embeddings(audio)
        monkeypatch.setattr(scenes, "STRETCH_FRAMES", 256)
        assert_same(model.scene_embeddings(audio), expected, 2e-6)


@pytest.mark.parametrize("encoder", LOCAL)
def test_columns_see_no_farther_than_the_border(encoder):
    encoder = make_model(encoder=encoder).encoder
    border, frames = encoder.border_frames, encoder.column_frames
    x = torch.randn(1, 1, 64, 2 * border + 4 * frames, requires_grad=True)
    encoder.columns(x)[0][0, border // frames + 1].sum().backward()  # a column that begins at border + frames
    seen = torch.nonzero(x.grad.abs().sum((0, 1, 2)))
    assert int(seen[0]) >= frames
    assert int(seen[-1]) < border + 2 * frames + border


def test_gradients_take_the_clip_whole(monkeypatch):
    model = make_model("clip", "multi")
    monkeypatch.setattr(scenes, "STRETCH_FRAMES", 64)
    audio = sound(300)
    assert_same(model.scene_embeddings(audio), model(audio), 1e-5)


@pytest.mark.parametrize(("name", "minutes"), [("random_cvt", 30), ("random_clstm", 8)])
def test_the_others_state_their_limit_which_may_be_set(name, minutes):
    model, audio = hear_byols.load_model(name), torch.zeros(1, 6 * 16000 + 1)
    assert model.max_scene_s == 60 * minutes
    model.max_scene_s = 6
    for embed, clips in [
        (model.scene_embeddings, audio),
        (model.scene_embeddings, [torch.zeros(16000), audio[0]]),
        (model, audio),
    ]:
        with pytest.raises(
            InputError, match=r"clip [01] lasts 0\.1 minutes.*at most 0\.1 minutes.*timestamps.*max_scene_s"
        ):
            embed(clips)
    model.max_scene_s = None
    model.scene_embeddings(audio)
    assert hear_byols.load_model("random_cnn").max_scene_s is None
