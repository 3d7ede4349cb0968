"""The output folder tells the truth: rows stay, complete means seen, and damage is one clear error."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
import soundfile
from extraction import MODEL, contents, noise, recorded, write_corpus

from hear_byols._util.files import atomic_path
from hear_byols.cli.main import main
from hear_byols.errors import OutputError
from hear_byols.extraction.extract import embed_to_folder
from hear_byols.extraction.output import OutputFolder

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(output: Path, format: str) -> dict[str, list[tuple[float, ...]]]:
    """The rows of all parts by their source."""
    found: dict[str, list[tuple[float, ...]]] = {}
    if format == "csv":
        for path in (output / "embeddings").glob("*.csv"):
            with open(path, newline="") as file:
                for row in csv.DictReader(file):
                    found.setdefault(row.pop("source"), []).append(tuple(map(float, row.values())))
        return found
    table = pytest.importorskip("pyarrow.parquet").read_table(output / "embeddings")
    for row in table.to_pylist():
        found.setdefault(row.pop("source"), []).append((*row.pop("embedding"), *row.values()))
    return found


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_part_keeps_the_rows_of_sources_that_are_not_asked_for_or_gone(tmp_path, format, timestamps):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    names = write_corpus(tmp_path / "in", 5)
    options = {"model": MODEL, "format": format, "timestamps": timestamps, "relative_to": tmp_path / "in"}
    embed_to_folder([tmp_path / "in"], tmp_path / "out", **options)
    before = rows(tmp_path / "out", format)
    changed, gone = tmp_path / "in" / names[1], tmp_path / "in" / names[3]
    soundfile.write(changed, noise(0.4, 99), 16000)
    gone.unlink()
    report = embed_to_folder([changed], tmp_path / "out", **options)
    assert (report.n_embedded, report.failures) == (1, ())
    after = rows(tmp_path / "out", format)
    assert sorted(after) == sorted(recorded(tmp_path / "out")) == names
    assert after[names[1]] != before[names[1]]
    assert all(after[name] == before[name] for name in names if name != names[1])
    assert embed_to_folder([tmp_path / "in"], tmp_path / "out", **options).n_embedded == 0


@pytest.mark.parametrize("format", ["npz", "csv"])
def test_outputs_of_the_right_size_with_other_content_are_made_again(tmp_path, format):
    names = write_corpus(tmp_path / "in", 2)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format=format)
    whole = contents(tmp_path / "out")
    output = tmp_path / "out" / next(iter(whole))
    output.write_bytes(bytes(output.stat().st_size))  # as after a power cut
    report = embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format=format)
    assert report.n_embedded == (1 if format == "npz" else 2)
    assert contents(tmp_path / "out") == whole
    assert sorted(recorded(tmp_path / "out")) == names


def test_lost_outputs_of_sources_that_are_not_asked_for_are_made_again_or_named(tmp_path):
    names = write_corpus(tmp_path / "in", 3)
    options = {"model": MODEL, "relative_to": tmp_path / "in"}
    embed_to_folder([tmp_path / "in"], tmp_path / "out", **options)
    whole = contents(tmp_path / "out")
    for name in names[1:]:
        (tmp_path / "out" / "embeddings" / f"{name}.npz").unlink()
    (tmp_path / "in" / names[2]).unlink()
    report = embed_to_folder([tmp_path / "in" / names[0]], tmp_path / "out", **options)
    assert (report.n_embedded, report.n_present) == (1, 1)
    assert [failure.name for failure in report.failures] == [names[2]]
    assert sorted(contents(tmp_path / "out")) == sorted(whole)[:2]
    assert sorted(recorded(tmp_path / "out")) == names[:2]


@pytest.mark.parametrize("lost", ["embeddings", "index.jsonl", "manifest.json", "an output", "all"])
def test_what_vanishes_while_a_run_goes_on_is_not_called_complete(tmp_path, monkeypatch, lost):
    monkeypatch.setattr("hear_byols.extraction.extract.group_limits", lambda *args: Limits())
    names = write_corpus(tmp_path / "in", 6)
    output = tmp_path / "out"
    record, calls = OutputFolder.record, []

    def vanishing(self, clips, items):
        failures = record(self, clips, items)
        calls.append(len(clips))
        if len(calls) == 2:
            target = output / "embeddings" / f"{names[0]}.npz" if lost == "an output" else output / lost
            shutil.rmtree(output) if lost == "all" else shutil.rmtree(target) if target.is_dir() else target.unlink()
        return failures

    monkeypatch.setattr(OutputFolder, "record", vanishing)
    with pytest.raises(OutputError, match=r"while the run went on|cannot be written"):
        embed_to_folder([tmp_path / "in"], output, model=MODEL)
    manifest = output / "manifest.json"
    assert not manifest.exists() or json.loads(manifest.read_text())["complete"] is False
    monkeypatch.setattr(OutputFolder, "record", record)
    if manifest.exists():  # the same command makes whole what is missing
        embed_to_folder([tmp_path / "in"], output, model=MODEL)
        assert sorted(recorded(output)) == names
        assert len(contents(output)) == 6


class Limits:
    """Groups of two clips."""

    clips, seconds = 2, 600


def test_a_run_that_has_more_to_do_is_not_complete_until_it_is_done(tmp_path, monkeypatch):
    write_corpus(tmp_path / "in", 2)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["complete"] is True
    soundfile.write(tmp_path / "in" / "new.wav", noise(0.3, 9), 16000)
    monkeypatch.setattr(OutputFolder, "record", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["complete"] is False


def test_files_are_on_the_disk_before_they_have_their_names_and_folders_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor):
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda self, target: events.append("name") or replace(self, target))
    with atomic_path(tmp_path / "x.json") as part:
        part.write_text("{}")
    assert events == ["file", "name", "folder"]
    write_corpus(tmp_path / "in", 1)
    events.clear()
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


ENTRY = {"outputs": {"embeddings/a.npz": 1}, "sources": [{"name": "a", "path": "/a", "bytes": 1, "mtime_ns": 1}]}
BAD_INDEXES = {
    "no entries": [1],
    "no outputs": [{"sources": []}],
    "no sources": [{"outputs": {}}],
    "no names": [{**ENTRY, "sources": [{}]}],
    "names that are numbers": [{**ENTRY, "sources": [{**ENTRY["sources"][0], "name": 3}]}],
    "an empty output": [{**ENTRY, "outputs": {"": 1}}],
    "an output elsewhere": [{**ENTRY, "outputs": {"embeddings/../x": 1}}],
    "an output that is no name": [{**ENTRY, "outputs": {"embeddings/\ud800": 1}}],
    "a NUL": [{**ENTRY, "outputs": {"embeddings/\0": 1}}],
    "a size that is text": [{**ENTRY, "outputs": {"embeddings/a": "1"}}],
    "a source twice": [ENTRY, ENTRY],
    "a digest that is none": [{**ENTRY, "sha256": 1}],
}


def test_an_index_or_manifest_without_its_keys_is_one_clear_error(tmp_path, capsys):
    write_corpus(tmp_path / "in", 1)
    arguments = ["embed", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", MODEL]
    assert main(arguments) == 0
    bad = {"index.jsonl": [json.dumps(entries) + "\n" for entries in BAD_INDEXES.values()] + ["no json\n"]}
    bad["manifest.json"] = ["{", "{}", "[]", "3", '{"schema": 1}', "[" * 100_000, "\x00"]
    for name, texts in bad.items():
        whole = (tmp_path / "out" / name).read_text()
        for content in texts:
            (tmp_path / "out" / name).write_text(content)
            capsys.readouterr()
            assert main(arguments) == 2, content
            assert name in capsys.readouterr().err
        (tmp_path / "out" / name).write_text(whole)
    assert main(arguments) == 0


def test_a_table_whose_part_has_another_name_is_damaged(tmp_path):
    write_corpus(tmp_path / "in", 1)
    embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format="csv")
    index = tmp_path / "out" / "index.jsonl"
    index.write_text(index.read_text().replace("part-00000", "other"))
    with pytest.raises(OutputError, match=r"index\.jsonl is damaged"):
        embed_to_folder([tmp_path / "in"], tmp_path / "out", model=MODEL, format="csv")
