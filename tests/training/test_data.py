"""The audio pool: shards, folders, cache and faults; fair crops, and batches of them."""

import os
import tarfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch
from pretraining import N_SAMPLES, band_targets

from hear_byols.errors import InputError
from hear_byols.extraction.files import collect
from hear_byols.training.data import find_sources, load_pool
from hear_byols.training.pool import AudioPool, cut_crops, draw_positions
from hear_byols.training.pretrain import CropSampler, TeacherFeatures


def tone(n, pitch=0.05):
    return (0.5 * np.sin(pitch * np.arange(n))).astype(np.float32)


def write(path, audio=None, rate=16000, **options):
    """Write a file of audio, by default of a quarter of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(4000) if audio is None else audio, rate, **options)
    return path


@pytest.fixture
def shard(tmp_path):
    """Two tones among what cannot be used."""
    for name, audio in (("a", tone(20000)), ("b", tone(8000, 0.1)), ("short", tone(100))):
        write(tmp_path / f"members/{name}.wav", audio)
    (tmp_path / "members/broken.opus").write_bytes(b"not audio")
    (tmp_path / "members/label.json").write_text("{}")
    with tarfile.open(tmp_path / "tones.tar", "w") as tar:
        for name in ("a.wav", "broken.opus", "b.wav", "short.wav", "label.json"):
            tar.add(tmp_path / "members" / name, name)
    return tmp_path / "tones.tar"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_shard_and_folder_are_read_once_and_end_to_end(shard, cache, tmp_path, caplog):
    write(tmp_path / "files/c.flac", np.stack([tone(13230), -tone(13230)], axis=1), 44100)
    write(tmp_path / "files/d.wav", 1e6 * tone(4000), subtype="FLOAT")
    pool = load_pool([shard, tmp_path / "files"], cache, workers=2)
    broken, short = pool.skipped
    assert "tones.tar:broken.opus: cannot be read as audio" in broken
    assert "tones.tar:short.wav: 0.006 s are too short" in short
    assert (cache / "skipped.txt").read_text().splitlines() == list(pool.skipped)
    assert all(line in caplog.text for line in pool.skipped)
    assert pool.offsets.tolist() == [0, 20000, 28000, 32800, 36800]  # the third at 44.1 kHz
    assert pool.source_hours() == pytest.approx({"tones": 28000 / 16000 / 3600, "files": 8800 / 16000 / 3600})
    assert pool.audio.dtype == np.int16
    np.testing.assert_allclose(pool.audio[:20000] / 32768, tone(20000), atol=1e-4)
    assert not pool.audio[28000:32800].any()  # the two channels cancel
    # Audio beyond full scale is made quieter, and said.
    np.testing.assert_allclose(pool.audio[32800:36800] / 32767, tone(4000) / np.abs(tone(4000)).max(), atol=1e-3)
    assert "d.wav peaks at 5e+05" in caplog.text


def test_sources_of_one_name_count_together_and_an_index_of_another_kind_is_made_again(cache, tmp_path):
    for folder, n_samples in (("a/notes", 4000), ("b/notes", 12000)):
        write(tmp_path / folder / "x.wav", tone(n_samples))
    for _ in range(2):
        pool = load_pool([tmp_path / "a/notes", tmp_path / "b/notes"], cache)
        assert pool.source_hours() == {"notes": pytest.approx(16000 / 16000 / 3600)}
        (cache / "index.json").write_text("[1]")


def test_a_file_that_goes_or_cannot_be_opened_is_skipped(cache, tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{name}.wav") for name in "ab"]
    contents = [PermissionError(13, "Permission denied"), paths[1].read_bytes()]
    monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=contents))
    pool = load_pool(paths, cache)
    assert pool.offsets.tolist() == [0, 4000]
    assert "a.wav cannot be read (Permission denied)" in pool.skipped[0]


def test_lists_name_files_in_any_unicode_with_a_byte_order_mark(shard, tmp_path):
    audio, listing = write(tmp_path / "c.wav"), tmp_path / "files.txt"
    for data in (b"c.wav\n\ntones.tar\n", b"\xef\xbb\xbfc.wav\r\ntones.tar", "c.wav\ntones.tar".encode("utf-16")):
        listing.write_bytes(data)
        assert find_sources([listing]) == [("tones", [shard]), ("files", [audio])]
    listing.write_bytes("c.wav\n".encode("utf-16-le"))
    with pytest.raises(InputError, match="UTF-16"):
        find_sources([listing])
    listing.write_text("gone.wav\n")
    with pytest.raises(InputError, match="names 1 files that do not exist"):
        find_sources([listing])


def test_folders_are_searched_as_embed_searches_them(tmp_path):
    for given, fault in (
        (tmp_path / "no", "no such file"),
        (tmp_path, r"no \.tar shard and no audio"),
        ("", "is empty"),
    ):
        with pytest.raises(InputError, match=fault):
            find_sources([given])
    for name in ("b.wav", "a/x.M4A", "a/._x.wav", ".git/y.wav", "notes.txt", "z.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sources = dict(find_sources([tmp_path]))
    assert sources == {"z": [tmp_path / "z.tar"], tmp_path.name: [tmp_path / "a/x.M4A", tmp_path / "b.wav"]}
    assert [file.path for file in collect([tmp_path])] == sources[tmp_path.name]


def test_nothing_usable_is_an_error_that_leaves_no_cache(cache, tmp_path):
    (tmp_path / "x.wav").write_bytes(b"nothing")
    (tmp_path / "x.tar").write_bytes(b"nothing" * 200)
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"))
    for name, fault in (
        ("x.wav", "none of the 1 audio files"),
        ("x.tar", r"x\.tar is not a readable tar"),
        ("empty.tar", "a tar without audio"),
    ):
        with pytest.raises(InputError, match=fault):
            load_pool([tmp_path / name], cache)
    assert {path.name for path in cache.iterdir()} <= {"lock"}


def test_a_shard_is_read_whole_or_refused(shard, cache, caplog):
    whole = shard.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for content in (whole + whole, whole[:end] + bytes(1024) + b"more"):
        shard.write_bytes(content)
        with pytest.raises(InputError, match="holds more behind its end"):
            load_pool([shard], cache)
    shard.write_bytes(whole[:end])
    load_pool([shard], cache)
    assert "has no end mark" in caplog.text
    member = tarfile.TarInfo("a.wav")
    member.size = 1 << 40
    shard.write_bytes(member.tobuf() + bytes(4096))
    with pytest.raises(InputError, match=r"a\.wav claims 1099511627776 bytes, the file has 5632"):
        load_pool([shard], cache)


def test_cache_is_used_until_the_files_change_and_only_if_it_is_whole(cache, tmp_path, monkeypatch):
    path = write(tmp_path / "x.wav")
    first = load_pool([path], cache)
    with monkeypatch.context() as patch:
        patch.setattr("hear_byols.training.data.decode_bytes", lambda *_: pytest.fail("decoded again"))
        again = load_pool([path], cache)
    np.testing.assert_array_equal(first.audio, again.audio)
    assert load_pool([path, write(tmp_path / "more.wav")], cache).offsets.tolist() == [0, 4000, 8000]
    whole = (cache / "audio.npy").read_bytes()
    for content, fault in (
        (whole[:1000], "cache.*made again"),
        (whole[:2000] + bytes(1000) + whole[3000:], r"audio\.npy has changed since .* remove .* it is made again"),
    ):
        (cache / "audio.npy").write_bytes(content)
        with pytest.raises(InputError, match=fault):
            load_pool([path, tmp_path / "more.wav"], cache)


def test_files_of_the_same_name_and_size_are_not_mistaken_for_each_other(cache, tmp_path):
    """Neither those of another folder, nor one that was edited; what is in it tells pools apart, not where it is."""
    write(tmp_path / "a/clips/x.wav")
    path = write(tmp_path / "b/clips/x.wav", tone(4000, 0.1))
    digests = [load_pool([tmp_path / name / "clips"], cache).digest for name in "ab"]
    status = path.stat()
    write(path, tone(4000, 0.2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    digests.append(load_pool([tmp_path / "b/clips"], cache).digest)
    assert len(set(digests)) == 3
    (tmp_path / "b").rename(tmp_path / "c")
    assert load_pool([tmp_path / "c/clips"], cache).digest == digests[-1]


def places_of(offsets, n_crops, n_samples):
    return draw_positions(torch.tensor(offsets), n_crops, n_samples, torch.Generator().manual_seed(0)).unbind(1)


def test_crops_are_cut_out_of_one_clip_wherever_they_fit_and_followed_by_zeros():
    pool = AudioPool.from_clips([np.arange(1, n + 1, dtype=np.int16) for n in (5, 20)])
    crops = cut_crops(torch.from_numpy(pool.audio), torch.tensor([[0, 5], [7, 25], [24, 25]]), 8) * 32768
    assert crops.tolist() == [[1, 2, 3, 4, 5, 0, 0, 0], [3, 4, 5, 6, 7, 8, 9, 10], [20, 0, 0, 0, 0, 0, 0, 0]]
    firsts, stops = places_of([0, 5, 25], 500, 8)
    assert (firsts[stops == 5] == 0).all()  # too short: from its beginning
    long = firsts[stops == 25]
    assert (long.min(), long.max()) == (5, 17)


def test_places_are_uniform_over_time_not_over_clips():
    firsts, stops = places_of([0, 1000, 10000], 5000, 100)
    assert (stops == 10000).float().mean().item() == pytest.approx(0.9, abs=0.02)
    within = (firsts[stops == 10000] - 1000) / 8900
    assert within.mean().item() == pytest.approx(0.5, abs=0.02)


def test_features_belong_to_their_crops(pool):
    targets = band_targets(pool)
    hybrid, plain, again = (CropSampler(pool, N_SAMPLES, targets=given) for given in (targets, None, None))
    log_mels, features = hybrid.draw(32, torch.Generator().manual_seed(0))
    bands = log_mels[:, 0].mean(2).unflatten(1, (8, 8)).mean(2)
    torch.testing.assert_close(features, targets.standardizer(bands), rtol=0.02, atol=0.02)
    assert plain.draw(8, torch.Generator())[1] is None
    assert plain.digest == again.digest != hybrid.digest


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_log_mels(pool):
    log_mels = []
    for device in map(torch.device, ("cpu", "cuda")):
        one = TeacherFeatures(torch.tensor([[100, 16000]]), np.zeros((1, 8), np.float32), device)
        log_mels.append(CropSampler(pool, N_SAMPLES, device, one).draw(2, torch.Generator(device))[0].cpu())
    torch.testing.assert_close(*log_mels)
