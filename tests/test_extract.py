"""Files to embeddings: the same vectors on every way, and nothing lost, repeated or half-written after a kill."""

import csv
import io
import json
import os
import random
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from extraction import MODEL, contents, is_complete, noise, recorded, rows_of, start, write_corpus

import hear_byols
from hear_byols import embed_files, embed_to_folder, read_embeddings
from hear_byols._util.files import file_digest
from hear_byols.containers.recording import Recording
from hear_byols.errors import InputError, OptionError, OutputError
from hear_byols.extraction import extract, groups, reader
from hear_byols.extraction.files import AudioFile, collect
from hear_byols.extraction.groups import GroupLimits
from hear_byols.extraction.reader import read_ahead
from hear_byols.model import EmbeddingModel

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


@pytest.fixture
def in_threes(monkeypatch):
    """Groups of three clips."""
    monkeypatch.setattr(extract, "group_limits", lambda *_: GroupLimits(3, 600))


def assert_close(got, wanted):
    assert got.dtype == np.float32
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= TOLERANCE * np.abs(wanted).max()


# What comes back is what the model gives


def read_back(folder: Path, format: str, names: list[str], timestamps: bool) -> dict[str, tuple[Any, Any]]:
    """Vectors and times by source, as the manual describes the files."""
    if format == "npz":
        arrays = {name: np.load(folder / f"{name}.npz") for name in names}
        assert all(array["source"] == name for name, array in arrays.items())
        keys = ("embeddings", "timestamps_ms") if timestamps else ("embedding",)
        found = {name: [array[key] for key in keys] for name, array in arrays.items()}
    elif format == "npy":
        ends = ("npy", "timestamps_ms.npy") if timestamps else ("npy",)
        found = {name: [np.load(folder / f"{name}.{end}") for end in ends] for name in names}
    else:
        columns, rows = ["source", "timestamp_ms"] if timestamps else ["source"], []
        if format == "parquet":
            table = pytest.importorskip("pyarrow.parquet").read_table(folder)  # the folder as one table
            assert table.column_names == [*columns, "embedding"]
            rows = [[*list(row.values())[:-1], *row["embedding"]] for row in table.to_pylist()]
        for path in folder.glob("part-*.csv"):
            with open(path, newline="", encoding="utf-8") as file:
                header, *lines = csv.reader(file)
            assert header == [*columns, *(f"e{i}" for i in range(2048))]
            rows += lines
        values = {name: np.array([row[1:] for row in rows if row[0] == name], np.float32) for name, *_ in rows}
        found = {name: [each[:, 1:], each[:, 0]] if timestamps else [*each] for name, each in values.items()}
    return {name: (each[0], each[1] if timestamps else None) for name, each in found.items()}


@pytest.mark.parametrize("timestamps", [False, True], ids=["scene", "timestamps"])
def test_every_format_gives_the_models_own_vectors_back(tmp_path, corpus, expected, timestamps):
    """To who reads the files, and by ``read_embeddings``; text is exact."""
    exact = None
    for format in ("npz", "npy", "csv", *["parquet"] * HAS_PYARROW):
        folder = tmp_path / format
        report = embed_to_folder([corpus], folder, model=MODEL, format=format, timestamps=timestamps)
        assert (report.n_embedded, report.n_present, report.failures) == (len(expected), 0, ())
        found = read_back(folder / "embeddings", format, list(expected), timestamps)
        exact = exact or found
        assert found.keys() == expected.keys()
        for name, (scene, windows, centres) in expected.items():
            vectors, times = found[name]
            assert_close(vectors, windows if timestamps else scene)
            np.testing.assert_array_equal(vectors, exact[name][0])
            np.testing.assert_array_equal(times, centres if timestamps else None)
        content = read_embeddings(folder)
        np.testing.assert_array_equal(content.vectors, np.vstack([vectors for vectors, _ in exact.values()]))
        times = np.concatenate([times for _, times in exact.values()]) if timestamps else None
        np.testing.assert_array_equal(content.times_ms, times)
        names = [name for name, (vectors, _) in exact.items() for _ in np.atleast_2d(vectors)]
        assert list(content.names) == names
        assert (len(content), content.complete) == (len(names), True)
        assert all((corpus / name).samefile(content.paths[name]) for name in expected)


