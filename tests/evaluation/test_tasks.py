"""Reading, checking and resampling task folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from task_folders import SPLITS, event, scene_task, tone, write_clip, write_event_task, write_task

from hear_byols.cli.main import main
from hear_byols.errors import TaskError
from hear_byols.evaluation.checks import check_task
from hear_byols.evaluation.resampling import resample_task, sinc_resample
from hear_byols.evaluation.tasks import Event, find_tasks, read_task

SHARED = Path(__file__).parents[3] / "shared" / "data" / "tasks"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return scene_task(tmp_path)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_scene_and_event_tasks_are_read(task, tmp_path):
    read = read_task(task)
    assert (read.name, read.embedding_type, read.evaluation) == ("tones", "scene", ("top1_acc",))
    assert read.vocabulary == ("low", "mid", "high")
    assert [clip.name for clip in read.clips["train"]][:2] == ["train_low0.wav", "train_low1.wav"]
    assert read.data_splits() == [(("train",), ("valid",), ("test",))]
    assert read.targets(["mid"], "here").tolist() == [0, 1, 0]
    assert read.audio_path(read.clips["test"][0], 16000).is_file()
    read = read_task(write_event_task(tmp_path, {"a.wav": [event("x", 10, 200.5)], "b.wav": []}))
    assert [clip.events for clip in read.clips["train"]] == [(Event("x", 10.0, 200.5),), ()]


def test_folds_rotate_as_in_the_kit(tmp_path):
    splits = {name: {f"{name}.wav": ["x"]} for name in ("fold02", "fold00", "fold01", "fold03")}
    folder = write_task(tmp_path / "k", splits, ["x"], split_mode="presplit_kfold")
    first, *_, last = read_task(folder).data_splits()
    assert first == (("fold02", "fold03"), ("fold01",), ("fold00",))
    assert last == (("fold01", "fold02"), ("fold00",), ("fold03",))


def test_a_malformed_folder_is_refused_by_name(tmp_path):
    def vocabulary(content):
        return lambda t: (t / "labelvocabulary.csv").write_text(content)

    for number, (fault, says) in enumerate(
        [
            (lambda t: (t / "task_metadata.json").unlink(), "no task_metadata.json"),
            (lambda t: (t / "task_metadata.json").write_text("{"), "cannot be read as JSON"),
            (lambda t: edit(t / "task_metadata.json", split_mode="random"), "split_mode must be one of"),
            (lambda t: edit(t / "task_metadata.json", splits=["train", "test"]), "the splits train, valid and test"),
            (lambda t: edit(t / "task_metadata.json", sample_duration="5 s"), "sample_duration must be"),
            (lambda t: edit(t / "task_metadata.json", evaluation=[]), "evaluation must be a list"),
            (lambda t: (t / "valid.json").unlink(), "valid.json is missing"),
            (lambda t: edit(t / "valid.json", **{"../x.wav": ["low"]}), "is not the name of a file"),
            (lambda t: edit(t / "valid.json", **{"x.wav": "low"}), "must have a list of labels"),
            (vocabulary("idx,label\n0,low\n2,high\n"), "every number from 0 to 1"),
            (vocabulary("label\nlow\n"), "the columns idx"),
            (vocabulary("idx,label\n0,low\n1,low\n"), "every label must occur once"),
        ]
    ):
        folder = write_task(tmp_path / str(number), {split: {} for split in SPLITS}, ["low", "high"])
        fault(folder)
        with pytest.raises(TaskError, match=says):
            read_task(folder)
        assert [finding.kind for finding in check_task(folder)] == ["format"]


def test_every_fault_is_listed_at_once(task, tmp_path):
    (task / "16000/test/test_low0.wav").unlink()
    (task / "16000/test/test_low1.wav").write_bytes(b"no audio")
    write_clip(task, "test", "test_low2.wav", tone(300, rate=8000), rate=8000).rename(task / "16000/test/test_low2.wav")
    write_clip(task, "test", "test_low3.wav", tone(300, seconds=0.4))
    write_clip(task, "test", "stray.wav", tone(300))
    edit(task / "valid.json", **{"valid_low0.wav": ["deep"], "valid_low1.wav": ["low", "mid"]})
    shutil.rmtree(task / "8000")
    times = [(100, 90), (-5, 50), (100, 520), (400, 900)]  # 520 ms in a clip of 500 ms is rounding
    events = write_event_task(tmp_path, {"a.wav": [event("x", *each) for each in times]})
    for seed, split in enumerate(SPLITS):
        write_clip(events, split, f"{split}_a.wav", tone(300, seed=seed))
    for folder, kinds in (
        (task, ["audio", "label", "label", "length", "missing", "rate", "unlisted"]),
        (events, ["event"] * 3 * 3),
    ):
        assert sorted(finding.kind for finding in check_task(folder)) == kinds


def test_leaks_are_found_by_content_and_by_name(task):
    shutil.copy(task / "16000/train/train_high1.wav", task / "16000/train/train_high2.wav")  # within a split: no leak
    shutil.copy(task / "16000/train/train_mid1.wav", task / "16000/test/test_high0.wav")
    edit(task / "test.json", **{"train_low0.wav": ["low"]})
    write_clip(task, "test", "train_low0.wav", tone(300, seed=7))
    found = {str(finding) for finding in check_task(task)}
    assert found == {
        "leak: train_low0.wav: the name is in train and test",
        "leak: 16000/: the same content in different splits: train/train_mid1.wav, test/test_high0.wav",
    }


def test_the_command_lists_findings_and_tells_by_its_exit_status(task, capsys):
    assert main(["tasks", "check", str(task.parent)]) == 0
    assert capsys.readouterr().out == "tones-v1-test: no findings\n"
    (task / "16000/test/test_low0.wav").unlink()
    assert main(["tasks", "check", str(task)]) == 1
    out = capsys.readouterr().out
    assert "missing: 16000/test/test_low0.wav: listed, but there is no such file" in out
    assert out.endswith("1 finding\n")
    assert main(["tasks", "check", str(task / "16000")]) == 2
    assert "neither a task folder in HEAR format nor a folder of such" in capsys.readouterr().err


@pytest.mark.skipif(not SHARED.is_dir(), reason="no tasks in ../shared/data/tasks beside the project")
def test_public_tasks_are_read():
    read = [read_task(folder) for folder in find_tasks([SHARED])]
    assert {len(task.data_splits()) for task in read} == {1, 5}
    assert all(clip.labels[0] in task.index_of for task in read for clip in task.all_clips())


def test_our_resampler_is_torchaudios():
    """The arrays are those of torchaudio 2.11.0's functional.resample with its defaults."""
    stored = np.load(Path(__file__).parent / "torchaudio_resample.npz")
    for source, target in ((48000, 16000), (44100, 16000), (22050, 16000), (8000, 16000), (16000, 44100)):
        expected = stored[f"{source}_{target}"]
        samples = stored["samples"][: len(expected) * source // target]
        got = sinc_resample(samples, source, target)
        assert len(got) == -(-len(samples) * target // source)
        ours = got[: len(expected) - 200]  # the stored signal goes on where this one may end
        np.testing.assert_allclose(ours, expected[: len(ours)], atol=1e-5)
    assert sinc_resample(got, 16000, 16000) is got


@pytest.fixture
def wide(tmp_path):
    """A task whose audio is at 48 kHz only."""
    return scene_task(tmp_path, n=1, rate=48000)


def test_files_keep_name_and_format_and_only_what_is_missing_or_older_than_its_source_is_made(wide):
    done = resample_task(wide, 16000)
    assert (done.n_written, done.n_present, done.failures) == (9, 0, ())
    source, _ = soundfile.read(wide / "48000/test/test_mid0.wav", dtype="float32")
    got, rate = soundfile.read(wide / "16000/test/test_mid0.wav", dtype="float32")
    assert rate == 16000
    assert np.abs(got - sinc_resample(source, 48000, 16000)).max() < 2 / 32768  # the file has 16 bits
    (wide / "16000/test/test_low0.wav").unlink()
    kept = wide / "16000/train/train_low0.wav"
    stamp = kept.stat().st_mtime_ns
    write_clip(wide, "valid", "valid_low0.wav", tone(880, rate=48000), rate=48000)
    done = resample_task(wide, 16000)
    assert (done.n_written, done.n_present) == (2, 7)
    assert kept.stat().st_mtime_ns == stamp


def test_files_that_cannot_be_read_or_were_cut_off_are_told_and_the_others_are_made(wide, capsys):
    (wide / "48000/test/test_low0.wav").write_bytes(b"no audio")
    clip = wide / "48000/test/test_mid0.wav"
    clip.write_bytes(clip.read_bytes()[:-20000])
    assert main(["tasks", "resample", str(wide), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "test_low0.wav: cannot be read as audio" in error
    assert "test_mid0.wav: is cut off" in error
    assert len(list((wide / "16000").rglob("*.wav"))) == 7
    assert not list((wide / "16000").rglob("*.part*"))
    assert main(["tasks", "check", str(wide), "--rate", "48000"]) == 1
    assert "test_mid0.wav: is cut off" in capsys.readouterr().out


def test_the_result_may_lie_elsewhere_and_has_no_other_rate(wide, tmp_path):
    assert main(["tasks", "resample", str(wide), "--output", str(tmp_path / "out"), "--quiet"]) == 0
    assert main(["tasks", "check", str(tmp_path / "out")]) == 0
    assert not (wide / "16000").exists()
    with pytest.raises(TaskError, match="no audio at a rate other than 16000 Hz"):
        resample_task(tmp_path / "out" / wide.name)
