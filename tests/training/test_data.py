"""The audio pool: shards, folders, cache, faults and fair crops."""

import io
import logging
import tarfile

import numpy as np
import pytest
import soundfile

from hear_byols.errors import InputError
from hear_byols.training.data import AudioPool, draw_crops, find_sources, load_pool, read_clip


def wav_bytes(audio, rate=16000):
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, format="WAV")
    return buffer.getvalue()


def tone(n, pitch=0.05):
    return (0.5 * np.sin(pitch * np.arange(n))).astype(np.float32)


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "tones.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (
            ("a.wav", wav_bytes(tone(20000))),
            ("broken.opus", b"not audio"),
            ("b.wav", wav_bytes(tone(8000, 0.1))),
            ("short.wav", wav_bytes(tone(100))),
            ("label.json", b"{}"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_shard_and_folder_are_read_once_and_end_to_end(shard, tmp_path, caplog):
    folder = tmp_path / "files"
    folder.mkdir()
    soundfile.write(folder / "c.flac", np.stack([tone(5000), -tone(5000)], axis=1), 16000)
    with caplog.at_level(logging.WARNING):
        pool = load_pool([shard, folder], tmp_path / "cache")
    assert pool.n_clips == 3
    assert pool.n_skipped == 2
    assert "broken.opus" in caplog.text
    assert pool.offsets.tolist() == [0, 20000, 28000, 33000]
    assert pool.source_names == ("tones", "files")
    assert pool.source_hours()["tones"] == pytest.approx(28000 / 16000 / 3600)
    assert pool.hours == pytest.approx(33000 / 16000 / 3600)
    assert pool.audio.dtype == np.int16
    np.testing.assert_allclose(pool.audio[:20000] / 32768, tone(20000), atol=1e-4)
    assert not pool.audio[28000:].any()  # the two channels cancel


def test_cache_is_used_until_the_files_change(shard, tmp_path, monkeypatch):
    first = load_pool([shard], tmp_path / "cache")
    monkeypatch.setattr("hear_byols.training.data.read_clip", lambda *_: pytest.fail("decoded again"))
    again = load_pool([shard], tmp_path / "cache")
    np.testing.assert_array_equal(first.audio, again.audio)
    assert again.n_skipped == 2
    monkeypatch.undo()
    soundfile.write(tmp_path / "more.wav", tone(3000), 16000)
    assert load_pool([shard, tmp_path / "more.wav"], tmp_path / "cache").n_clips == 3


def test_nothing_usable_is_an_error_that_leaves_no_cache(tmp_path):
    (tmp_path / "x.wav").write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of the 1 audio files"):
        load_pool([tmp_path / "x.wav"], tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_sources_must_exist_and_hold_audio(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        find_sources([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"no \.tar shard and no audio"):
        find_sources([tmp_path])


def test_broken_tar_is_named(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"nothing" * 200)
    with pytest.raises(InputError, match=r"x\.tar is not a readable tar"):
        load_pool([tmp_path], tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be decoded"),
        (wav_bytes(tone(9000), 44100), "44100 Hz"),
        (wav_bytes(tone(10)), "10 samples"),
    ],
)
def test_unusable_clips_say_why(content, message):
    with pytest.raises(InputError, match=message):
        read_clip(content, 16000)


def make_pool(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    audio = np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int16)
    return AudioPool(audio, offsets, np.zeros(len(lengths), dtype=int), ("all",), 16000)


def test_crops_stay_in_their_clip_and_short_clips_are_padded():
    pool = make_pool([5, 20])
    np.testing.assert_array_equal(pool.crop(0, 0, 8), [1, 2, 3, 4, 5, 0, 0, 0])
    np.testing.assert_array_equal(pool.crop(1, 2, 4), [3, 4, 5, 6])
    places = draw_crops(pool, 500, 8, np.random.default_rng(0))
    assert (places[places[:, 0] == 0, 1] == 0).all()
    assert places[places[:, 0] == 1, 1].min() == 0
    assert places[places[:, 0] == 1, 1].max() == 12


def test_crops_are_uniform_over_time_not_over_clips():
    pool = make_pool([1000, 9000])
    places = draw_crops(pool, 5000, 100, np.random.default_rng(0))
    assert (places[:, 0] == 1).mean() == pytest.approx(0.9, abs=0.02)
