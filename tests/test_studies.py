"""The studies of settings differ in what they say, and run as a whole: training, probe, table, picture."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "evaluation")]
pytest.importorskip("matplotlib")
pytest.importorskip("lightning", reason="pre-training needs the extra: pip install hear_byols[train]")
import studies  # noqa: E402
import study_model  # noqa: E402
from pretraining import write_clips  # noqa: E402
from task_folders import scene_task  # noqa: E402

from hear_byols.cli import main as cli  # noqa: E402
from hear_byols.evaluation.models import parse_models  # noqa: E402
from hear_byols.weights.checkpoint import read_checkpoint  # noqa: E402

TINY = "--targets none --steps 2 --batch-size 4 --head-hidden 32 --crop-frames 32 --accelerator cpu --threads 1"


def parsed(variant: studies.Variant) -> dict:
    """What the command line makes of the base and a variant."""
    command = ["pretrain", "--data", "x", variant.audio, "--output", "y"]
    return vars(cli.build_parser().parse_args([*command, *studies.BASE.split(), *variant.settings.split()]))


@pytest.mark.parametrize("name", studies.STUDIES)
def test_variants_of_a_study_are_different_models(name):
    variants = studies.STUDIES[name]
    ways = [(parsed(v), v.options, v.module) for v in variants]
    assert all(ways.count(way) == 1 for way in ways)
    models = parse_models(f"{v.label}={v.module}:{v.run}.pth{v.options}" for v in variants)
    assert [model.label for model in models] == [v.label for v in variants]


def test_equal_settings_share_a_run_and_others_do_not():
    variants = [v for study in studies.STUDIES.values() for v in study]
    settings = {v.run: parsed(v) for v in variants}
    assert all(settings[v.run] == parsed(v) for v in variants)
    assert all(list(settings.values()).count(way) == 1 for way in settings.values())


def test_a_study_gives_a_table_and_a_picture(tmp_path, monkeypatch):
    write_clips(tmp_path / "audio")
    task = scene_task(tmp_path)
    places = ["--data", str(tmp_path / "audio"), "--tasks", str(task), "--output", str(tmp_path / "out")]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setitem(studies.STUDIES, "padding", studies.STUDIES["padding"][::3])
    studies.main(["padding", *places, *TINY.split()])
    header, _, *rows = (tmp_path / "out/padding.md").read_text().splitlines()
    assert header == "|  | tones | mean | validation mean |"
    assert [row.split(" | ")[0] for row in rows] == ["| as the clips are", "| repeat"]
    assert all(0 <= float(cell) <= 100 for row in rows for cell in row.strip(" |").split(" | ")[1:])
    assert (tmp_path / "out/padding.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "out/runs").iterdir()] == ["base"]


@pytest.mark.parametrize(
    ("padding", "expected"), [("none", [1, 2]), ("silence", [1, 2, 0, 0, 0]), ("repeat", [1, 2, 1, 2, 1])]
)
def test_padding_of_a_clip_that_ends_in_silence(padding, expected):
    class Five:  # a second has five samples
        sample_rate, scene_embedding_size, timestamp_embedding_size = 5, 1, 1

    clip = torch.tensor([1.0, 2.0, 0.0])
    assert study_model.Changed(Five(), padding).pad(clip).tolist() == expected
    assert study_model.Changed(Five(), "").pad(clip) is clip


@pytest.mark.parametrize("pooling", study_model.POOLINGS)
def test_poolings_of_two_time_steps(pooling):
    x = torch.tensor([[[1.0, -2.0], [3.0, 4.0]]])
    expected = {"mean": [2.0, 1.0], "maximum": [3.0, 4.0], "mean and maximum": [5.0, 5.0]}
    assert study_model.POOLINGS[pooling](x).tolist() == [expected[pooling]]


def test_synthetic_audio_is_trained_on_beside_the_data_or_instead_of_it(tmp_path, monkeypatch):
    for name in ("recorded", "made/speech", "made/music"):
        write_clips(tmp_path / name, n_clips=3)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setitem(studies.STUDIES, "made", studies.STUDIES["made"][1::3])
    monkeypatch.setattr(studies, "score", lambda models, args: {name: {"task": (1.0, 2.0)} for name in models})
    places = ["--data", str(tmp_path / "recorded"), "--made", str(tmp_path / "made"), "--output", str(tmp_path / "out")]
    studies.main(["made", *places, "--tasks", "none", *TINY.split()])
    sources = []
    for variant in studies.STUDIES["made"]:
        checkpoint = read_checkpoint(tmp_path / "out/runs" / variant.run / "encoder.pth")
        sources.append([source["name"] for source in checkpoint.provenance["data"]])
    assert sources == [["recorded", "speech"], ["speech", "music"]]


def test_the_study_of_synthetic_audio_needs_its_folder(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        studies.main(["made", "--data", "a", "--tasks", "b", "--output", str(tmp_path)])
    assert "needs --made" in capsys.readouterr().err
