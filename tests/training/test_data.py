"""The audio pool: shards, folders, cache, faults and fair crops."""

import io
import logging
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_byols.errors import InputError
from hear_byols.extraction.files import collect
from hear_byols.training.data import find_sources, load_pool
from hear_byols.training.pool import AudioPool, cut_crops, draw_positions


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
    assert len(pool.skipped) == 2
    assert "tones.tar:short.wav: 0.006 s are too short" in caplog.text
    listed = (tmp_path / "cache/skipped.txt").read_text().splitlines()
    assert "tones.tar:broken.opus: cannot be read as audio" in listed[0]
    assert listed == list(pool.skipped)
    assert pool.offsets.tolist() == [0, 20000, 28000, 33000]
    assert pool.source_names == ("tones", "files")
    assert pool.source_hours()["tones"] == pytest.approx(28000 / 16000 / 3600)
    assert pool.hours == pytest.approx(33000 / 16000 / 3600)
    assert pool.audio.dtype == np.int16
    np.testing.assert_allclose(pool.audio[:20000] / 32768, tone(20000), atol=1e-4)
    assert not pool.audio[28000:].any()  # the two channels cancel


def test_any_rate_is_resampled(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(44100, 2 * np.pi * 441 / 44100), 44100)
    pool = load_pool([tmp_path / "x.wav"], tmp_path / "cache", workers=2)
    assert pool.offsets.tolist() == [0, 16000]
    expected = tone(16000, 2 * np.pi * 441 / 16000)
    np.testing.assert_allclose(pool.audio[1000:15000] / 32768, expected[1000:15000], atol=2e-3)


def test_list_of_files(shard, tmp_path):
    soundfile.write(tmp_path / "c.wav", tone(5000), 16000)
    (tmp_path / "files.txt").write_text("c.wav\n\ntones.tar\n")
    pool = load_pool([tmp_path / "files.txt"], tmp_path / "cache")
    assert pool.source_names == ("tones", "files")
    assert pool.n_clips == 3
    (tmp_path / "files.txt").write_text("gone.wav\n")
    with pytest.raises(InputError, match="names 1 files that do not exist"):
        find_sources([tmp_path / "files.txt"])


def test_lists_are_read_with_their_byte_order_mark_and_refused_without(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(3000), 16000)
    for data in (b"\xef\xbb\xbfa.wav\r\n", "a.wav\n".encode("utf-16")):
        (tmp_path / "files.txt").write_bytes(data)
        assert find_sources([tmp_path / "files.txt"]) == [("files", [tmp_path / "a.wav"])]
    (tmp_path / "files.txt").write_bytes("a.wav\n".encode("utf-16-le"))
    with pytest.raises(InputError, match="UTF-16"):
        find_sources([tmp_path / "files.txt"])
    with pytest.raises(InputError, match="is empty"):
        find_sources([""])


