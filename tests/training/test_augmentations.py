"""Each view against a slow version that treats one crop at a time."""

import math

import pytest
import torch
import torch.nn.functional as F

from hear_byols.frontend import LOG_OFFSET, LogMel
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
from hear_byols.training.distributed import ALONE, World
from hear_byols.training.randomness import Draws


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


def test_mixup_adds_in_the_linear_domain():
    crops, others = torch.randn(3, 1, 4, 5), torch.randn(3, 1, 4, 5)
    ratios = torch.tensor([0.0, 0.1, 0.4])
    mixed = log_mixup_exp(crops, others, ratios)
    for i in range(3):
        r = ratios[i].item()
        for x, y, m in zip(crops[i].flatten(), others[i].flatten(), mixed[i].flatten(), strict=True):
            assert m.item() == pytest.approx(math.log((1 - r) * math.exp(x) + r * math.exp(y)), abs=1e-5)


def test_memory_keeps_the_newest_entries():
    memory = MemoryBank(4, (1, 1, 1))
    for start in (0, 3):
        memory.push(torch.arange(start, start + 3).float().reshape(3, 1, 1, 1))
    assert sorted(memory.take(torch.arange(4)).flatten().tolist()) == [2, 3, 4, 5]
    memory.push(torch.arange(10, 20).float().reshape(10, 1, 1, 1))
    assert sorted(memory.take(torch.arange(4)).flatten().tolist()) == [16, 17, 18, 19]
    assert len(memory) == 4


def test_normalize_batch_uses_one_mean_and_std():
    crops = torch.randn(3, 1, 4, 5) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None] + 2
    torch.testing.assert_close(normalize_batch(crops), (crops - crops.mean()) / crops.std())
    assert normalize_batch(torch.full((2, 1, 4, 5), -16.0)).abs().max() == 0  # silence


def make_views(world=ALONE, **settings):
    return TwoViews(PretrainConfig(**settings), -5.0, 5.0, MemoryBank(8, (1, 64, 96)), world)


def draws(n, world=ALONE):
    return Draws(n, generator(), world)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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


def test_drawn_rectangles_stay_on_the_canvas_and_cover_the_scales():
    start, size = draws(2000).stretch((0.6, 1.5), 64, 64)
    assert int(start.min()) >= 0
    assert int((start + size).max()) <= 64
    assert int(size.min()) in (38, 39)
    assert int(size.max()) == 64
    start, size = draws(2000).stretch((0.6, 1.5), 96, 144)
    assert int((start + size).max()) <= 144
    assert int(size.max()) >= 142
    assert int(start.max()) > 60


def test_mixup_hears_what_the_memory_holds():
    memory, crops = MemoryBank(8, (1, 64, 96)), torch.randn(4, 1, 64, 96)
    mix = Mixup(0.4, memory)
    assert torch.equal(mix(crops, draws(4)), crops)  # nothing yet
    memory.push(torch.full((8, 1, 64, 96), 10.0))
    mixed = mix(crops, draws(4))
    assert (mixed > crops).all()
    assert (mixed < 10 + math.log(0.4) + 0.01).all()


def test_scales_of_one_leave_the_bands_where_they_are():
    views = make_views(mel_scale=(1.0, 1.0), time_scale=(1.0, 1.0), time_canvas=1.0, mixup_ratio=0.0)
    log_mels = torch.randn(4, 1, 64, 96)
    for _ in range(2):  # the second time there is a memory, which is not heard
        for view in views(log_mels, generator()):
            torch.testing.assert_close(view, normalize_batch(log_mels), atol=1e-5, rtol=1e-4)


def test_fader_adds_a_straight_line_over_time():
    crops = torch.randn(200, 1, 3, 5)
    gain = RandomLinearFader(0.5)(crops, draws(200)) - crops
    torch.testing.assert_close(gain, gain[:, :, :1].expand_as(gain))
    line = torch.lerp(gain[..., :1], gain[..., -1:], torch.linspace(0, 1, 5))
    torch.testing.assert_close(gain, line, atol=1e-5, rtol=0)
    assert 0.48 < gain.abs().max() <= 0.5


def test_silence_leaves_a_rectangle():
    crops, augmentation = torch.randn(8, 1, 4, 6), RandomSilence(0.8, 0.8, -9.0)
    silenced, drawn = augmentation(crops, draws(8)), augmentation.draw(crops, draws(8))
    for i, (n_bands, first, number) in enumerate(torch.stack(drawn, 1).tolist()):
        for band in range(4):
            for t in range(6):
                kept = band < n_bands and first <= t < first + number
                assert silenced[i, 0, band, t] == (crops[i, 0, band, t] if kept else -9.0)


def test_silenced_is_the_log_mel_of_a_sound_with_zeros_around():
    """Up to the windows that see both, and the bands that are cut off."""
    time = torch.arange(15200) / 16000
    sine = torch.sin(2000 * math.pi * time) * 0.1
    crops = (LogMel()(sine[None])[:, None] + 5) / 5
    silence = RandomSilence(1.0, 1.0, (math.log(LOG_OFFSET) + 5) / 5)
    _, first, number = silence.draw(crops, draws(1))
    silenced = silence(crops, draws(1))
    cut = torch.zeros_like(sine)
    begin, end = int(first) * 160, int(first + number - 1) * 160
    cut[begin:end] = sine[begin:end]
    real = (LogMel()(cut[None])[:, None] + 5) / 5
    inner = slice(int(first) + 3, int(first + number) - 3)
    torch.testing.assert_close(silenced[..., :30, inner], real[..., :30, inner], atol=1e-4, rtol=0)
    for outer in (slice(0, max(int(first) - 3, 0)), slice(int(first + number) + 3, None)):
        torch.testing.assert_close(silenced[..., outer], real[..., outer], atol=1e-5, rtol=0)


@pytest.mark.parametrize("option", ["band_limit", "silence"])
def test_share_of_silenced_crops(option):
    shares = {"band_limit": 0.0, "silence": 0.0, option: 0.25}
    n_bands, first, number = RandomSilence(**shares, level=0.0).draw(torch.zeros(2000, 1, 64, 96), draws(2000))
    limited, shortened = (n_bands < 64).float().mean(), (number < 96).float().mean()
    share, other = (limited, shortened) if option == "band_limit" else (shortened, limited)
    assert share.item() == pytest.approx(0.25, abs=0.04)
    assert other == 0
    assert int(n_bands.min()) >= 32
    assert int(number.min()) >= 48
    assert int((first + number).max()) == 96


def test_each_process_makes_its_part_of_the_views():
    """Draws of two processes are those of one; their batch statistics are tested with real processes."""
    log_mels = torch.randn(6, 1, 64, 96)
    crop = RandomResizeCrop((0.6, 1.5), (0.6, 1.5), 1.5)
    whole = crop(log_mels, draws(6))
    parts = [crop(log_mels[3 * rank :][:3], draws(3, World(rank, 2))) for rank in range(2)]
    torch.testing.assert_close(torch.cat(parts), whole)
