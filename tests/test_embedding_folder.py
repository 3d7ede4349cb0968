"""An embed folder is read back only whole and only for the model that made it; progress is told."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from extraction import MODEL, contents, write_corpus

from hear_byols import embed_to_folder, load_model, read_embeddings
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


def test_vectors_of_another_model_or_setting_are_refused_and_their_own_is_found(tmp_path, corpus):
    options = {"normalization": "original", "frame_ms": 500, "hop_ms": 70}
    embed_to_folder([corpus], tmp_path, model=MODEL, timestamps=True, **options)
    content = read_embeddings(tmp_path, model=load_model(MODEL, **options))
    model = load_its_model(content.settings)
    assert model.config.normalization.mode == "original"
    assert (model.framing.frame_ms, model.framing.hop_ms) == (500, 70)
    with pytest.raises(OptionError, match="another model"):
        load_its_model(content.settings, "random_clstm")
    with pytest.raises(OptionError, match="normalization is 'original', not 'clip'"):
        read_embeddings(tmp_path, model=load_model(MODEL, normalization="clip"))
    with pytest.raises(OptionError, match="parameters_sha256"):
        read_embeddings(tmp_path, model=load_model("random_clstm", **options))


def test_what_is_no_folder_or_is_damaged_is_named_and_half_a_line_does_not_count(tmp_path, corpus):
    with pytest.raises(InputError, match="has no manifest"):
        read_embeddings(corpus)
    embed_to_folder([corpus], tmp_path, model=MODEL)
    with open(tmp_path / "index.jsonl", "a") as file:
        file.write('[{"outputs": {"embeddings/x.np')  # where a kill cut it off
    assert len(read_embeddings(tmp_path)) == N
    victim = tmp_path / next(iter(contents(tmp_path)))
    index, digest = (tmp_path / "index.jsonl").read_text(), file_digest(victim)
    np.savez(victim, embedding=np.array([print], dtype=object))  # would run code if it were unpickled
    (tmp_path / "index.jsonl").write_text(index.replace(digest, file_digest(victim)))
    with pytest.raises(InputError, match=r"cannot be read .*allow_pickle"):
        read_embeddings(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "schema": "other/9"}))
    with pytest.raises(InputError, match="embed again"):
        read_embeddings(tmp_path)


@pytest.mark.parametrize("format", ["npz", "npy", "csv"])
def test_vectors_that_changed_since_they_were_written_are_not_given_back(tmp_path, corpus, format):
    embed_to_folder([corpus], tmp_path, model=MODEL, format=format)
    victim = tmp_path / next(iter(contents(tmp_path)))
    whole = victim.read_bytes()
    for damaged in (whole[:100], whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]):
        victim.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{victim.name}.*has changed since it was written"):
            read_embeddings(tmp_path)


def test_progress_is_told_in_lines_where_there_is_no_terminal_and_can_be_turned_off(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(100, "file", done=20) as advance:
        for _ in range(8):
            now[0] += 10
            advance(10)
    assert sys.stderr.getvalue() == "50 of 100 files, about 50 s left\n80 of 100 files, about 20 s left\n"
    for shown in (True, False):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        with progress(2, "clip", title="esc10", shown=shown) as advance:
            now[0] += 31
            advance(1)
        assert sys.stderr.getvalue() == ("esc10: 1 of 2 clips, about 31 s left\n" if shown else "")
