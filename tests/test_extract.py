"""Files to embeddings: the same vectors on every way, and nothing lost, repeated or half-written after a kill."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from extraction import MODEL, contents, noise, recorded, start, write_corpus

import hear_byols
from hear_byols._util.files import file_digest
from hear_byols.containers.recording import Recording
from hear_byols.errors import InputError, MissingDependencyError, OptionError, OutputError
from hear_byols.extraction import extract, groups
from hear_byols.extraction.arrays import embed_files
from hear_byols.extraction.extract import embed_to_folder
from hear_byols.extraction.files import AudioFile, collect
from hear_byols.extraction.groups import GroupLimits
from hear_byols.extraction.reader import read_ahead

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-5  # of the largest component
HAS_PYARROW = find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason='needs pip install "hear_byols[parquet]"')
PARQUET = pytest.param("parquet", marks=needs_pyarrow)


@pytest.fixture(scope="module")
def model():
    return hear_byols.load_model(MODEL)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, 7, lengths_s=(0.3, 1.2, 0.3))
    soundfile.write(folder / "a" / 'stereo, "quoted" é.wav', np.stack([noise(0.4, 8, 44100)] * 2, 1), 44100)
    return folder


@pytest.fixture(scope="module")
def expected(corpus, model):
    """What the model says of each file alone: {name: (scene, windows, times)}."""
    result = {}
    for file in collect([corpus]):
        clip = torch.from_numpy(hear_byols.load_audio(file.path))[None]
        windows, times = model.timestamp_embeddings(clip)
        result[file.name] = (model.scene_embeddings(clip)[0].numpy(), windows[0].numpy(), times[0].numpy())
    return result


def assert_close(got, wanted):
    assert got.dtype == np.float32
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= TOLERANCE * np.abs(wanted).max()


# What comes back is what the model gives


def read_back(output: Path, format: str, timestamps: bool) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Read an output folder as a user would: {name: (vectors, times or None)}."""
    folder = output / "embeddings"
    if format in ("parquet", "csv"):
        return (_read_parquet if format == "parquet" else _read_csv)(folder, timestamps)
    result = {}
    for path in folder.rglob(f"*.{format}"):
        name = path.relative_to(folder).as_posix().removesuffix(f".{format}")
        if format == "npz":
            arrays = np.load(path)
            assert str(arrays["source"]) == name
            result[name] = (
                (arrays["embeddings"], arrays["timestamps_ms"]) if timestamps else (arrays["embedding"], None)
            )
        elif not name.endswith(".timestamps_ms"):
            times = folder / f"{name}.timestamps_ms.npy"
            result[name] = (np.load(path), np.load(times) if timestamps else None)
    return result


def _read_parquet(folder: Path, timestamps: bool):
    table = pytest.importorskip("pyarrow.parquet").read_table(folder)  # the folder as one table
    names = np.array(table["source"].to_pylist())
    vectors = np.stack(table["embedding"].to_numpy())
    assert table.column_names == (["source", "timestamp_ms", "embedding"] if timestamps else ["source", "embedding"])
    if not timestamps:
        assert len(set(names)) == len(names)
        return {name: (vector, None) for name, vector in zip(names, vectors, strict=True)}
    times = table["timestamp_ms"].to_numpy()
    return {name: (vectors[names == name], times[names == name]) for name in set(names)}


def _read_csv(folder: Path, timestamps: bool):
    rows: dict[str, list[dict]] = {}
    for path in folder.glob("part-*.csv"):
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row.pop("source"), []).append(row)
    result = {}
    for name, lines in rows.items():
        vectors = np.array([[np.float32(line[f"e{i}"]) for i in range(2048)] for line in lines], np.float32)
        times = np.array([line["timestamp_ms"] for line in lines], np.float32) if timestamps else None
        result[name] = (vectors, times) if timestamps else (vectors[0], None)
    return result