@pytest.mark.parametrize(
    ("batch_size", "clips", "normalization"),
    [(1, 1, "clip"), (2, 64, "clip"), (None, 3, "clip"), (None, 64, "original")],
)
def test_batches_and_groups_do_not_change_vectors(tmp_path, corpus, monkeypatch, batch_size, clips, normalization):
    """Also where the original's normalization mixes what is embedded together."""
    monkeypatch.setattr(extract, "group_limits", lambda *_: GroupLimits(clips, 600))
    embed_to_folder([corpus], tmp_path, model=MODEL, batch_size=batch_size, normalization=normalization)
    content, alone = read_embeddings(tmp_path), hear_byols.load_model(MODEL, normalization=normalization)
    audio = [torch.from_numpy(hear_byols.load_audio(corpus / name))[None] for name in content.names]
    assert_close(content.vectors, np.concatenate([alone.scene_embeddings(clip).numpy() for clip in audio]))


def test_groups_are_cut_by_number_and_length_and_name_what_fails(tmp_path, model):
    names = write_corpus(tmp_path, 5, lengths_s=(0.3,))
    (tmp_path / "b" / "bad.wav").write_text("no audio")
    for limits, lengths in ((GroupLimits(2, 600), [2, 2, 1]), (GroupLimits(9, 0.91), [3, 2])):
        made = list(groups.embedded_groups(model, collect([tmp_path]), False, limits))
        assert [item.source for group in made for item in group.items] == names
        assert [len(group.items) for group in made] == lengths
        assert [failure.name for group in made for failure in group.failures] == ["b/bad.wav"]


def test_clips_of_equal_length_share_calls_and_calls_share_torchs_threads(corpus, expected, monkeypatch):
    model, calls = hear_byols.load_model(MODEL), []
    embed = model.scene_embeddings

    def watched(audio):
        calls.append((tuple(audio.shape), threading.current_thread().name, torch.get_num_threads()))
        return embed(audio)

    monkeypatch.setattr(model, "scene_embeddings", watched)
    wanted = np.stack([scene for scene, _, _ in expected.values()])
    paths = [corpus / name for name in expected]
    assert_close(embed_files(paths, model), wanted)
    assert sorted(shape for shape, _, _ in calls) == [(1, 6400), (2, 19200), (5, 4800)]
    calls.clear()
    torch.set_num_threads(4)  # of a test with one_thread, which sets it back
    assert_close(embed_files(paths, model), wanted)
    assert torch.get_num_threads() == in_time(torch.get_num_threads) == 4  # here, and in threads to come
    assert len({thread for _, thread, _ in calls}) > 1
    assert {n_threads for _, _, n_threads in calls} == {1}


# Files to arrays


def test_embed_files_takes_a_path_or_a_list(corpus, model, expected):
    names = list(expected)[:4]  # a longer one between two of equal length
    paths = [corpus / name for name in names]
    assert_close(embed_files(str(paths[0]), model), expected[names[0]][0])
    assert_close(embed_files(paths, MODEL), np.stack([expected[name][0] for name in names]))
    single, (many, all_times) = (embed_files(each, model, timestamps=True) for each in (paths[0], paths))
    for name, vectors, times in [(names[0], *single), *zip(names, many, all_times, strict=True)]:
        assert_close(vectors, expected[name][1])
        np.testing.assert_array_equal(times, expected[name][2])


def test_embed_files_names_what_it_cannot_embed_or_leaves_its_place_empty(tmp_path, model, caplog):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "good.wav", noise(0.3, seed=1), 16000)
    paths = [tmp_path / name for name in ("bad.wav", "good.wav", "gone.wav")]
    for wrong, message in (
        (paths[:2], r"bad\.wav"),
        (paths[1:], r"gone\.wav: no such file"),
        (tmp_path, "is a folder"),
        ([], "no files"),
        ("", "a path is empty"),
    ):
        with pytest.raises(InputError, match=message):
            embed_files(wrong, model)
    vectors = embed_files(paths, model, on_error="skip")
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False, True]
    np.testing.assert_array_equal(vectors[1], embed_files(paths[1], model))
    windows, times = embed_files(paths, model, timestamps=True, on_error="skip")
    assert [len(part) for part in windows] == [len(part) for part in times] == [0, 7, 0]
    assert all(name in caplog.text for name in ("bad.wav", "gone.wav"))
    with pytest.raises(OptionError, match="'raise' or 'skip'"):
        embed_files(paths, model, on_error="ignore")


# Which files


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def names_of(*args: Any) -> list[str]:
    return [file.name for file in collect(*args)]


def test_folders_are_searched_in_order_without_hidden_files(tmp_path):
    with pytest.raises(OptionError, match=r"no audio files; folders are searched for .*\.flac"):
        collect([tmp_path])
    touch(tmp_path, "b/x.WAV", "b/c/y.flac", "a.mp3", "b/notes.txt", ".hidden.wav", ".git/z.wav", "b/._x.wav")
    assert names_of([tmp_path]) == ["a.mp3", "b/c/y.flac", "b/x.WAV"]
    paths = [tmp_path / "b" / "notes.txt", tmp_path / "b", tmp_path / "b"]  # given by name: any extension
    assert names_of(paths) == ["notes.txt", "c/y.flac", "x.WAV"]
    assert names_of([tmp_path / "b"], tmp_path) == ["b/c/y.flac", "b/x.WAV"]


