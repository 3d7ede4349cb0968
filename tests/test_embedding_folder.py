"""Reading an embed folder back: what was computed, under its names and times, and only for the model that made it."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import soundfile
from extraction import MODEL, noise, write_corpus

from hear_byols import embed_files, embed_to_folder, load_model, read_embeddings
from hear_byols._util import progress as progress_module
from hear_byols._util.files import file_digest
from hear_byols._util.progress import progress
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.folder import load_its_model

N = 5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, N)
    return folder


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("format", ["npz", "npy", "parquet", "csv"])
def test_a_folder_gives_back_vectors_names_and_times(tmp_path, corpus, format, timestamps):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    embed_to_folder([corpus], tmp_path, model=MODEL, format=format, timestamps=timestamps, hop_ms=100)
    content = read_embeddings(tmp_path)
    names = sorted(content.paths)
    assert len(names) == N
    model = load_model(MODEL, hop_ms=100)
    expected = embed_files([corpus / name for name in names], model, timestamps=timestamps)
    rows = expected if not timestamps else [row for part in expected[0] for row in part]
    np.testing.assert_allclose(content.vectors, np.stack(list(rows)), rtol=1e-4, atol=1e-4)
    if timestamps:
        np.testing.assert_array_equal(content.times_ms, np.concatenate(expected[1]))
        assert list(content.names) == [name for name, times in zip(names, expected[1], strict=True) for _ in times]
    else:
        assert content.times_ms is None
        assert list(content.names) == names
    assert content.complete
    assert len(content) == len(content.vectors)
    assert all((corpus / name).samefile(path) for name, path in content.paths.items())


def test_vectors_of_another_model_or_setting_are_refused(tmp_path, corpus):
    embed_to_folder([corpus], tmp_path, model=MODEL, normalization="original")
    assert len(read_embeddings(tmp_path, model=load_model(MODEL, normalization="original"))) == N
    with pytest.raises(OptionError, match="normalization is 'original', not 'clip'"):
        read_embeddings(tmp_path, model=load_model(MODEL, normalization="clip"))
    with pytest.raises(OptionError, match="parameters_sha256"):
        read_embeddings(tmp_path, model=load_model("random_clstm", normalization="original"))


def test_the_model_that_made_a_folder_is_found_with_its_settings(tmp_path, corpus):
    embed_to_folder([corpus], tmp_path, model=MODEL, normalization="clip", timestamps=True, frame_ms=500, hop_ms=70)
    model = load_its_model(read_embeddings(tmp_path).settings)
    assert model.config.normalization.mode == "clip"
    assert (model.framing.frame_ms, model.framing.hop_ms) == (500, 70)
    with pytest.raises(OptionError, match="another model"):
        load_its_model(read_embeddings(tmp_path).settings, "random_clstm")


def test_a_run_that_was_cut_off_gives_what_it_recorded(tmp_path, corpus):
    embed_to_folder([corpus], tmp_path, model=MODEL)
    index = (tmp_path / "index.jsonl").read_bytes()
    (tmp_path / "index.jsonl").write_bytes(index + b'[{"outputs": {"embeddings/x.np')
    assert len(read_embeddings(tmp_path)) == N


def test_what_is_no_folder_or_is_damaged_is_named(tmp_path, corpus):
    with pytest.raises(InputError, match="has no manifest"):
        read_embeddings(corpus)
    embed_to_folder([corpus], tmp_path, model=MODEL)
    victim = next((tmp_path / "embeddings").rglob("*.npz"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(InputError, match=victim.name):
        read_embeddings(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "schema": "other/9"}))
    with pytest.raises(InputError, match="embed again"):
        read_embeddings(tmp_path)


def test_an_array_that_would_run_code_is_not_unpickled(tmp_path, corpus):
    embed_to_folder([corpus], tmp_path, model=MODEL)
    victim = next((tmp_path / "embeddings").rglob("*.npz"))
    index, digest = (tmp_path / "index.jsonl").read_text(), file_digest(victim)
    np.savez(victim, embedding=np.array([print], dtype=object))
    (tmp_path / "index.jsonl").write_text(index.replace(digest, file_digest(victim)))
    with pytest.raises(InputError, match=r"cannot be read .*allow_pickle"):
        read_embeddings(tmp_path)


@pytest.mark.parametrize("format", ["npy", "csv"])
def test_vectors_that_changed_since_they_were_written_are_not_given_back(tmp_path, corpus, format):
    embed_to_folder([corpus], tmp_path, model=MODEL, format=format)
    victim = next((tmp_path / "embeddings").rglob(f"*.{format}"))
    content = bytearray(victim.read_bytes())
    content[-4] ^= 1
    victim.write_bytes(content)
    with pytest.raises(InputError, match="has changed since it was written"):
        read_embeddings(tmp_path)


def test_files_that_cannot_be_read_leave_their_place_empty_when_asked(tmp_path, caplog):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "good.wav", noise(0.3, seed=1), 16000)
    paths = [tmp_path / "bad.wav", tmp_path / "good.wav", tmp_path / "gone.wav"]
    model = load_model(MODEL)
    vectors = embed_files(paths, model, on_error="skip")
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False, True]
    np.testing.assert_array_equal(vectors[1], embed_files(paths[1], model))
    windows, times = embed_files(paths, model, timestamps=True, on_error="skip")
    assert [len(part) for part in windows] == [len(part) for part in times] == [0, 7, 0]
    assert "bad.wav" in caplog.text
    assert "gone.wav" in caplog.text
    with pytest.raises(InputError, match=r"bad\.wav"):
        embed_files(paths, model)
    with pytest.raises(OptionError, match="'raise' or 'skip'"):
        embed_files(paths, model, on_error="ignore")


def test_progress_is_told_in_lines_where_there_is_no_terminal(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(100, "file", done=20) as advance:
        for _ in range(8):
            now[0] += 10
            advance(10)
    assert sys.stderr.getvalue() == "50 of 100 files, about 50 s left\n80 of 100 files, about 20 s left\n"
    with progress(2, "clip", title="esc10") as advance:
        now[0] += 31
        advance(1)
    assert sys.stderr.getvalue().endswith("esc10: 1 of 2 clips, about 31 s left\n")


def test_progress_can_be_turned_off(monkeypatch):
    monkeypatch.setattr(progress_module, "_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(2, "file", shown=False) as advance:
        advance(1)
    assert not sys.stderr.getvalue()