@pytest.mark.parametrize("timestamps", [False, True], ids=["scene", "timestamps"])
@pytest.mark.parametrize("format", ["npz", "npy", PARQUET, "csv"])
def test_every_format_gives_the_models_own_vectors_back(tmp_path, corpus, expected, format, timestamps):
    report = embed_to_folder([corpus], tmp_path, model=MODEL, format=format, timestamps=timestamps)
    assert (report.n_embedded, report.n_present, report.failures) == (len(expected), 0, ())
    found = read_back(tmp_path, format, timestamps)
    assert found.keys() == expected.keys()
    for name, (vectors, times) in found.items():
        scene, windows, centres = expected[name]
        assert_close(vectors, windows if timestamps else scene)
        if timestamps:
            np.testing.assert_array_equal(times, centres)


def test_csv_numbers_are_the_exact_float32(tmp_path, corpus):
    for format in ("csv", "npy"):
        embed_to_folder([corpus], tmp_path / format, model=MODEL, format=format)
    as_text = read_back(tmp_path / "csv", "csv", False)
    for name, (vector, _) in read_back(tmp_path / "npy", "npy", False).items():
        np.testing.assert_array_equal(as_text[name][0], vector)


@pytest.mark.parametrize(("batch_size", "clips"), [(1, 1), (2, 64), (None, 3)])
def test_batches_and_groups_do_not_change_vectors(tmp_path, corpus, expected, monkeypatch, batch_size, clips):
    monkeypatch.setattr(groups, "GROUPS", GroupLimits(clips, 600))
    embed_to_folder([corpus], tmp_path, model=MODEL, batch_size=batch_size)
    for name, (vector, _) in read_back(tmp_path, "npz", False).items():
        assert_close(vector, expected[name][0])


def test_clips_of_equal_length_share_a_call(corpus, model, monkeypatch):
    shapes = []
    embed = model.scene_embeddings
    monkeypatch.setattr(model, "scene_embeddings", lambda audio: shapes.append(tuple(audio.shape)) or embed(audio))
    embed_files([file.path for file in collect([corpus])], model)
    assert sorted(shapes) == [(1, 6400), (2, 19200), (5, 4800)]


def test_clips_stay_apart_under_the_originals_normalization(tmp_path, corpus):
    alone = hear_byols.load_model(MODEL, normalization="original")
    embed_to_folder([corpus], tmp_path, model=MODEL, normalization="original")
    for file in collect([corpus]):
        clip = torch.from_numpy(hear_byols.load_audio(file.path))[None]
        got = np.load(tmp_path / "embeddings" / f"{file.name}.npz")["embedding"]
        assert_close(got, alone.scene_embeddings(clip)[0].numpy())


# Files to arrays


def test_embed_files_takes_a_path_or_a_list(corpus, model, expected):
    names = list(expected)[:4]  # a longer one between two of equal length
    paths = [corpus / name for name in names]
    assert_close(embed_files(str(paths[0]), model), expected[names[0]][0])
    assert_close(embed_files(paths, MODEL), np.stack([expected[name][0] for name in names]))
    vectors, times = embed_files(paths[0], model, timestamps=True)
    assert_close(vectors, expected[names[0]][1])
    np.testing.assert_array_equal(times, expected[names[0]][2])
    many, all_times = embed_files(paths, model, timestamps=True)
    for name, vectors, times in zip(names, many, all_times, strict=True):
        assert_close(vectors, expected[name][1])
        np.testing.assert_array_equal(times, expected[name][2])


def test_embed_files_names_what_it_cannot_embed(corpus, model, tmp_path):
    good = collect([corpus])[0].path
    with pytest.raises(InputError, match=r"nowhere\.wav: no such file"):
        embed_files([good, tmp_path / "nowhere.wav"], model)
    with pytest.raises(InputError, match="is a folder"):
        embed_files(tmp_path, model)
    with pytest.raises(InputError, match="no files"):
        embed_files([], model)


# Which files


