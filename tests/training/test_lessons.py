"""Lessons: augmented crops and what teachers say of them, made once, in an order that depends on the seed alone."""

import dataclasses
import multiprocessing
import os

import numpy as np
import pytest
import torch
from pretraining import TEACHER_SIZES, band_teacher, write_clips

from hear_byols.errors import InputError, TrainingError
from hear_byols.opensmile import OpenSmileModel
from hear_byols.training import lessons
from hear_byols.training.data import load_pool
from hear_byols.training.lesson_stream import Lessons, LiveLessons
from hear_byols.training.lessons import PARTS, SHARD, LessonFolder, LessonPlan, Teachers, draw_balanced
from hear_byols.training.pool import AudioPool
from hear_byols.training.targets import FeatureScaler
from hear_byols.training.waveforms import WaveformAugmentation, resample, rms

UNCHANGED = WaveformAugmentation(
    speed_share=0, mix_share=0, room_share=0, band_share=0, burst_share=0, level_db=(0, 0), noise_db=(-300, -300)
)
N = 4000


@pytest.fixture(scope="module")
def folder(two_teachers, pool, tmp_path_factory):
    """Three shards of lessons, which tests leave as they are."""
    folder = LessonFolder(tmp_path_factory.mktemp("lessons"), LessonPlan(tuple(TEACHER_SIZES), n_samples=N), pool)
    for i in range(3):
        folder.make(i, Teachers(folder.plan, pool))
    return folder


def augmented(augmentation, sounds, others=None, seed=0):
    others = sounds.flip(0) if others is None else others
    return augmentation(sounds, others, N, torch.Generator().manual_seed(seed))


def sounds(n=16):
    return torch.randn(n, WaveformAugmentation().n_source_samples(N), generator=torch.Generator().manual_seed(1)) * 0.1