def test_folders_are_searched_as_embed_searches_them(tmp_path):
    for name in ("b.wav", "a/x.M4A", "a/._x.wav", ".git/y.wav", "notes.txt", "z.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sources = dict(find_sources([tmp_path]))
    assert sources == {"z": [tmp_path / "z.tar"], tmp_path.name: [tmp_path / "a/x.M4A", tmp_path / "b.wav"]}
    assert [file.path for file in collect([tmp_path])] == sources[tmp_path.name]


def test_cache_is_used_until_the_files_change(shard, tmp_path, monkeypatch):
    first = load_pool([shard], tmp_path / "cache")
    monkeypatch.setattr("hear_byols.training.data.decode_bytes", lambda *_: pytest.fail("decoded again"))
    again = load_pool([shard], tmp_path / "cache")
    np.testing.assert_array_equal(first.audio, again.audio)
    assert again.skipped == first.skipped
    monkeypatch.undo()
    soundfile.write(tmp_path / "more.wav", tone(3000), 16000)
    assert load_pool([shard, tmp_path / "more.wav"], tmp_path / "cache").n_clips == 3


def test_nothing_usable_is_an_error_that_leaves_no_cache(tmp_path):
    (tmp_path / "x.wav").write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of the 1 audio files"):
        load_pool([tmp_path / "x.wav"], tmp_path / "cache")
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {"lock"}


def test_sources_must_exist_and_hold_audio(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        find_sources([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"no \.tar shard and no audio"):
        find_sources([tmp_path])


def test_broken_tar_is_named(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"nothing" * 200)
    with pytest.raises(InputError, match=r"x\.tar is not a readable tar"):
        load_pool([tmp_path], tmp_path / "cache")


def make_pool(lengths):
    return AudioPool.from_clips([np.arange(1, n + 1, dtype=np.int16) for n in lengths])


def places_of(pool, n_crops, n_samples, seed=0):
    return draw_positions(torch.from_numpy(pool.offsets), n_crops, n_samples, torch.Generator().manual_seed(seed))


def test_crops_are_cut_out_of_one_clip_and_followed_by_zeros():
    audio = torch.from_numpy(make_pool([5, 20]).audio)
    crops = cut_crops(audio, torch.tensor([[0, 5], [7, 25], [24, 25]]), 8) * 32768
    assert crops[0].tolist() == [1, 2, 3, 4, 5, 0, 0, 0]
    assert crops[1].tolist() == [3, 4, 5, 6, 7, 8, 9, 10]
    assert crops[2].tolist() == [20, 0, 0, 0, 0, 0, 0, 0]


def test_places_cover_all_at_which_a_crop_fits():
    firsts, stops = places_of(make_pool([5, 20]), 500, 8).unbind(1)
    assert (firsts[stops == 5] == 0).all()  # too short: from its beginning
    long = firsts[stops == 25]
    assert (long.min(), long.max()) == (5, 17)


def test_places_are_uniform_over_time_not_over_clips():
    pool = make_pool([1000, 9000])
    firsts, stops = places_of(pool, 5000, 100).unbind(1)
    assert (stops == 10000).float().mean().item() == pytest.approx(0.9, abs=0.02)
    within = (firsts[stops == 10000] - 1000) / 8900
    assert within.mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(places_of(pool, 50, 100), places_of(pool, 50, 100))


def test_files_of_the_same_name_and_size_are_not_mistaken_for_each_other(tmp_path):
    """Neither those of another folder, nor one that was edited."""
    for name, pitch in (("a", 0.05), ("b", 0.1)):
        (tmp_path / name / "clips").mkdir(parents=True)
        soundfile.write(tmp_path / name / "clips/x.wav", tone(4000, pitch), 16000)
    first, second = (load_pool([tmp_path / name / "clips"], tmp_path / "cache").audio[:4000].copy() for name in "ab")
    assert not np.array_equal(first, second)
    path = tmp_path / "b/clips/x.wav"
    soundfile.write(path, tone(4000, 0.2), 16000)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    edited = load_pool([tmp_path / "b/clips"], tmp_path / "cache")
    assert not np.array_equal(edited.audio[:4000], second)
    moved = tmp_path / "c"
    (tmp_path / "b").rename(moved)
    assert load_pool([moved / "clips"], tmp_path / "cache").digest == edited.digest  # what is in it tells pools apart


def test_a_cut_cache_is_one_error(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(4000), 16000)
    load_pool([tmp_path / "x.wav"], tmp_path / "cache")
    with open(tmp_path / "cache/audio.npy", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(InputError, match=r"cache.*made again"):
        load_pool([tmp_path / "x.wav"], tmp_path / "cache")


def test_a_cache_whose_samples_changed_is_one_error(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(4000), 16000)
    load_pool([tmp_path / "x.wav"], tmp_path / "cache")
    with open(tmp_path / "cache/audio.npy", "r+b") as file:
        file.seek(2000)
        file.write(bytes(1000))
    with pytest.raises(InputError, match=r"audio\.npy has changed since it was written; remove .* it is made again"):
        load_pool([tmp_path / "x.wav"], tmp_path / "cache")


def test_a_shard_is_read_whole_or_refused(shard, tmp_path, caplog):
    whole = shard.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for content in (whole + whole, whole[:end] + bytes(1024) + b"more"):
        shard.write_bytes(content)
        with pytest.raises(InputError, match="holds more behind its end"):
            load_pool([shard], tmp_path / "cache")
    shard.write_bytes(whole[:end])
    load_pool([shard], tmp_path / "cache")
    assert "has no end mark" in caplog.text
    member = tarfile.TarInfo("a.wav")
    member.size = 1 << 40
    shard.write_bytes(member.tobuf() + bytes(4096))
    with pytest.raises(InputError, match=r"a\.wav claims 1099511627776 bytes, the file has 5632"):
        load_pool([shard], tmp_path / "cache")


def test_a_file_that_goes_or_cannot_be_opened_is_skipped(tmp_path, monkeypatch):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", tone(4000), 16000)
    read = Path.read_bytes

    def refused(path):
        if path.name == "a.wav":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    pool = load_pool([tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "cache")
    assert pool.n_clips == 1
    assert "a.wav cannot be read (Permission denied)" in pool.skipped[0]


def test_a_tar_without_audio_is_one_error(tmp_path):
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"))
    with pytest.raises(InputError, match="a tar without audio"):
        load_pool([tmp_path / "empty.tar"], tmp_path / "cache")


def test_audio_beyond_full_scale_is_made_quieter_and_said(tmp_path, caplog):
    soundfile.write(tmp_path / "loud.wav", 1e6 * tone(4000), 16000, subtype="FLOAT")
    pool = load_pool([tmp_path / "loud.wav"], tmp_path / "cache")
    expected = tone(4000) / np.abs(tone(4000)).max()
    np.testing.assert_allclose(pool.audio[:4000] / 32767, expected, atol=1e-3)
    assert "peaks at 5e+05" in caplog.text