def test_folders_are_searched_in_order_without_hidden_files(tmp_path):
    for name in ("b/x.WAV", "b/c/y.flac", "a.mp3", "b/notes.txt", ".hidden.wav", ".git/z.wav", "b/._x.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in collect([tmp_path])] == ["a.mp3", "b/c/y.flac", "b/x.WAV"]
    files = collect([tmp_path / "b" / "notes.txt", tmp_path / "b", tmp_path / "b"])  # given by name: any extension
    assert [file.name for file in files] == ["notes.txt", "c/y.flac", "x.WAV"]
    assert [file.name for file in collect([tmp_path / "b"], relative_to=tmp_path)] == ["b/c/y.flac", "b/x.WAV"]


def test_two_files_of_one_name_are_refused_unless_named_from_a_common_folder(tmp_path):
    for name in ("a/x.wav", "b/x.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for paths in ([tmp_path / "a", tmp_path / "b"], [tmp_path / "a/x.wav", tmp_path / "b/x.wav"]):
        with pytest.raises(OptionError, match=r"a/x\.wav and .*b/x\.wav would both be called 'x\.wav'"):
            collect(paths)
        assert [file.name for file in collect(paths, tmp_path)] == ["a/x.wav", "b/x.wav"]
    with pytest.raises(OptionError, match="does not lie in"):
        collect([tmp_path / "a"], relative_to=tmp_path / "b")


def test_files_that_differ_in_extension_keep_apart(tmp_path, model):
    for extension in ("wav", "flac"):
        soundfile.write(tmp_path / f"x.{extension}", noise(0.2, seed=len(extension)), 16000)
    embed_to_folder([tmp_path], tmp_path / "out", model=MODEL)
    assert sorted(contents(tmp_path / "out")) == ["embeddings/x.flac.npz", "embeddings/x.wav.npz"]


def test_a_list_comes_from_standard_input(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("one.wav", "two\u00e9 .wav", "folder/three.wav"):
        (tmp_path / name).touch()
    paths = [os.fsencode(tmp_path / name) for name in ("one.wav", "two\u00e9 .wav", "folder")]
    for separator in (b"\n", b"\r\n", b"\0"):
        found = collect(["-"], stdin=io.BytesIO(separator.join(paths) + separator))
        assert [file.name for file in found] == ["one.wav", "two\u00e9 .wav", "three.wav"]


def test_no_files_is_an_error(tmp_path):
    with pytest.raises(OptionError, match=r"no audio files; folders are searched for .*\.flac"):
        collect([tmp_path])


# Reading ahead


def write_levels(folder: Path, lengths: list[int]) -> list[AudioFile]:
    """Files that hold their own number over a thousand, of so many samples at 16 kHz."""
    files = [AudioFile(str(i), folder / f"{i}.wav") for i in range(len(lengths))]
    for i, file in enumerate(files):
        soundfile.write(file.path, np.full(lengths[i], 0.001 * i), 16000, subtype="FLOAT")
    return files


def in_time(function, seconds: float = 20):
    """The function's result; a failure instead of a hang when readers wait for each other."""
    result = []
    thread = threading.Thread(target=lambda: result.append([function()]), daemon=True)
    thread.start()
    thread.join(seconds)
    assert result, f"nothing after {seconds} s"
    return result[0][0]


def test_reading_ahead_keeps_order_and_bounds_what_waits(tmp_path, monkeypatch):
    files = write_levels(tmp_path, [8000] * 30)
    held, most, lock = [0], [0], threading.Lock()
    read = Recording.read

    def watched(recording, rate):
        audio = read(recording, rate)
        with lock:
            held[0] += len(audio.samples)
            most[0] = max(most[0], held[0])
        return audio

    monkeypatch.setattr(Recording, "read", watched)
    for i, clip in enumerate(read_ahead(files, 16000, max_seconds=2)):
        with lock:
            held[0] -= len(clip.samples)
        assert clip.file == files[i]
        np.testing.assert_array_equal(clip.samples, np.full(8000, 0.001 * i, np.float32))
        time.sleep(0.01)  # the model; readers run ahead as far as they may
    assert i == 29
    assert 16000 < most[0] <= 40000  # two seconds wait, half a second is on its way to us


def test_files_longer_than_the_bound_are_read_all_the_same(tmp_path):
    files = write_levels(tmp_path, [800, 800, 80000, 800, 80000, 80000, 800])
    clips = in_time(lambda: list(read_ahead(files, 16000, max_seconds=0.1)))
    assert [len(clip.samples) for clip in clips] == [800, 800, 80000, 800, 80000, 80000, 800]


def test_reading_ahead_ends_its_threads_when_nobody_asks_any_more(tmp_path):
    files = [AudioFile(f"{i}", tmp_path / f"{i}.wav") for i in range(20)]
    for file in files:
        soundfile.write(file.path, np.zeros(16000), 16000)
    clips = read_ahead(files, 16000, max_seconds=1)
    next(clips)
    time.sleep(0.2)  # the readers now wait for room
    in_time(clips.close)
    assert not [thread for thread in threading.enumerate() if "hear_byols-reader" in thread.name]


# What cannot be embedded


def test_bad_files_are_reported_and_do_not_stop_the_rest(tmp_path):
    folder = tmp_path / "in"
    names = write_corpus(folder, 4)
    (folder / "text.wav").write_text("not audio")
    soundfile.write(folder / "empty.wav", np.zeros(0), 16000)
    soundfile.write(folder / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    soundfile.write(folder / "loud.wav", np.full(1600, 3000.0), 16000, subtype="FLOAT")
    os.mkfifo(folder / "pipe")
    report = embed_to_folder([folder, folder / "pipe", folder / "gone.wav"], tmp_path / "out", model=MODEL)
    reasons = {failure.name: failure.reason for failure in report.failures}
    assert set(reasons) == {"text.wav", "empty.wav", "nan.wav", "loud.wav", "pipe", "gone.wav"}
    for name, reason in [
        ("text.wav", "cannot be read as audio"),
        ("empty.wav", "holds no samples"),
        ("nan.wav", "NaN"),
        ("loud.wav", "peaks at 3000"),
        ("pipe", "is not a file"),
        ("gone.wav", "no such file"),
    ]:
        assert reason in reasons[name]
        assert str(folder / name) in reasons[name]
        assert "clip 0" not in reasons[name]  # the file is what the user knows
    assert sorted(recorded(tmp_path / "out")) == names
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["complete"], manifest["n_recorded"], manifest["n_failed"]) == (True, 4, 6)
    assert {failure["name"] for failure in manifest["failed"]} == set(reasons)


def test_the_model_refusing_one_clip_of_a_batch_fails_that_clip_only(tmp_path, model, monkeypatch):
    names = write_corpus(tmp_path, 5, lengths_s=(0.3,))
    bad = hear_byols.load_audio(tmp_path / names[2])[0]
    embed = model.scene_embeddings

    def picky(audio):
        if bool((audio[:, 0] == bad).any()):
            raise InputError("too dull")
        return embed(audio)

    monkeypatch.setattr(model, "scene_embeddings", picky)
    monkeypatch.setattr(extract, "load_model", lambda spec, **options: model)
    report = embed_to_folder([tmp_path], tmp_path / "out", model=MODEL)
    assert [failure.name for failure in report.failures] == [names[2]]
    assert report.failures[0].reason.endswith(f"{names[2]}: too dull")
    assert sorted(recorded(tmp_path / "out")) == sorted(set(names) - {names[2]})


# Starting again


@pytest.fixture
def embedded_names(monkeypatch):
    """Names of the clips that reached the model."""
    names = []
    embed = groups.embed_clips

    def logged(model, clips, *args):
        names.extend(clip.file.name for clip in clips)
        return embed(model, clips, *args)

    monkeypatch.setattr(groups, "embed_clips", logged)
    return names


@pytest.mark.parametrize("format", ["npz", "npy", PARQUET, "csv"])
def test_a_second_run_does_nothing_and_a_third_only_what_is_new(tmp_path, embedded_names, format):
    names = write_corpus(tmp_path / "in", 4)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format=format)
    before = contents(tmp_path / "out")
    embedded_names.clear()
    report = embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format=format)
    assert (report.n_embedded, report.n_present, embedded_names) == (0, 4, [])
    assert contents(tmp_path / "out") == before
    soundfile.write(tmp_path / "in" / "new.wav", noise(0.3, 99), 16000)
    report = embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format=format)
    assert (report.n_embedded, report.n_present, embedded_names) == (1, 4, ["new.wav"])
    assert set(read_back(tmp_path / "out", format, False)) == {*names, "new.wav"}
    assert before.items() < contents(tmp_path / "out").items()