def test_a_seed_makes_the_same_waveforms_again_and_another_one_others():
    first, again, other = (augmented(WaveformAugmentation(), sounds(), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (16, N)
    assert first.abs().max() <= 1  # NaN would fail
    quiet = dataclasses.replace(WaveformAugmentation(), noise_db=(-90, -90))
    assert augmented(quiet, 0 * sounds()).abs().max() < 1e-3  # of silence; NaN would fail
    peaks = sounds()[:, :N].abs().amax(1, keepdim=True)
    torch.testing.assert_close(augmented(UNCHANGED, sounds()), sounds()[:, :N] / peaks)


def test_speed_moves_pitch():
    tone = torch.sin(0.2 * torch.arange(2 * N))[None]
    faster = resample(tone, torch.tensor([1.25]), N)
    spectrum = torch.fft.rfft(faster[0] * torch.hann_window(N)).abs()
    assert spectrum.argmax().item() == pytest.approx(0.2 * 1.25 / (2 * np.pi) * N, abs=1)


def test_mixed_sounds_have_the_level_that_was_asked_for():
    tone, given = torch.sin(0.3 * torch.arange(sounds().shape[1])).expand(16, -1), sounds()[:, :N]
    mixed = augmented(dataclasses.replace(UNCHANGED, mix_share=1, mix_db=(10, 10)), sounds(), tone)
    sound = given * (mixed * given).sum(1, keepdim=True) / given.square().sum(1, keepdim=True)
    ratio = 20 * torch.log10(rms(sound) / rms(mixed - sound))
    torch.testing.assert_close(ratio, torch.full((16,), 10.0), atol=0.5, rtol=0)


def test_band_limits_take_what_lies_outside():
    limited = augmented(dataclasses.replace(UNCHANGED, band_share=1), sounds())
    spectrum = torch.fft.rfft(limited).abs().square()
    share = spectrum.split([21, 979, 1001], 1)  # below 84 Hz, between, above 4 kHz
    assert ((share[0].mean(1) < 0.2 * share[1].mean(1)) | (share[2].mean(1) < 0.9 * share[1].mean(1))).all()


def test_rooms_ring_on_behind_a_sound():
    click = torch.zeros(8, 2 * N)
    click[:, 100] = 1
    ringing = augmented(dataclasses.replace(UNCHANGED, room_share=1), click)
    early, late = ringing[:, 140:1000].square().mean(1), ringing[:, 3000:].square().mean(1)
    assert ((early > 1e-8) & (late < early)).all()


def test_short_sounds_stand_in_silence():
    silent = augmented(dataclasses.replace(UNCHANGED, burst_share=1), sounds()).abs() < 1e-9
    assert (silent.any(1) & ~silent.all(1)).all()


def test_small_sources_are_heard_more_than_their_share():
    clips = [np.zeros(90_000, np.int16), np.zeros(10_000, np.int16)]
    pool = dataclasses.replace(AudioPool.from_clips(clips), sources=np.array([0, 1]), source_names=("large", "small"))
    for balance, share in ((1.0, 0.1), (0.5, 0.25), (0.0, 0.5)):
        positions = draw_balanced(pool, 4000, 100, balance, torch.Generator().manual_seed(0))
        assert (positions[:, 0] >= 90_000).float().mean().item() == pytest.approx(share, abs=0.03)
        assert (positions[:, 0] + 100 <= positions[:, 1]).all()


def test_lessons_hold_the_means_of_the_teachers_frames(folder):
    waveforms, features = folder.read(0)
    assert (waveforms.shape, features.shape) == ((SHARD, N), (SHARD, PARTS, 10))
    frames = band_teacher(8)(waveforms[:5].float() / 32767)
    quarters = torch.nn.functional.adaptive_avg_pool1d(frames.transpose(1, 2), PARTS).transpose(1, 2)
    torch.testing.assert_close(features[:5, :, :8].float(), quarters, atol=0.01, rtol=1e-3)


def test_opensmile_may_be_one_of_several_teachers(two_teachers, pool, monkeypatch):
    pytest.importorskip("opensmile")
    monkeypatch.setattr(lessons, "_FIT_CROPS", 8)
    plan = LessonPlan(("mn04", "opensmile"), n_samples=N)
    waveforms = next(plan.waveforms(pool, 0))[:8]
    features = Teachers(plan, pool)(waveforms).float()
    assert features.shape == (8, PARTS, 8 + 6373)
    assert torch.equal(features[:, 0, 8:], features[:, 3, 8:])  # of the whole crop, whatever the stretch
    functionals = np.stack([OpenSmileModel().functionals(crop) for crop in waveforms.numpy() / np.float32(32767)])
    expected = FeatureScaler.fit(functionals)(torch.from_numpy(functionals))
    torch.testing.assert_close(features[:, 0, 8:], expected, atol=5e-3, rtol=0)


def test_each_group_is_new_once_and_then_replayed(folder, monkeypatch):
    monkeypatch.setattr("hear_byols.training.lesson_stream.GROUP", 1)
    heard, again = (Lessons(folder, 3, replays=1, workers=0) for _ in range(2))
    lengths = SHARD // 128  # batches of a visit
    shards = [folder.read(i)[0] for i in range(3)]

    def shard_of(batch):
        return next(i for i, shard in enumerate(shards) if (shard == batch[0]).all(1).any())

    order = [shard_of(heard.batch(lengths * visit, 128, slice(0, 128))[0]) for visit in range(9)]
    assert order[0:6:2] == [0, 1, 2]
    assert all(order[2 * i + 1] <= i for i in range(3))
    assert sorted(order[6:9]) == [0, 1, 2]
    assert torch.equal(*(stream.batch(lengths * 7 + 2, 128, slice(0, 128))[1] for stream in (again, heard)))


def test_lessons_can_be_made_again_in_the_step_itself(folder, pool):
    live = LiveLessons(folder.plan, pool, "cpu")
    shards = [torch.cat(parts) for parts in zip(folder.read(0), folder.read(1), strict=True)]
    for step, rows in ((0, slice(0, 96)), (5, slice(32, 64)), (2, slice(0, 96)), (3, slice(0, 48))):  # 5: over the edge
        waveforms, features = live.batch(step, 96, rows)
        expected = [tensor[step * 96 :][rows] for tensor in shards]
        assert torch.equal(waveforms, expected[0])
        torch.testing.assert_close(features, expected[1], atol=0.02, rtol=1e-2)
    assert torch.equal(live.first(1)[0], folder.read(0)[0])


def test_lessons_made_in_the_step_come_again_between_new_ones(folder, pool, monkeypatch):
    monkeypatch.setattr("hear_byols.training.lesson_stream.KEPT", 3 * 32)
    live, resumed = (LiveLessons(folder.plan, pool, "cpu", replays=2) for _ in range(2))
    new, rows = LiveLessons(folder.plan, pool, "cpu"), slice(0, 32)
    batches = [live.batch(step, 32, rows) for step in range(12)]
    made = [new.batch(i, 32, rows) for i in range(4)]
    crops = {tuple(crop.tolist()): (i, j) for i in range(4) for j, crop in enumerate(made[i][0])}
    for step, (waveforms, features) in enumerate(batches):
        newest, place = divmod(step, 3)
        places = [crops[tuple(crop.tolist())] for crop in waveforms]
        if place == 0:
            assert places == [(newest, j) for j in range(32)]
        else:
            assert {number for number, _ in places} <= set(range(max(0, newest - 2), newest + 1))  # the kept ones
            assert sorted(j for _, j in places) == list(range(32))
        expected = torch.stack([made[i][1][j] for i, j in places])
        torch.testing.assert_close(features, expected, atol=0.02, rtol=1e-2)
    assert all(torch.equal(resumed.batch(step, 32, rows)[0], batches[step][0]) for step in (7, 10, 11))


def test_lessons_of_another_plan_or_pool_are_refused(folder, pool, tmp_path):
    plan = folder.plan
    LessonFolder(tmp_path, plan, pool)
    for other, differing in (
        ((dataclasses.replace(plan, seed=7), pool), "seed"),
        ((plan, dataclasses.replace(pool, digest="other")), "pool"),
    ):
        with pytest.raises(InputError, match=f"different: {differing}"):
            LessonFolder(tmp_path, *other)
    (tmp_path / "recipe.json").write_text("[1]")
    with pytest.raises(InputError, match=r"recipe\.json is damaged"):
        LessonFolder(tmp_path, plan, pool)


def test_a_missing_or_damaged_shard_is_named(folder, pool, tmp_path):
    broken, whole = LessonFolder(tmp_path, folder.plan, pool), folder.path(0).read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    with pytest.raises(TrainingError, match=r"shard-000000\.safetensors is not there and nothing makes it"):
        Lessons(broken, 1, workers=0).batch(0, 8, slice(0, 8))
    for content, message in ((whole[:-100], ""), (flipped, "its content has changed since it was written")):
        broken.path(0).write_bytes(content)
        with pytest.raises(InputError, match=rf"shard-000000\.safetensors is damaged \(.*{message}"):
            Lessons(broken, 1, workers=0).batch(0, 8, slice(0, 8))


def test_an_extraction_that_fails_ends_the_run_instead_of_hanging(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path / "empty"))
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(2)")  # a busy machine starts processes late
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    pool = load_pool([write_clips(tmp_path / "audio")], tmp_path / "cache")
    before = set(multiprocessing.active_children())
    heard = Lessons(LessonFolder(tmp_path / "lessons", folder.plan, pool), 1)
    with pytest.raises(TrainingError, match="the extraction has failed"):
        heard.batch(0, 8, slice(0, 8))
    assert "hear-byols: the teacher 'mn04' is not on this machine" in capfd.readouterr().err  # it came that far
    heard.close()
    assert set(multiprocessing.active_children()) <= before
