"""Each view against a slow version that treats one crop at a time."""

import math

import pytest
import torch
import torch.nn.functional as F

from hear_byols.frontend import LogMel
from hear_byols.training.augmentations import (
    MemoryBank,
    Mixup,
    RandomLinearFader,
    RandomResizeCrop,
    RandomSilence,
    TwoViews,
    log_mixup_exp,
    normalize_batch,
)
from hear_byols.training.config import PretrainConfig
from hear_byols.training.distributed import Draws


def make_views(**settings):
    return TwoViews(PretrainConfig(**settings), -5.0, 5.0, MemoryBank(8, (1, 64, 96)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(n):
    return Draws(n, generator())


def slow_resize_crop(crop, first_mel, height, first_frame, width, margin):
    """Paste on an empty canvas, cut, interpolate."""
    n_mels, n_frames = crop.shape
    canvas = torch.zeros(n_mels, n_frames + 2 * margin)
    canvas[:, margin : margin + n_frames] = crop
    start = first_frame + margin
    cut = canvas[first_mel : first_mel + height, start : start + width]
    return F.interpolate(cut[None, None], (n_mels, n_frames), mode="bicubic", align_corners=False)[0, 0]


def test_resize_crop_equals_interpolation_of_the_cut():
    crops = torch.randn(40, 1, 16, 24, generator=generator())
    augmentation = RandomResizeCrop((0.6, 1.5), (0.6, 1.5), 1.5)
    fast = augmentation(crops, draws(40))
    mel, time = augmentation.draw(crops, draws(40))
    for i, place in enumerate(torch.stack([*mel, *time], 1).tolist()):
        torch.testing.assert_close(fast[i, 0], slow_resize_crop(crops[i, 0], *place, margin=6), rtol=1e-4, atol=1e-4)


def test_drawn_rectangles_stay_on_the_canvas_and_cover_the_scales():
    for n, canvas in ((64, 64), (96, 144)):
        start, size = draws(2000).stretch((0.6, 1.5), n, canvas)
        assert (int(start.min()), int((start + size).max())) == (0, canvas)
        assert 0 <= int(size.min()) - int(0.6 * n) <= 1
        assert int(size.max()) >= canvas - 2


def test_mixup_adds_what_the_memory_holds_in_the_linear_domain():
    crops, others, ratios = torch.randn(3, 1, 4, 5), torch.randn(3, 1, 4, 5), torch.tensor([0.0, 0.1, 0.4])
    r = ratios[:, None, None, None]
    torch.testing.assert_close(log_mixup_exp(crops, others, ratios), ((1 - r) * crops.exp() + r * others.exp()).log())
    memory = MemoryBank(8, (1, 4, 5))
    mix = Mixup(0.4, memory)
    assert torch.equal(mix(crops, draws(3)), crops)  # nothing yet
    memory.push(torch.full((8, 1, 4, 5), 10.0))
    mixed = mix(crops, draws(3))
    assert (mixed > crops).all()
    assert (mixed < 10 + math.log(0.4) + 0.01).all()


def test_memory_keeps_the_newest_entries():
    memory = MemoryBank(4, (1, 1, 1))
    for values, kept in ((range(3), [0, 1, 2]), (range(3, 6), [2, 3, 4, 5]), (range(10, 20), [16, 17, 18, 19])):
        memory.push(torch.tensor(values).reshape(-1, 1, 1, 1))
        assert sorted(memory.take(torch.arange(len(memory))).flatten().tolist()) == kept


def test_views_differ_are_standardized_and_follow_the_generator_alone():
    log_mels = torch.randn(6, 1, 64, 96) * 5 - 5
    state = torch.random.get_rng_state()
    views, again = make_views(fader=1.0), make_views(fader=1.0)
    for seed in range(2):  # the second round mixes
        (first, second), repeated = views(log_mels, generator(seed)), again(log_mels, generator(seed))
        assert first.shape == log_mels.shape
        assert not torch.allclose(first, second)
        torch.testing.assert_close(first, repeated[0])
        assert first.mean().item() == pytest.approx(0, abs=1e-5)
        assert first.std().item() == pytest.approx(1, abs=1e-3)
    assert torch.equal(state, torch.random.get_rng_state())


def test_scales_of_one_leave_the_bands_where_they_are_and_standardize_the_whole_batch():
    views = make_views(mel_scale=(1.0, 1.0), time_scale=(1.0, 1.0), time_canvas=1.0, mixup_ratio=0.0)
    log_mels = torch.randn(3, 1, 64, 96) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None] + 2
    for _ in range(2):  # the second time there is a memory, which is not heard
        for view in views(log_mels, generator()):
            torch.testing.assert_close(view, (log_mels - log_mels.mean()) / log_mels.std(), atol=1e-5, rtol=1e-4)
    assert normalize_batch(torch.full((2, 1, 4, 5), -16.0)).abs().max() == 0  # silence


def test_fader_adds_a_straight_line_over_time():
    crops = torch.randn(200, 1, 3, 5)
    gain = RandomLinearFader(0.5)(crops, draws(200)) - crops
    torch.testing.assert_close(gain, gain[:, :, :1].expand_as(gain))
    line = torch.lerp(gain[..., :1], gain[..., -1:], torch.linspace(0, 1, 5))
    torch.testing.assert_close(gain, line, atol=1e-5, rtol=0)
    assert 0.48 < gain.abs().max() <= 0.5


def test_silence_leaves_a_stretch_of_its_share_of_crops_before_a_background_of_digital_silence():
    crops, augmentation = torch.randn(2000, 1, 2, 96), RandomSilence(0.25, -9.0)
    silenced, (first, number) = augmentation(crops, draws(2000)), augmentation.draw(crops, draws(2000))
    for i, (start, n) in enumerate(zip(first.tolist(), number.tolist(), strict=True)):
        wanted = torch.full((2, 96), -9.0)
        wanted[:, start : start + n] = crops[i, 0, :, start : start + n]
        assert torch.equal(silenced[i, 0], wanted)
    assert (number < 96).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert int(number.min()) >= 48
    [silence] = (a for a in make_views(silence=0.3).augmentations if isinstance(a, RandomSilence))
    standardized = (LogMel()(torch.zeros(1, 15200)) + 5) / 5
    torch.testing.assert_close(standardized, torch.full_like(standardized, silence.level))