@pytest.mark.parametrize(("format", "again"), [("npz", 1), pytest.param("parquet", 3, marks=needs_pyarrow), ("csv", 3)])
def test_a_changed_source_or_a_damaged_output_is_embedded_anew(tmp_path, embedded_names, monkeypatch, format, again):
    for limits in ("GROUPS", "TABLE_GROUPS"):
        monkeypatch.setattr(groups, limits, GroupLimits(3, 600))
    names = write_corpus(tmp_path / "in", 6)

    def run():
        embedded_names.clear()
        return embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format=format)

    run()
    first = contents(tmp_path / "out")
    soundfile.write(tmp_path / "in" / names[1], noise(0.35, 77), 16000)
    assert run().n_embedded == 1  # the other sources of a table's part keep their rows
    assert names[1] in embedded_names
    found = read_back(tmp_path / "out", format, False)
    assert sorted(found) == names
    assert_close(found[names[1]][0], embed_files(tmp_path / "in" / names[1], MODEL))
    untouched = {name: data for name, data in contents(tmp_path / "out").items() if first.get(name) == data}
    assert len(untouched) == len(first) - 1

    output = tmp_path / "out" / next(iter(untouched))
    output.write_bytes(output.read_bytes()[:-7])
    assert run().n_embedded == again
    assert sorted(read_back(tmp_path / "out", format, False)) == names
    assert run().n_embedded == 0