def test_two_files_of_one_name_are_refused_unless_named_from_a_common_folder(tmp_path):
    files = touch(tmp_path, "a/x.wav", "b/x.wav")
    for paths in ([tmp_path / "a", tmp_path / "b"], files):
        with pytest.raises(OptionError, match=r"a/x\.wav and .*b/x\.wav would both be called 'x\.wav'"):
            collect(paths)
        assert names_of(paths, tmp_path) == ["a/x.wav", "b/x.wav"]


def test_a_list_comes_from_standard_input(tmp_path, monkeypatch):
    """Ended by lines or NUL, with its byte-order mark; UTF-16 without one is refused."""
    names = ["one.wav", "two\u00e9 \u00fc.wav", "three.wav"]
    paths = [str(path) for path in touch(tmp_path, *names[:2], "folder/three.wav")]
    for end, mark, encoding in (
        *((end, "", "utf-8") for end in ("\n", "\r\n", "\0")),
        *(("\n", "\ufeff", encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")),
        ("\r\n", "\ufeff", "utf-16-be"),
    ):
        data = (mark + end.join([*paths[:2], str(tmp_path / "folder"), ""])).encode(encoding)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert names_of(["-"]) == names
    for encoding in ("utf-16-le", "utf-16-be"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("/data/a.wav\n".encode(encoding))))
        with pytest.raises(OptionError, match="UTF-16"):
            collect(["-"])


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


def test_reading_ahead_takes_files_longer_than_the_bound_and_ends_its_threads(tmp_path, monkeypatch):
    lengths = [800, 800, 80000, 800, 80000, 80000, 800]
    files = write_levels(tmp_path, lengths)
    for most in (256, 3):
        monkeypatch.setattr(reader, "MAX_CLIPS", most)
        clips = in_time(lambda: list(read_ahead(files, 16000, max_seconds=0.1)))
        assert [len(clip.samples) for clip in clips] == lengths
    clips = read_ahead(files, 16000, max_seconds=0.1)
    next(clips)
    time.sleep(0.2)  # the readers wait for room, and nobody asks any more
    in_time(clips.close)
    assert not [thread for thread in threading.enumerate() if "hear_byols-reader" in thread.name]


# What cannot be embedded


def test_bad_files_and_folders_are_reported_and_do_not_stop_the_rest(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    names = write_corpus(folder, 4)
    (folder / "text.wav").write_text("not audio")
    (folder / "link.wav").symlink_to(folder / "nowhere.wav")
    soundfile.write(folder / "empty.wav", np.zeros(0), 16000)
    soundfile.write(folder / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    soundfile.write(folder / "loud.wav", np.full(1600, 3000.0), 16000, subtype="FLOAT")
    os.mkfifo(folder / "pipe")
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refusing(path):  # as for a user without permission; the tests may run as root
        if path == str(folder / "locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = embed_to_folder([folder, folder / "pipe", folder / "gone.wav"], tmp_path / "out", model=MODEL)
    reasons = {failure.name: failure.reason for failure in report.failures}
    wanted = {"text.wav": "cannot be read as audio", "empty.wav": "holds no samples", "nan.wav": "NaN"}
    wanted |= {"loud.wav": "peaks at 3000", "pipe": "is not a file"}
    wanted |= {"locked": "the folder cannot be searched (Permission denied)"}
    wanted |= dict.fromkeys(("gone.wav", "link.wav"), "no such file")
    assert set(reasons) == set(wanted)
    for name, reason in wanted.items():
        assert reason in reasons[name]
        assert str(folder / name) in reasons[name]
        assert "clip 0" not in reasons[name]  # the file is what the user knows
    assert sorted(recorded(tmp_path / "out")) == names
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["complete"], manifest["n_recorded"], manifest["n_failed"]) == (True, 4, 8)
    assert {failure["name"] for failure in manifest["failed"]} == set(reasons)


def test_the_model_refusing_one_clip_of_a_batch_fails_that_clip_only(tmp_path, monkeypatch):
    names = write_corpus(tmp_path, 5, lengths_s=(0.3,))
    bad, embed = hear_byols.load_audio(tmp_path / names[2])[0], EmbeddingModel.scene_embeddings

    def picky(model, audio):
        if bool((audio[:, 0] == bad).any()):
            raise InputError("too dull")
        return embed(model, audio)

    monkeypatch.setattr(EmbeddingModel, "scene_embeddings", picky)
    report = embed_to_folder([tmp_path], tmp_path / "out", model=MODEL)
    assert [failure.name for failure in report.failures] == [names[2]]
    assert report.failures[0].reason.endswith(f"{names[2]}: too dull")
    assert sorted(recorded(tmp_path / "out")) == sorted(set(names) - {names[2]})
    monkeypatch.setattr(EmbeddingModel, "scene_embeddings", lambda *_: {}["a fault of the program, not of a file"])
    with pytest.raises(KeyError):
        embed_files(tmp_path / names[0], MODEL)


# Starting again


@pytest.mark.parametrize(
    ("format", "again"), [("npz", 1), ("npy", 1), pytest.param("parquet", 3, marks=needs_pyarrow), ("csv", 3)]
)
def test_only_what_is_new_changed_or_damaged_is_embedded_again(tmp_path, model, monkeypatch, in_threes, format, again):
    """Of a damaged part all sources; the others keep their rows."""
    folder, output = tmp_path / "in", tmp_path / "out"
    embed, names = groups.embed_clips, write_corpus(folder, 6)

    def run() -> tuple[list[str], int]:
        """Names of the files that reached the model, and the number of those that were there."""
        embedded: list[str] = []

        def watched(model, clips, *args):
            assert not is_complete(output)
            embedded.extend(clip.file.name for clip in clips)
            return embed(model, clips, *args)

        with monkeypatch.context() as patch:
            patch.setattr(groups, "embed_clips", watched)
            report = embed_to_folder([folder], output, model=MODEL, format=format)
        assert is_complete(output)
        assert report.n_embedded == len(embedded)
        found = rows_of(output)
        assert sorted(found) == sorted(recorded(output)) == names
        wanted = embed_files([folder / name for name in names], model)
        assert_close(np.array([found[name][0] for name in names], np.float32), wanted)
        return embedded, report.n_present

    assert run() == (names, 0)
    before = contents(output)
    assert run() == ([], 6)
    assert contents(output) == before
    soundfile.write(folder / "new.wav", noise(0.3, 99), 16000)
    names.append("new.wav")
    assert run() == (["new.wav"], 6)
    assert before.items() < contents(output).items()
    before = contents(output)
    soundfile.write(folder / names[1], noise(0.35, 77), 16000)
    assert run() == ([names[1]], 6)
    assert sum(data == before.get(name) for name, data in contents(output).items()) == len(before) - 1
    for damage in (lambda data: data[:-7], lambda data: bytes(len(data))):  # the latter as after a power cut
        name, data = max(contents(output).items(), key=lambda item: len(item[1]))
        (output / name).write_bytes(damage(data))
        assert run()[1] == 7 - again
    assert run() == ([], 7)


def test_another_file_under_a_recorded_name_is_refused(tmp_path):
    for i, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        folder.mkdir()
        soundfile.write(folder / "x.wav", noise(0.3 + i / 10, seed=i), 16000)
    embed_to_folder([tmp_path / "one"], tmp_path / "out", model=MODEL)
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=r"'x\.wav' is recorded from .*one/x\.wav and is now to come from .*two/x"):
        embed_to_folder([tmp_path / "two"], tmp_path / "out", model=MODEL)
    assert contents(tmp_path / "out") == before


def test_other_settings_in_the_same_folder_are_named_and_overwrite_starts_anew(tmp_path):
    names = write_corpus(tmp_path / "in", 2)
    soundfile.write(tmp_path / "other.wav", noise(0.2, 5), 16000)
    scenes, windows = tmp_path / "scenes", tmp_path / "windows"
    for output in (scenes, windows):
        paths = [tmp_path / "in", tmp_path / "other.wav"]
        embed_to_folder(paths, output, model=MODEL, timestamps=output == windows)
    embed_to_folder([tmp_path / "in"], scenes, model=MODEL, hop_ms=100)  # matters to windows only
    before = contents(scenes), contents(windows)
    for output, change, message in (
        (scenes, {"model": "random_cvt"}, "parameters_sha256 was '"),
        (scenes, {"normalization": "original"}, "normalization was 'clip', now 'original'"),
        (scenes, {"precision": "bfloat16"}, "precision was 'float32', now 'bfloat16'"),
        (scenes, {"format": "csv"}, "format was 'npz', now 'csv'"),
        (scenes, {"timestamps": True}, "timestamps was False, now True"),
        (windows, {"timestamps": True, "hop_ms": 100}, "hop_ms was 50, now 100"),
    ):
        with pytest.raises(OutputError, match=message):
            embed_to_folder([tmp_path / "in"], output, **{"model": MODEL, **change})
    assert (contents(scenes), contents(windows)) == before
    for change in ({"model": "random_cvt", "precision": "bfloat16"}, {"format": "csv"}, {"timestamps": True}):
        report = embed_to_folder([tmp_path / "in"], scenes, overwrite=True, **{"model": MODEL, **change})
        assert report.n_embedded == 2
        assert sorted(rows_of(scenes)) == sorted(recorded(scenes)) == names  # nothing of the old settings is left
        assert len(contents(scenes)) == (1 if "format" in change else 2)


def test_the_manifest_says_what_was_done(tmp_path):
    model = hear_byols.load_model(MODEL)
    path = tmp_path / "weights.pth"
    hear_byols.save_checkpoint(path, model.config, model.encoder.state_dict(), {"name": "mine"})
    write_corpus(tmp_path / "in", 2)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=path, batch_size=4, device="cpu")
    weights = {"name": "weights.pth", "file": "weights.pth", "sha256": file_digest(path)}
    about = {"spec": str(path), "options": {}, "model": [weights], "provenance": {"name": "mine"}}
    about |= {"device": "cpu", "batch_size": 4, "torch": torch.__version__}
    wanted = {"schema": "hear_byols-embeddings/1", "hear_byols": hear_byols.__version__, "about": about}
    wanted |= {"parameters_sha256": extract.parameters_digest(model), "normalization": "clip", "precision": "float32"}
    wanted |= {"sample_rate": 16000, "embedding_size": 2048, "format": "npz"}
    wanted |= {"timestamps": False, "frame_ms": None, "hop_ms": None, "n_recorded": 2, "complete": True}
    wanted |= {"n_failed": 0, "failed": [], "failed_by_extension": {}, "warnings": []}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == wanted


def test_folders_of_others_are_refused(tmp_path):
    write_corpus(tmp_path / "in", 2)
    mine = tmp_path / "mine" / "embeddings" / "precious.npz"
    mine.parent.mkdir(parents=True)
    mine.write_text("not ours")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"no manifest\.json"):
            embed_to_folder([tmp_path / "in"], tmp_path / "mine", model=MODEL, overwrite=overwrite)
    assert mine.read_text() == "not ours"


