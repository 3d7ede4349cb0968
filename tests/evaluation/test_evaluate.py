"""``hear-byols evaluate`` from end to end, and its report."""

import csv
import errno
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from task_folders import scene_task, tone, write_clip

from hear_byols.cli.main import main
from hear_byols.errors import OptionError
from hear_byols.evaluation import run as running
from hear_byols.evaluation.probe import Search
from hear_byols.evaluation.report import write_report
from hear_byols.evaluation.run import MissingResult, Outcome, Plan
from hear_byols.evaluation.scores import EVENT_SCORES, SCENE_SCORES
from hear_byols.evaluation.tables import all_published, cell, make_tables, published


def evaluate(tmp_path, *models, **options):
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return main(["evaluate", "-m", *models, "-t", str(tmp_path / "tasks"), "-o", str(tmp_path / "out"), *flags])


def scores(tmp_path):
    with open(tmp_path / "out/scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def by_model_and_probe(tmp_path):
    """The scores of a task with one score."""
    return {(row["model"], row["probe"].split()[0]): row for row in scores(tmp_path)}


MODELS = ("stats=logmel", 'both=logmel+logmel{"frame_ms": 500}')
OPTIONS = {"probe": "both", "seeds": 2, "grid_points": 1, "max_epochs": 6}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """A folder after a run with a model that crashes and a task in bad order, and what was said of them."""
    home, said = tmp_path_factory.mktemp("run"), io.StringIO()
    scene_task(home / "tasks")
    bad = scene_task(home / "other", n=1).rename(home / "tasks/bad-v1")
    (bad / "labelvocabulary.csv").unlink()
    api = "from hear_byols.evaluation.adapters.logmel import *\n"
    (home / "broken_module.py").write_text(f"{api}def load_model():\n    raise MemoryError('too big')\n")
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said):
        patch.syspath_prepend(home)
        assert evaluate(home, *MODELS, "broken_module", **OPTIONS) == 1
    return home, said.getvalue()


@pytest.fixture
def later(first_run, tmp_path, monkeypatch):
    """A copy of that folder without the bad task, where nothing is embedded any more."""
    shutil.copytree(first_run[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "tasks/bad-v1")
    monkeypatch.setattr(running, "embed_apart", None)
    return tmp_path


def test_one_command_from_tasks_to_report(first_run):
    """Both probes and a concatenation; what fails is told and the others go on."""
    home, said = first_run
    assert "hear-byols: not evaluated: broken_module on tones-v1-test: MemoryError: too big" in said
    assert re.search("not evaluated: bad-v1: .*labelvocabulary.csv is missing", said)
    assert "| all | bad-v1 |" in (home / "out/report.md").read_text()
    rows = by_model_and_probe(home)
    assert {row["task"] for row in rows.values()} == {"tones-v1-test"}
    assert set(rows) == {(model, probe) for model in ("stats", "both") for probe in ("linear", "predictor")}
    assert float(rows["stats", "linear"]["mean"]) > 0.9
    assert (rows["stats", "linear"]["size"], rows["both", "linear"]["size"]) == ("256", "512")
    assert (rows["stats", "predictor"]["n_seeds"], rows["stats", "linear"]["n_seeds"]) == ("2", "1")
    assert all(0.5 < float(rows["stats", probe]["validation"]) <= 1 for probe in ("linear", "predictor"))
    records = [json.loads(path.read_text()) for path in (home / "out/results").iterdir()]
    standardized = {(each["size"], each["settings"]["standardized"]) for each in records if each["probe"] == "mlp"}
    assert standardized == {(256, False), (512, True)}


def test_a_second_run_computes_nothing_but_new_labels_are_scored_and_new_audio_is_embedded(later, monkeypatch):
    before = scores(later)
    with monkeypatch.context() as patch:
        patch.setattr(running, "probe_linear", None)
        patch.setattr(running, "probe_mlp", None)
        assert evaluate(later, *MODELS, **OPTIONS) == 0
    assert scores(later) == before
    mean = float(by_model_and_probe(later)["stats", "linear"]["mean"])
    path = later / "tasks/tones-v1-test/test.json"
    path.write_text(json.dumps({name: ["mid"] for name in json.loads(path.read_text())}))
    assert evaluate(later, "stats=logmel") == 0
    assert float(by_model_and_probe(later)["stats", "linear"]["mean"]) < mean
    write_clip(path.parent, "test", "test_low0.wav", tone(301))
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):  # in place of what embeds
        evaluate(later, "stats=logmel")