def test_a_source_that_has_gone_stays_embedded(tmp_path):
    names = write_corpus(tmp_path / "in", 2)
    paths = [tmp_path / "in" / name for name in names]
    embed_to_folder(paths, tmp_path / "out", model=MODEL)
    paths[0].unlink()
    report = embed_to_folder(paths, tmp_path / "out", model=MODEL)
    assert (report.n_embedded, report.n_present, report.failures) == (0, 2, ())


def test_another_file_under_a_recorded_name_is_refused(tmp_path):
    for i, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "x.wav", noise(0.3 + i / 10, seed=i), 16000)
    embed_to_folder([tmp_path / "one"], tmp_path / "out", model=MODEL)
    before = contents(tmp_path / "out")
    with pytest.raises(
        OutputError, match=r"'x\.wav' is recorded from .*one/x\.wav and is now to come from .*two/x\.wav"
    ):
        embed_to_folder([tmp_path / "two"], tmp_path / "out", model=MODEL)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "random_cvt"}, "parameters_sha256 was '"),
        ({"normalization": "original"}, "normalization was 'clip', now 'original'"),
        ({"precision": "bfloat16"}, "precision was 'float32', now 'bfloat16'"),
        ({"format": "csv"}, "format was 'npz', now 'csv'"),
        ({"timestamps": True}, "timestamps was False, now True"),
    ],
)
def test_other_settings_in_the_same_folder_are_named_and_overwrite_starts_anew(tmp_path, change, message):
    write_corpus(tmp_path / "in", 2)
    soundfile.write(tmp_path / "other.wav", noise(0.2, 5), 16000)
    embed_to_folder([tmp_path / "in", tmp_path / "other.wav"], tmp_path / "out", model=MODEL)
    before = contents(tmp_path / "out")
    options = {"model": MODEL, **change}
    with pytest.raises(OutputError, match=message):
        embed_to_folder([tmp_path / "in"], tmp_path / "out", **options)
    assert contents(tmp_path / "out") == before
    report = embed_to_folder([tmp_path / "in"], tmp_path / "out", overwrite=True, **options)
    assert report.n_embedded == 2
    assert sorted(read_back(tmp_path / "out", options.get("format", "npz"), "timestamps" in change)) == sorted(
        recorded(tmp_path / "out")
    )
    assert len(recorded(tmp_path / "out")) == 2  # nothing of the old settings is left