# Killed, refused by the disk, started twice


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Thirty files, and for each format what an uninterrupted run makes of them."""
    folder = tmp_path_factory.mktemp("many")
    names, whole = write_corpus(folder / "in", 30), {}
    for format in ("npz", *["parquet"] * HAS_PYARROW):
        start([folder / "in"], folder / format, format=format).join()
        assert sorted(recorded(folder / format)) == names
        whole[format] = contents(folder / format)
    return folder / "in", names, whole


@pytest.mark.parametrize("moment", ["at random", "within a file", "before the record", "within the record"])
@pytest.mark.parametrize("format", ["npz", PARQUET])
def test_killed_and_started_again(tmp_path, many, in_threes, format, moment):
    """Nothing that was recorded is embedded again, and all is as if never interrupted."""
    (corpus, names, whole), output = many, tmp_path / "out"
    if moment == "at random":
        chance = random.Random(format)
        for _ in range(4):
            before = recorded(output)
            process = start([corpus], output, format=format)
            while process.is_alive() and len(recorded(output)) == len(before):
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.15))
            process.kill()
            process.join()
            assert before or 0 < len(recorded(output)) < len(names)  # or this shows nothing
    else:
        process = start([corpus], output, format=format, die=moment)
        process.join()
        assert (process.exitcode, len(recorded(output))) == (-9, 6)
    before = recorded(output)
    assert contents(output, hidden=False).items() <= whole[format].items()  # all that is seen is whole
    report = embed_to_folder([corpus], output, model=MODEL, format=format)
    assert (report.n_embedded, report.n_present) == (30 - len(before), len(before))
    assert sorted(recorded(output)) == names
    assert contents(output) == whole[format]  # bit by bit


@pytest.mark.parametrize("format", ["npz", "npy", PARQUET, "csv"])
def test_no_room_for_a_file_gives_one_clear_error_and_leaves_nothing_half_done(tmp_path, format):
    resource = pytest.importorskip("resource")
    write_corpus(tmp_path / "in", 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written") as caught:
            embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format=format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in str(caught.value) or format == "npy"
    assert contents(tmp_path / "out") == {}


def test_two_runs_in_one_folder_are_kept_apart(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    write_corpus(tmp_path / "in", 1)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    with open(tmp_path / "out" / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="is being written by another run"):
            embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