def test_a_disk_that_fills_leaves_no_half_result(later, monkeypatch, capsys):
    def fill(path, text, **_):
        path.write_bytes(text.encode()[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted((later / "out/results").iterdir())
    monkeypatch.setattr(Path, "write_text", fill)
    assert evaluate(later, "logmel", probe="mlp", grid_points=1, max_epochs=3) == 2
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err
    assert sorted((later / "out/results").iterdir()) == before


def test_synthesized_notes_are_scored_by_both_libraries(tmp_path):
    made = ["notes", "-o", str(tmp_path / "tasks"), "--clips", "3", "1", "1", "--seconds", "5", "--density", "1"]
    assert main(["tasks", "synthesize", *made]) == 0
    assert evaluate(tmp_path, "logmel") == 0
    names = {row["score"] for row in scores(tmp_path)}
    shown = {"event_onset_50ms_fms", "note_onset_50ms_fms", "note_onset_offset_50ms_20perc_fms"}
    assert shown | {"event_onset_50ms_fms_precision"} <= names
    assert [row["score"] for row in scores(tmp_path) if row["validation"]] == ["event_onset_50ms_fms"]
    header = next(line for line in (tmp_path / "out/report.md").read_text().splitlines() if "size" in line)
    assert all(name in header for name in shown)
    assert "precision" not in header


def test_plans_out_of_range_are_refused():
    for make, values in (
        (Plan, {"seeds": 0}),
        (Plan, {"probes": ()}),
        (Plan, {"probes": ("svm",)}),
        (Plan, {"standardize": "sometimes"}),
        (Search, {"grid_points": 17}),
        (Search, {"max_epochs": 2}),
    ):
        with pytest.raises(OptionError, match=next(iter(values))):
            make(**values)


def record(model, value, task="esc50", folder="esc50-v2.0.0-full", seed=0, score="top1_acc", probe="mlp", **more):
    return {
        "model": model,
        "task": {"name": task, "folder": folder, "type": "scene", "criterion": score, "n_clips": 3},
        "probe": probe,
        "key": {"search": {"grid_points": 8, "max_epochs": 500}},
        "seed": seed,
        "scores": {score: value, **more},
        "size": 256,
        "cost": {"seconds": 2.0, "audio_seconds": 50.0, "peak_bytes": 1_234_567_890, "device": "cpu, 1 thread"},
        "settings": {"validation": [0.5]},
    }


def test_published_scores_stand_beside_the_same_task_and_nothing_else():
    (table,) = make_tables([record("mine", 0.83), record("worse", 0.01)])
    places = {row.model: place for place, row in enumerate(table.rows)}
    hybrid = table.rows[places["Hybrid BYOL-S/CvT"]]
    assert (hybrid.values, hybrid.source) == ({"top1_acc": [0.838]}, "paper, Table 6")
    sources = {row.source for row in table.rows if row.model == "CREPE"}
    assert sources == {"paper, Table 6", "HEAR leaderboard, HEAR 2021"}
    assert places["Hybrid BYOL-S/CvT"] < places["mine"] < places["CREPE"] < places["worse"]
    (table,) = make_tables([record("mine", 0.83, probe="linear")])  # they are the kit's
    assert [row.model for row in table.rows] == ["mine"]
    for task, folder, score in (
        ("esc10", "esc10-v1-full", "top1_acc"),  # a stand-in for it
        ("esc50", "esc50-v2.0.0-small", "top1_acc"),  # HEAR's own small version
        ("esc50", "esc50-v2.0.0-full", "mAP"),  # another score
        ("nsynth_pitch", "nsynth_pitch-v2.2.3-full", "pitch_acc"),  # HEAR has 5h and 50h
        ("synthetic_office", "synthetic_office-v1-seed0", "event_onset_200ms_fms"),
    ):
        assert published(task, folder, score) == []


def test_every_published_score_is_a_score_of_a_known_kind():
    assert len(all_published()) == 1112  # the paper has 16 gaps, where memory did not suffice
    assert {row["score"] for row in all_published()} <= {*EVENT_SCORES, *SCENE_SCORES}
    assert all(0 <= float(row["value"]) <= 1 for row in all_published())
    pitches = [row for row in all_published() if (row["task"], row["mode"]) == ("nsynth_pitch", "5h")]
    assert {0.872, 0.934, 0.870000005} <= {float(row["value"]) for row in pitches if row["system"].endswith("CREPE")}


def test_scores_are_never_flattered():
    for values, minimized, text in (
        ([0.8125], False, "81.2"),
        ([0.8125], True, "81.3"),
        ([0.29], False, "29.0"),
        ([1.0], False, "100.0"),
        ([0.5, 0.52], False, "51.0 ± 1.5"),
        ([math.nan], False, "-"),
        ([math.inf], False, "inf"),
        ([], False, ""),
    ):
        assert cell(values, minimized) == text


def test_the_report_is_whole_and_needs_nothing_from_elsewhere(tmp_path):
    outcome = Outcome(
        [record("a<b|c", 0.5, seed=seed, d_prime=math.inf) for seed in (0, 1)]
        + [record("d", 0.4, task="x", folder="x-v1", score="segment_1s_er")],
        [MissingResult("d", "esc50-v2.0.0-full", "ValueError:\nno | more")],
    )
    summary = write_report(outcome, tmp_path, ["d", "a<b|c"])
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    without_pictures = re.sub(r"data:image/png;base64,[^\"]+", "", page)
    assert not re.search('http|//|href|url|src="[^"]', without_pictures)
    assert "a&lt;b|c" in page
    assert "ValueError: no | more" in page
    assert "a<b\\|c" in text
    assert "25.0x (cpu, 1 thread)" in text
    assert "1.23 GB" in text
    assert text.index("| d |") < text.index("| a<b\\|c |")
    assert summary in text
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) == 2
    assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert page.count("data:image/png;base64,") == 2
    assert "No scores" in write_report(Outcome(), tmp_path)


def test_without_the_extra_one_line_says_what_to_install(tmp_path):
    program = "import runpy, sys; sys.modules['sklearn'] = None; runpy.run_module('hear_byols', run_name='__main__')"
    command = [sys.executable, "-c", program, "evaluate", "-m", "logmel", "-t", tmp_path, "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'pip install "hear_byols[eval]"' in done.stderr