def test_window_settings_matter_for_timestamps_only(tmp_path):
    write_corpus(tmp_path / "in", 2)
    embed_to_folder([tmp_path / "in"], tmp_path / "scene", model=MODEL)
    embed_to_folder([tmp_path / "in"], tmp_path / "scene", model=MODEL, hop_ms=100)
    embed_to_folder([tmp_path / "in"], tmp_path / "windows", model=MODEL, timestamps=True)
    with pytest.raises(OutputError, match=r"hop_ms was 50, now 100"):
        embed_to_folder([tmp_path / "in"], tmp_path / "windows", model=MODEL, timestamps=True, hop_ms=100)


def test_the_manifest_says_what_was_done(tmp_path):
    model = hear_byols.load_model(MODEL)
    path = tmp_path / "weights.pth"
    hear_byols.save_checkpoint(path, model.config, model.encoder.state_dict(), {"name": "mine"})
    write_corpus(tmp_path / "in", 2)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=path, batch_size=4, device="cpu")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    about = manifest.pop("about")
    sha256 = about["model"][0].pop("sha256")
    assert sha256 == file_digest(path)
    assert about.pop("torch") == torch.__version__
    assert about == {
        "spec": str(path),
        "options": {},
        "model": [{"name": "weights.pth", "file": "weights.pth"}],
        "provenance": {"name": "mine"},
        "device": "cpu",
        "batch_size": 4,
    }
    assert manifest == {
        "schema": "hear_byols-embeddings/1",
        "hear_byols": hear_byols.__version__,
        "parameters_sha256": extract.parameters_digest(model),
        "normalization": "clip",
        "precision": "float32",
        "sample_rate": 16000,
        "embedding_size": 2048,
        "format": "npz",
        "timestamps": False,
        "frame_ms": None,
        "hop_ms": None,
        "n_recorded": 2,
        "complete": True,
        "n_failed": 0,
        "failed": [],
        "failed_by_extension": {},
        "warnings": [],
    }


def test_folders_of_others_are_refused(tmp_path):
    write_corpus(tmp_path / "in", 2)
    mine = tmp_path / "mine" / "embeddings" / "precious.npz"
    mine.parent.mkdir(parents=True)
    mine.write_text("not ours")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"no manifest\.json"):
            embed_to_folder([tmp_path / "in"], tmp_path / "mine", model=MODEL, overwrite=overwrite)
    assert mine.read_text() == "not ours"


def test_wrong_options_are_refused_before_anything_is_written(tmp_path):
    write_corpus(tmp_path / "in", 1)
    for options in ({"format": "wav"}, {"device": "toaster"}, {"device": "cuda:99"}, {"batch_size": 0}, {"hop_ms": -1}):
        with pytest.raises(OptionError):
            embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, **options)
    assert not (tmp_path / "out").exists()


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hear_byols\[parquet\]'"):
        embed_to_folder([tmp_path], tmp_path / "out", model=MODEL, format="parquet")


