"""Search, duplicates and clusters over embed folders."""

import itertools
import shutil
import sys

import numpy as np
import pytest
import soundfile
from made_sounds import CLASSES, MODEL, RATE, command, formulas_in, make, rows_of, write_classes

from hear_byols import embed_to_folder, read_embeddings
from hear_byols.answers import compact as compact_module
from hear_byols.answers.alignment import align
from hear_byols.answers.clusters import find_clusters
from hear_byols.answers.compact import compact, nearest
from hear_byols.answers.duplicates import find_duplicates
from hear_byols.answers.search import search
from hear_byols.errors import InputError, MissingDependencyError, OptionError


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Two recordings of 4 s, the first with a sweep at 1 s and at 3 s, the second with one at 2 s; and windows."""
    folder = tmp_path_factory.mktemp("long")
    rng = np.random.default_rng(5)
    for name, places in (("first.wav", (1.0, 3.0)), ("second.wav", (2.0,))):
        samples = 0.01 * rng.uniform(-1, 1, 4 * RATE)
        for place in places:
            sound = make("sweep", 0.5, rng)
            samples[round((place - 0.25) * RATE) :][: len(sound)] += sound
        soundfile.write(folder / name, samples, RATE)
    embed_to_folder([folder], folder / "windows", model=MODEL, timestamps=True, frame_ms=500, hop_ms=100)
    return folder


# --- Search ---


def test_a_search_is_the_ranking_by_cosine(sounds, embedded):
    content = read_embeddings(embedded)
    units = content.vectors / np.linalg.norm(content.vectors, axis=1, keepdims=True)
    query, cosines = content.names[7], units @ units[7]
    hits = search(embedded, query, n=99)
    assert [hit.name for hit in hits] == [content.names[i] for i in np.argsort(-cosines) if i != 7]
    np.testing.assert_allclose([hit.similarity for hit in hits], np.sort(np.delete(cosines, 7))[::-1], atol=1e-5)
    assert search(embedded, query, n=3) == hits[:3]
    itself, other = search(embedded, sounds / "hum" / "hum3.wav", n=2)  # an audio file finds itself first
    assert itself.name == "hum/hum3.wav"
    assert itself.similarity > 0.9999 > other.similarity


def test_a_stretch_finds_stretches(long):
    windows = long / "windows"
    for query in (long / "first.wav", "first.wav"):
        hits = search(windows, query, start_s=0.95, end_s=1.05, n=2)
        other, time = ("second.wav", 2000) if query == "first.wav" else ("first.wav", 1000)
        best = next(hit for hit in hits if hit.name == other)
        assert abs(best.time_ms - time) <= 200
    per_file = [hit.time_ms for hit in search(windows, long / "first.wav", n=50) if hit.name == "first.wav"]
    assert min(abs(a - b) for a, b in itertools.combinations(per_file, 2)) >= 500


def test_wrong_queries_and_folders_are_named(sounds, embedded, long):
    clip = sounds / "hum" / "hum1.wav"
    for folder, query, options, message in (
        (embedded, "nothing.wav", {}, "neither an audio file nor the name"),
        (embedded, "hum/hum1.wav", {"start_s": 0.1}, "whole files"),
        (embedded, clip, {"start_s": 9}, "starts at 9 s"),
        (long / "windows", "first.wav", {"start_s": 50}, "no window between"),
        *((embedded, clip, options, None) for options in ({"n": 0}, {"start_s": 2, "end_s": 1}, {"start_s": -1})),
    ):
        with pytest.raises((InputError, OptionError), match=message):
            search(folder, query, **options)
    with pytest.raises(OptionError, match="whole files"):
        find_duplicates(long / "windows")


# --- Little memory ---


def test_compact_vectors_keep_their_cosines(embedded, monkeypatch):
    content = read_embeddings(embedded)
    units = content.vectors / np.linalg.norm(content.vectors, axis=1, keepdims=True)
    small = compact(embedded)
    assert small.rows.dtype == np.float16
    rows = small.rows.astype(np.float32)
    np.testing.assert_allclose(rows @ rows.T, units @ units.T, atol=3e-3)
    assert [small.names[owner] for owner in small.owners] == list(content.names)
    with monkeypatch.context() as patch:
        patch.setattr(compact_module, "DIMENSIONS", 4)
        assert compact(embedded).rows.shape == (len(content), 4)
    monkeypatch.setattr(compact_module, "_SAMPLE", 6)  # directions come from rows of the whole folder
    rows = compact(embedded).rows.astype(np.float32)
    assert 3 <= rows.shape[1] <= 6
    assert np.linalg.norm(rows, axis=1).min() > 0.7  # what the sample spans holds most of every vector


def test_an_index_finds_the_neighbours_that_all_pairs_have(embedded, monkeypatch):
    pytest.importorskip("usearch")
    small = compact(embedded)
    places, similarities = nearest(small, 3)
    monkeypatch.setattr(compact_module, "MAX_EXACT", 5)
    by_index, others = nearest(small, 3)
    np.testing.assert_array_equal(by_index[:, 0], places[:, 0])
    np.testing.assert_allclose(others, similarities, atol=5e-3)
    assert not (by_index == np.arange(len(by_index))[:, None]).any()
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MissingDependencyError, match=r"hear_byols\[search\]"):
        nearest(small, 3)


def test_of_many_windows_every_nth_is_read(long):
    everything, some = read_embeddings(long / "windows"), read_embeddings(long / "windows", most_windows=10)
    step = -(-len(everything) // 10)
    assert step > 2
    np.testing.assert_array_equal(some.vectors, everything.vectors[::step])
    np.testing.assert_array_equal(some.times_ms, everything.times_ms[::step])
    assert some.names == everything.names[::step]


# --- Duplicates ---


def test_copies_are_found_with_offset_and_gain_and_nothing_else_is(tmp_path, capsys):
    """Noises and sounds, with copies of two of them."""
    folder, out, table = write_classes(tmp_path / "in", n=4, seconds=1.5, seed=3), tmp_path / "out", tmp_path / "t.csv"
    shutil.rmtree(folder / "sweep")  # one sweep is another one a little later
    noises = np.random.default_rng(0).normal(0, 0.1, (5, 2 * RATE))
    clips = {f"noise{i}.wav": noise for i, noise in enumerate(noises)}
    clips |= {"encoded.mp3": noises[0], "trimmed.wav": noises[0][4000:-3000], "quiet.flac": 0.25 * noises[0]}
    for name, samples in (clips | {"all of it.ogg": 0.5 * noises[0][2000:]}).items():
        soundfile.write(folder / name, samples, RATE)
    shutil.copy(folder / "hum" / "hum1.wav", folder / "Kopie für später.wav")
    embed_to_folder([folder], out, model=MODEL)
    found = find_duplicates(out)
    assert (found.n_files, found.failures) == (18, ())
    assert sorted(sorted(copy.name for copy in group) for group in found.groups) == [
        ["Kopie für später.wav", "hum/hum1.wav"],
        ["all of it.ogg", "encoded.mp3", "noise0.wav", "quiet.flac", "trimmed.wav"],
    ]
    members = {copy.name: copy.alignment for group in found.groups for copy in group}
    assert members["trimmed.wav"].offset_s == pytest.approx(4000 / RATE, abs=2e-3)
    assert members["quiet.flac"].gain_db == pytest.approx(-12.04, abs=0.1)
    assert members["all of it.ogg"].gain_db == pytest.approx(-6.02, abs=1.5)
    assert command("search", out, "Kopie für später.wav", "-n", 1) == 0
    assert "hum/hum1.wav" in capsys.readouterr().out
    (folder / "trimmed.wav").unlink()  # audio that has gone is told
    assert command("duplicates", out, "-o", table) == 1
    assert "trimmed.wav" in capsys.readouterr().err
    assert sorted(row["group"] for row in rows_of(table)) == ["1"] * 2 + ["2"] * 4
    shutil.rmtree(folder)
    assert command("duplicates", out) == 2
    assert "none of the audio" in capsys.readouterr().err


@pytest.mark.parametrize("offset", [0, 1500, -2500])
def test_alignment_says_where_and_how_loud(offset):
    samples = np.random.default_rng(1).normal(0, 0.1, 30000).astype(np.float32)
    found = align(samples[5000:20000], 0.5 * samples[5000 + offset : 18000 + offset], RATE)
    assert found.correlation > 0.999
    assert found.offset_s == pytest.approx(offset / RATE, abs=1e-6)
    assert found.gain_db == pytest.approx(-6.02, abs=0.1)


def test_silence_and_other_noise_are_no_copies():
    noise = np.random.default_rng(2).normal(0, 0.1, (2, 20000)).astype(np.float32)
    assert align(noise[0], noise[1], RATE).correlation < 0.2
    assert align(noise[0], np.zeros(20000, np.float32), RATE).correlation == 0
    assert align(noise[0], -noise[0], RATE).correlation > 0.999  # a swapped polarity is a copy


# --- Clusters ---


def test_clusters_hold_what_sounds_alike(embedded, tmp_path, capsys):
    found = find_clusters(embedded, 3)
    counts = np.bincount(found.clusters).tolist()
    assert counts == sorted(counts, reverse=True)
    labels = np.array([name.split("/")[0] for name in found.names])
    purity = sum(max(np.sum(labels[found.clusters == i] == label) for label in CLASSES) for i in range(3)) / len(labels)
    assert purity >= 0.8
    rows = found.typical(0)
    assert list(found.distances[rows]) == sorted(found.distances[rows])
    table = tmp_path / "clusters.csv"
    assert command("clusters", embedded, "-n", 3, "-o", table) == 0
    assert capsys.readouterr().out.count("cluster ") == 3
    written = rows_of(table)
    assert len(written) == len(found.names)
    assert written[0]["path"] == found.names[rows[0]]
    with pytest.raises(OptionError, match="2 to 15"):
        find_clusters(embedded, 16)


def test_hostile_names_stay_text(sounds, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i, name in enumerate(("=cmd|' '!A0.wav", "a\x1b[2J.wav", "<script>alert(1)<.wav", "+1.wav")):
        shutil.copy(sounds / "hum" / f"hum{i}.wav", tmp_path / "in" / name)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    for arguments in (("search", tmp_path / "out", "+1.wav"), ("clusters", tmp_path / "out")):
        assert command(*arguments, "-o", tmp_path / "t.csv") == 0
        assert not formulas_in(tmp_path / "t.csv")
    assert "\x1b" not in capsys.readouterr().out
