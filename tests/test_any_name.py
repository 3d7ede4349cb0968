"""One file, folder or name never stops the run, and never hides the rest."""

import csv
import json
import os
import pydoc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from extraction import MODEL, noise, recorded, rows_of, write_corpus

from hear_byols.cli.main import main
from hear_byols.errors import AudioWarning, OptionError
from hear_byols.extraction.arrays import embed_files
from hear_byols.extraction.extract import embed_to_folder
from hear_byols.extraction.files import collect

pytestmark = pytest.mark.usefixtures("one_thread")
ODD = os.fsdecode(b"caf\xe9.wav")  # Latin-1, not UTF-8


def write(path: Path, seed: int = 0) -> Path:
    """A wav file under any name, which soundfile itself might refuse."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        soundfile.write(file, noise(0.3, seed), 16000, format="WAV")
    return path


@pytest.mark.parametrize("format", ["npz", "npy", "csv", "parquet"])
def test_formulas_and_names_that_are_no_utf8_are_embedded_like_any_other(tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    folder, out = tmp_path / "in", tmp_path / "out"
    names = ["=1+1.wav", "@x.wav", "a.wav", ODD]
    for i, name in enumerate(names):
        write(folder / name, i)
    report = embed_to_folder([folder], out, model=MODEL, format=format)
    assert (report.n_embedded, report.failures) == (4, ())
    assert recorded(out) == names
    before = rows_of(out)
    assert list(before) == names
    again = embed_to_folder([folder], out, model=MODEL, format=format)
    assert (again.n_embedded, again.n_present) == (0, 4)
    write(folder / "a.wav", 9)  # the others' rows are kept
    assert embed_to_folder([folder], out, model=MODEL, format=format).n_embedded == 1
    after = rows_of(out)
    assert [name for name in names if after[name] != before[name]] == ["a.wav"]
    if format == "npz":
        assert str(np.load(out / "embeddings" / f"{ODD}.npz")["source"]) == ODD
    cells = set()
    for table in (out / "embeddings").glob("*.csv"):
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            cells |= {row[0] for row in csv.reader(file)}
    assert cells == ({"source", "'=1+1.wav", "'@x.wav", "a.wav", ODD} if format == "csv" else set())


def test_names_that_cannot_be_those_of_outputs_fail_alone(tmp_path):
    """Too long, or that of a folder."""
    long, longest = "a" * 225 + ".wav", "b" * 251 + ".wav"
    paths = [write(tmp_path / "in" / name) for name in (long, longest, "x", "x.npz/y.wav", "z.wav")]
    report = embed_to_folder(paths, tmp_path / "out", model=MODEL, relative_to=tmp_path / "in")
    failed = {failure.name: failure.reason for failure in report.failures}
    assert "cannot be the name of its output (File name too long)" in failed.pop(longest)
    assert len(failed) == 1
    assert failed.keys() < {"x", "x.npz/y.wav"}
    assert {long, "z.wav"} < set(recorded(tmp_path / "out"))
    options = {"model": MODEL, "format": "csv", "relative_to": tmp_path / "in"}
    assert embed_to_folder(paths, tmp_path / "table", **options).n_embedded == 5


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("numpy.concatenate", MemoryError()),
        ("hear_byols.extraction.reader.check_values", MemoryError()),
        ("hear_byols.model.EmbeddingModel.scene_embeddings", MemoryError()),
        ("hear_byols.model.EmbeddingModel.scene_embeddings", RuntimeError("DefaultCPUAllocator: can't allocate")),
    ],
)
def test_a_recording_too_long_for_memory_fails_alone(tmp_path, monkeypatch, place, error):
    """Whoever says so, decoding or embedding."""
    names = write_corpus(tmp_path / "in", 3)
    soundfile.write(tmp_path / "in" / "long.wav", noise(20, 1), 16000)
    owner, name = place.rsplit(".", 1)
    function = getattr(pydoc.locate(owner), name)
    is_model = name == "scene_embeddings"

    def scarce(*args, **kwargs):
        if sum(map(len, args[is_model])) > 100_000:
            raise error
        return function(*args, **kwargs)

    monkeypatch.setattr(place, scarce)
    report = embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    assert recorded(tmp_path / "out") == names
    (failure,) = report.failures
    assert failure.name == "long.wav"
    assert ("not enough memory to embed 20.0 s" if is_model else "emory") in failure.reason


def test_empty_paths_are_refused(tmp_path, monkeypatch):
    write(tmp_path / "secret" / "a.wav")
    monkeypatch.chdir(tmp_path)
    for paths in ([""], ["secret", ""]):
        assert main(["embed", *paths, "-o", "out", "--model", MODEL]) == 2
    assert main(["embed", "secret", "-o", "", "--model", MODEL]) == 2
    with pytest.raises(OptionError, match="is empty"):
        collect(["secret"], relative_to="")
    assert sorted(os.listdir()) == ["secret"]


def test_audio_of_other_libraries_is_found_and_counted(tmp_path, monkeypatch, capsys):
    """And a name that is no UTF-8 can be told on any terminal."""
    monkeypatch.setattr("hear_byols.containers.ffmpeg.is_available", lambda: False)
    for name in ("a.wave", "b.snd", "c.rf64", "d.aifc"):
        write(tmp_path / "in" / name)
    for name in ("d.m4a", os.fsdecode(b"caf\xe9.m4a"), "f.webm", "g.wma", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"\x30\x26\xb2\x75" + bytes(100))
    assert main(["embed", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", MODEL]) == 1
    assert recorded(tmp_path / "out") == ["a.wave", "b.snd", "c.rf64", "d.aifc"]
    *named, said = capsys.readouterr().err.splitlines()
    assert any("caf" in line for line in named)
    assert said.endswith("4 could not be, of them for want of hear_byols[formats]: 2 .m4a, 1 .webm, 1 .wma")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["failed_by_extension"] == {".m4a": 2, ".webm": 1, ".wma": 1}
    assert all("hear_byols[formats]" in failure["reason"] for failure in manifest["failed"])


def test_warnings_stand_in_the_manifest_of_this_run_and_the_next(tmp_path, capsys):
    write(tmp_path / "in" / "a.wav")
    clip = noise(0.3, 1)
    soundfile.write(tmp_path / "in" / "anti.wav", np.stack([clip, -clip], 1), 16000)
    for _ in range(2):
        assert main(["embed", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", MODEL]) == 0
        assert "warning: anti.wav: its channels are in opposite phase" in capsys.readouterr().err
        (warning,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["warnings"]
        assert warning["name"] == "anti.wav"
    with pytest.warns(AudioWarning, match=r"anti\.wav: its channels are in opposite phase"):
        embed_files([tmp_path / "in" / "anti.wav"], MODEL)