# Killed, refused by the disk, started twice


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Thirty files, and for each format what an uninterrupted run makes of them."""
    folder = tmp_path_factory.mktemp("many")
    names = write_corpus(folder / "in", 30)
    whole = {}
    for format in ("npz", "parquet") if HAS_PYARROW else ("npz",):
        process = start(folder / "log", [folder / "in"], folder / format, format=format)
        process.join()
        assert process.exitcode == 0
        assert sorted(recorded(folder / format)) == names
        whole[format] = contents(folder / format)
    return folder / "in", names, whole


def finish_and_check(tmp_path, many, format):
    """Run to the end; nothing that was recorded may be embedded again, and all must be as if never interrupted."""
    corpus, names, whole = many
    before, log = recorded(tmp_path / "out"), tmp_path / "last"
    process = start(log, [corpus], tmp_path / "out", format=format)
    process.join()
    assert process.exitcode == 0
    again = log.read_text().splitlines() if log.exists() else []
    assert sorted(before + again) == names
    assert sorted(recorded(tmp_path / "out")) == names
    assert contents(tmp_path / "out") == whole[format]  # bit by bit


@pytest.mark.parametrize("format", ["npz", PARQUET])
def test_killed_at_random_and_started_again(tmp_path, many, format):
    corpus, names, _ = many
    chance = random.Random(format)
    progress = []
    for i in range(4):
        before, log = recorded(tmp_path / "out"), tmp_path / f"log{i}"
        process = start(log, [corpus], tmp_path / "out", format=format)
        while process.is_alive() and len(recorded(tmp_path / "out")) == len(before):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        process.join()
        progress.append(len(recorded(tmp_path / "out")))
        assert contents(tmp_path / "out", hidden=False).items() <= many[2][format].items()  # all that is seen is whole
        if log.exists():
            assert not set(log.read_text().splitlines()) & set(before)
    assert 0 < progress[0] < len(names)  # it was killed in the middle, or this test shows nothing
    finish_and_check(tmp_path, many, format)


@pytest.mark.parametrize("moment", ["within a file", "before the record", "within the record"])
@pytest.mark.parametrize("format", ["npz", PARQUET])
def test_killed_at_the_worst_moments_and_started_again(tmp_path, many, format, moment):
    process = start(tmp_path / "log", [many[0]], tmp_path / "out", format=format, die=moment)
    process.join()
    assert process.exitcode == -9
    assert len(recorded(tmp_path / "out")) == 6  # two groups of three
    assert contents(tmp_path / "out", hidden=False).items() <= many[2][format].items()  # all that is seen is whole
    finish_and_check(tmp_path, many, format)


@pytest.mark.parametrize("format", ["npz", "npy", PARQUET, "csv"])
def test_no_room_for_a_file_gives_one_clear_error_and_leaves_nothing_half_done(tmp_path, many, format):
    process = start(tmp_path / "log", [many[0]], tmp_path / "out", format=format, room=4096)
    process.join()
    error = (tmp_path / "log.error").read_text()
    assert error.startswith("OutputError: ")
    assert "cannot be written" in error
    assert "File too large" in error or format == "npy"
    assert contents(tmp_path / "out") == {}


def test_an_output_folder_that_cannot_be_made_gives_one_clear_error(tmp_path):
    write_corpus(tmp_path / "in", 1)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/out cannot be written \(Not a directory\)"):
        embed_to_folder([tmp_path / "in"], tmp_path / "file" / "out", model=MODEL)


def test_the_clips_of_a_group_are_embedded_at_once_and_share_torchs_threads(corpus, expected, monkeypatch):
    model, workers = hear_byols.load_model(MODEL), set()
    embed = model.scene_embeddings

    def watched(audio):
        workers.add((threading.current_thread().name, torch.get_num_threads()))
        return embed(audio)

    monkeypatch.setattr(model, "scene_embeddings", watched)
    files = collect([corpus])
    torch.set_num_threads(4)  # of a test with one_thread, which sets it back
    vectors = embed_files([file.path for file in files], model)
    assert torch.get_num_threads() == 4
    assert len(workers) > 1
    assert {n_threads for _, n_threads in workers} == {1}
    wanted = np.stack([expected[file.name][0] for file in files])
    np.testing.assert_allclose(vectors, wanted, atol=TOLERANCE * np.abs(wanted).max())


def test_two_runs_in_one_folder_are_kept_apart(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    write_corpus(tmp_path / "in", 1)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    with open(tmp_path / "out" / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="is being written by another run"):
            embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
