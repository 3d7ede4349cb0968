"""Event tasks that are mixed from isolated sounds."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from task_folders import SPLITS, write_clip, write_task

from hear_byols.cli.main import main
from hear_byols.errors import OptionError, OutputError, TaskError
from hear_byols.evaluation.checks import check_task
from hear_byols.evaluation.sounds import MADE, Sounds, sounds_of_task, trim
from hear_byols.evaluation.synthesis import SYNTHESES, mix, synthesize
from hear_byols.evaluation.tasks import read_task

SMALL = {"n_clips": (1, 1, 1), "clip_seconds": 2.0}


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("kind", "n_labels"), [("office", 8), ("notes", 36)])
def test_a_task_is_sound_and_the_same_every_time(kind, n_labels, tmp_path):
    config = replace(SYNTHESES[kind], **SMALL)
    first, second = synthesize(tmp_path / "a", config), synthesize(tmp_path / "b", config)
    assert check_task(first) == []
    assert files(first) == files(second)
    task = read_task(first)
    assert (task.embedding_type, task.prediction_type, len(task.vocabulary)) == ("event", "multilabel", n_labels)
    assert task.metadata["synthesis"]["level_db"] == list(config.level_db)
    other = synthesize(tmp_path / "c", replace(config, seed=1))
    more = synthesize(tmp_path / "d", replace(config, n_clips=(2, 1, 1)))  # leaves the others as they are
    clips = [folder / "16000/train/train-0000.wav" for folder in (first, more, other)]
    assert clips[0].read_bytes() == clips[1].read_bytes() != clips[2].read_bytes()


def constant():
    return Sounds("constants", ("x", "y"), lambda *_: np.full(6400, 0.5, np.float32))


@pytest.mark.parametrize("level_db", [-6.0, 20.0])
def test_events_lie_where_the_labels_say_at_the_stated_level(level_db):
    config = replace(SYNTHESES["office"], level_db=(level_db,), clip_seconds=10.0, overlap=0.0)
    mixture, events = mix(config, constant(), "train", np.random.default_rng(0))
    without, _ = mix(replace(config, level_db=(-300.0,)), constant(), "train", np.random.default_rng(0))
    assert len(events) > 1
    scale = np.median(mixture[without != 0] / without[without != 0])  # the mixture is scaled to its peak
    added = mixture / scale - without
    inside = np.zeros(len(mixture), bool)
    for event in events:
        place = slice(round(event["start"] * 16), round(event["end"] * 16))
        inside[place] = True
        ratio = 10 * np.log10(np.mean(added[place] ** 2) / np.mean(without[place] ** 2))
        assert abs(ratio - level_db) < 0.1
    assert np.abs(added[~inside]).max() < 1e-4 * np.abs(mixture).max()


def overlaps(events):
    ordered = sorted(events, key=lambda event: event["start"])
    return sum(b["start"] < a["end"] for a, b in itertools.pairwise(ordered))


def test_density_and_overlap_are_as_asked():
    dense = replace(SYNTHESES["office"], clip_seconds=60.0, events_per_second=(0.5,))
    clips, apart = (
        [mix(replace(dense, overlap=share), constant(), "train", np.random.default_rng(i))[1] for i in range(8)]
        for share in (1.0, 0.0)
    )
    assert 0.35 < np.mean([len(events) for events in clips]) / 60 <= 0.6
    assert sum(map(overlaps, clips)) > 0
    assert sum(map(overlaps, apart)) == 0
    for events in clips:  # one label never overlaps itself: the labels could not tell the two apart
        assert overlaps([event for event in events if event["label"] == "x"]) == 0


@pytest.mark.parametrize(
    ("mode", "splits"), [("trainvaltest", SPLITS), ("new_split_kfold", ("fold00", "fold01", "fold02", "fold03"))]
)
def test_splits_never_share_a_recording(mode, splits, tmp_path):
    """Every clip of the source holds a constant of its own, so a sound tells which clip it is of."""
    levels = {split: [round(0.1 * i + 0.03 * j, 2) for j in (1, 2, 3)] for i, split in enumerate(splits)}
    names = {split: {f"{split}{level}.wav": ["x"] for level in own} for split, own in levels.items()}
    folder = write_task(tmp_path / "steps-v1", names, ["x"], split_mode=mode)
    for split, own in levels.items():
        for level in own:
            write_clip(folder, split, f"{split}{level}.wav", np.full(8000, level, np.float32))
    draw = sounds_of_task(folder).draw
    *train, valid, test = levels.values()
    for split, own in zip(SPLITS, (itertools.chain(*train), valid, test), strict=True):
        assert {round(float(draw("x", split, np.random.default_rng(i))[0]), 2) for i in range(60)} == set(own)
    made = synthesize(tmp_path / "out", replace(SYNTHESES["office"], **SMALL), source=folder)
    assert read_task(made).name == "synthetic_office_of_steps"
    assert check_task(made) == []


def test_made_sounds_are_audible_and_trimmed_and_differ_and_a_note_has_its_pitch():
    silent = np.concatenate([np.zeros(1600), np.full(3200, 0.5), np.zeros(4000)]).astype(np.float32)
    assert len(trim(silent)) == 3200
    for sounds in MADE.values():
        for label in sounds.labels[:: len(sounds.labels) // 8]:
            a, b = (sounds.draw(label, "train", np.random.default_rng(seed)) for seed in (0, 1))
            assert np.isfinite(a).all()
            assert np.abs(a).max() > 0.05
            assert 0.05 < len(a) / 16000 < 3
            assert not np.array_equal(a[:500], b[:500])
    note = MADE["notes"].draw("69", "train", np.random.default_rng(0))
    strongest = np.abs(np.fft.rfft(note * np.hanning(len(note)))).argmax() * 16000 / len(note)
    assert min(abs(strongest / n - 440) for n in (1, 2, 3)) < 5


def test_the_command_continues_and_keeps_other_tasks(tmp_path, capsys):
    command = ["tasks", "synthesize", "office", "-o", str(tmp_path), "--clips", "1", "1", "1", "--seconds", "2"]
    assert main(command) == 0
    folder = capsys.readouterr().out.strip()
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == folder
    assert main([*command, "--density", "1"]) == 2
    assert "holds a task of another recipe" in capsys.readouterr().err
    assert soundfile.info(f"{folder}/16000/test/test-0000.wav").frames == 32000


def test_bad_configs_and_sources_are_refused(tmp_path):
    with pytest.raises(OptionError, match="three positive numbers"):
        replace(SYNTHESES["office"], n_clips=(1, 0, 1))
    with pytest.raises(OptionError, match="1 to 3600 s"):
        replace(SYNTHESES["office"], clip_seconds=0.1)
    made = synthesize(tmp_path, replace(SYNTHESES["notes"], **SMALL))
    with pytest.raises(TaskError, match="is an event task"):
        synthesize(tmp_path / "x", SYNTHESES["office"], source=made)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        synthesize(tmp_path / "file", replace(SYNTHESES["office"], **SMALL))
