"""The output folder tells the truth: rows stay, complete means seen, damage is one clear error, progress is told."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from extraction import MODEL, contents, is_complete, noise, recorded, rows_of, write_corpus

from hear_byols import load_model, read_embeddings
from hear_byols._util import progress as progress_module
from hear_byols._util.files import file_digest
from hear_byols._util.progress import progress
from hear_byols.cli.main import main
from hear_byols.errors import InputError, OptionError, OutputError
from hear_byols.extraction.extract import embed_to_folder, fill, run_settings
from hear_byols.extraction.files import AudioFile, collect
from hear_byols.extraction.folder import load_its_model
from hear_byols.extraction.formats import find_format
from hear_byols.extraction.groups import GroupLimits
from hear_byols.extraction.output import OutputFolder, open_output
from hear_byols.extraction.ray import Worker, _record

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def home(tmp_path):
    """Where ``in`` holds six files that ``out`` holds the vectors of."""
    write_corpus(tmp_path / "in", 6)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    return tmp_path


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("format", ["npz", "csv", "parquet"])
def test_an_output_keeps_the_rows_of_sources_that_are_not_asked_for_or_gone(tmp_path, format, timestamps):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    names = write_corpus(tmp_path / "in", 5)
    options = {"model": MODEL, "format": format, "timestamps": timestamps, "relative_to": tmp_path / "in"}
    embed_to_folder([tmp_path / "in"], tmp_path / "out", **options)
    before = rows_of(tmp_path / "out")
    changed, gone = tmp_path / "in" / names[1], tmp_path / "in" / names[3]
    soundfile.write(changed, noise(0.4, 99), 16000)
    gone.unlink()
    report = embed_to_folder([changed], tmp_path / "out", **options)
    assert (report.n_embedded, report.failures) == (1, ())
    after = rows_of(tmp_path / "out")
    assert sorted(after) == sorted(recorded(tmp_path / "out")) == names
    assert [name for name in names if after[name] != before[name]] == [names[1]]
    assert embed_to_folder([tmp_path / "in"], tmp_path / "out", **options).n_embedded == 0


def test_lost_outputs_of_sources_that_are_not_asked_for_are_made_again_or_named(home):
    names, whole = sorted(recorded(home / "out")), contents(home / "out")
    for name in names[1:3]:
        (home / "out" / "embeddings" / f"{name}.npz").unlink()
    (home / "in" / names[2]).unlink()
    report = embed_to_folder([home / "in" / names[0]], home / "out", model=MODEL, relative_to=home / "in")
    assert (report.n_embedded, report.n_present) == (1, 1)
    assert [failure.name for failure in report.failures] == [names[2]]
    assert contents(home / "out").keys() == whole.keys() - {f"embeddings/{names[2]}.npz"}
    assert sorted(recorded(home / "out")) == [*names[:2], *names[3:]]


@pytest.mark.parametrize("lost", ["embeddings", "index.jsonl", "manifest.json", "an output", "all"])
def test_what_vanishes_while_a_run_goes_on_is_not_called_complete(tmp_path, monkeypatch, lost):
    monkeypatch.setattr("hear_byols.extraction.extract.group_limits", lambda *args: GroupLimits(2, 600))
    names = write_corpus(tmp_path / "in", 6)
    output = tmp_path / "out"
    places = {"all": output, "an output": output / "embeddings" / f"{names[0]}.npz"}
    record, calls = OutputFolder.record, []

    def vanishing(self, clips, items):
        failures = record(self, clips, items)
        calls.append(len(clips))
        if len(calls) == 2:
            target = places.get(lost, output / lost)
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        return failures

    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "record", vanishing)
        with pytest.raises(OutputError, match=r"while the run went on|cannot be written"):
            embed_to_folder([tmp_path / "in"], output, model=MODEL)
    if (output / "manifest.json").exists():  # the same command makes whole what is missing
        assert not is_complete(output)
        embed_to_folder([tmp_path / "in"], output, model=MODEL)
        assert sorted(recorded(output)) == names
        assert len(contents(output)) == 6


def test_files_are_on_the_disk_before_they_have_their_names_and_folders_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor):
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda self, target: events.append("name") or replace(self, target))
    write_corpus(tmp_path / "in", 1)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    manifest = ["file", "name", "folder"]
    assert events == [*manifest, *manifest, "file", "name", "folder", "file", *manifest]  # output, its folder, index


def test_a_source_called_like_an_unfinished_file_keeps_its_output(tmp_path):
    source = tmp_path / "in" / ".x.part"
    source.parent.mkdir()
    soundfile.write(source, noise(0.3, 1), 16000, format="WAV")
    for n_embedded in (1, 0, 0):
        assert embed_to_folder([source], tmp_path / "out", model=MODEL).n_embedded == n_embedded
        assert (tmp_path / "out" / "embeddings" / ".x.part.npz").exists()


SOURCE = {"name": "a", "path": "/a", "bytes": 1, "mtime_ns": 1}
ENTRY = {"outputs": {"embeddings/a.npz": 1}, "sources": [SOURCE]}
BAD_ENTRIES = (
    [1],
    [{"sources": []}],
    [{"outputs": {}}],
    [{**ENTRY, "sources": [{}]}],
    [{**ENTRY, "sources": [{**SOURCE, "name": 3}]}],
    *([{**ENTRY, "outputs": {output: 1}}] for output in ("", "embeddings/../x", "embeddings/\ud800", "embeddings/\0")),
    [{**ENTRY, "outputs": {"embeddings/a": "1"}}],
    [ENTRY, ENTRY],
    [{**ENTRY, "sha256": 1}],
)


def test_an_index_or_manifest_without_its_keys_is_one_clear_error(home, capsys):
    arguments = ["embed", str(home / "in"), "-o", str(home / "out"), "--model", MODEL]
    bad = {"index.jsonl": [*(json.dumps(entries) + "\n" for entries in BAD_ENTRIES), "no json\n"]}
    bad["manifest.json"] = ["{", "{}", "[]", "3", '{"schema": 1}', "[" * 100_000, "\x00"]
    for name, texts in bad.items():
        whole = (home / "out" / name).read_text()
        for content in texts:
            (home / "out" / name).write_text(content)
            assert main(arguments) == 2, content
            assert name in capsys.readouterr().err
        (home / "out" / name).write_text(whole)
    assert main(arguments) == 0


def test_an_index_that_does_not_fit_its_table_is_damaged(tmp_path):
    names, index = write_corpus(tmp_path / "in", 3), tmp_path / "out" / "index.jsonl"
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format="csv")
    soundfile.write(tmp_path / "in" / names[1], noise(0.4, 99), 16000)
    (entry,) = json.loads(index.read_text())
    for changes in ({"outputs": {"embeddings/other.csv": 1}}, {"sources": entry["sources"][1:]}):
        index.write_text(json.dumps([{**entry, **changes}]) + "\n")
        with pytest.raises(OutputError, match=r"index\.jsonl is damaged"):
            embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format="csv")


def test_a_folder_is_read_back_whole_or_refused(home):
    index, manifest = home / "out" / "index.jsonl", home / "out" / "manifest.json"
    with open(index, "a") as file:
        file.write('[{"outputs": {"embeddings/x.np')  # where a kill cut it off
    assert len(read_embeddings(home / "out")) == 6

    def refuse(folder: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_embeddings(home / folder)

    refuse("in", "has no manifest")
    victim = home / "out" / next(iter(contents(home / "out")))
    whole, digest = victim.read_bytes(), file_digest(victim)
    for damaged in (whole[:100], whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]):
        victim.write_bytes(damaged)
        refuse("out", rf"{victim.name}.*has changed since it was written")
    np.savez(victim, embedding=np.array([print], dtype=object))  # would run code if it were unpickled
    index.write_text(index.read_text().replace(digest, file_digest(victim)))
    refuse("out", r"cannot be read .*allow_pickle")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": "other/9"}))
    refuse("out", "embed again")


def test_vectors_of_another_model_or_setting_are_refused_and_their_own_is_found(home):
    options = {"normalization": "original", "frame_ms": 500, "hop_ms": 70}
    embed_to_folder([home / "in"], home / "windows", model=MODEL, timestamps=True, **options)
    content = read_embeddings(home / "windows", model=load_model(MODEL, **options))
    model = load_its_model(content.settings)
    assert model.config.normalization.mode == "original"
    assert (model.framing.frame_ms, model.framing.hop_ms) == (500, 70)
    with pytest.raises(OptionError, match="another model"):
        load_its_model(content.settings, "random_clstm")
    for name, changes, message in (
        (MODEL, {"normalization": "clip"}, "normalization is 'original', not 'clip'"),
        ("random_clstm", {}, "parameters_sha256"),
    ):
        with pytest.raises(OptionError, match=message):
            read_embeddings(home / "windows", model=load_model(name, **{**options, **changes}))


def test_progress_is_told_in_lines_where_there_is_no_terminal_and_can_be_turned_off(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    for title, before in (("", ""), ("esc10", "esc10: "), (None, None)):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        with progress(100, "file", done=20, title=title or "", shown=title is not None) as advance:
            for _ in range(8):
                now[0] += 10
                advance(10)
        lines = ("50 of 100 files, about 50 s left\n", "80 of 100 files, about 20 s left\n")
        assert sys.stderr.getvalue() == "".join(before + line for line in lines if before is not None)


def test_the_parts_of_a_worker_of_ray_are_those_of_any_other_run_and_its_failures_are_told(tmp_path):
    pytest.importorskip("pyarrow")
    names, output = write_corpus(tmp_path / "in", 3), tmp_path / "out"
    (tmp_path / "in" / "bad.wav").write_text("no audio")
    files = [*collect([tmp_path / "in"]), AudioFile("locked", Path("locked"), "the folder cannot be searched")]
    settings = run_settings(load_model(MODEL), MODEL, "parquet", False, "ray: cpu", {})
    worker = Worker(MODEL, {}, settings["parameters_sha256"], False, str(output), "cpu")

    def embed(pending, folder, bar):
        shard = json.dumps([[file.name, str(file.path), file.error] for file in pending])
        return _record(map(json.loads, worker({"shard": [shard]})["result"]), folder, lambda n: None)

    with open_output(output, find_format("parquet"), settings, overwrite=False) as folder:
        report = fill(folder, files, embed, progress=False)
    assert (report.n_embedded, sorted(recorded(output))) == (3, names)
    assert [failure.name for failure in report.failures] == ["bad.wav", "locked"]
    embed_to_folder([tmp_path / "in"], tmp_path / "plain", model=MODEL, format="parquet", device="cpu")
    assert contents(output) == contents(tmp_path / "plain")
    again = embed_to_folder([tmp_path / "in"], output, model=MODEL, format="parquet", device="cpu")
    assert (again.n_embedded, again.n_present) == (0, 3)
