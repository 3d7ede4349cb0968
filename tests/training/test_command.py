"""``hear-byols pretrain`` as a user meets it: from a folder to a model, killed and continued, and its faults."""

import re
import resource
import shutil
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from filelock import FileLock
from pretraining import QUIET, command, write_clips

import hear_byols
from hear_byols.cli.main import main
from hear_byols.training.loop import read_log
from hear_byols.weights.checkpoint import read_checkpoint

FINISHED = ["--preset", "byol_s", "--steps", "2", "--seed", "3", "--set", "mel_scale=[1, 1]", 'layers="multi"']
ONE_STEP = ["--encoder", "cnn", "--steps", "1"]
ONE_TARGET = ["part_weight=0", "teacher_components=0", "equalizer=0", 'layers="last"']  # without what teachers have


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips") / "audio")


@pytest.fixture(scope="module")
def finished(audio, tmp_path_factory):
    """The folder of a run; tests leave it as it is."""
    output = tmp_path_factory.mktemp("finished") / "run"
    assert pretrain(audio, output, *FINISHED) == 0
    return output


def pretrain(*arguments):
    return main(command(*arguments))


def start(*arguments):
    """Arguments of a process that runs the command."""
    return [sys.executable, "-m", "hear_byols", *command(*arguments)]


def test_a_folder_becomes_a_model_that_knows_where_it_comes_from(finished):
    model = hear_byols.load_model(finished / "encoder.pth")
    assert hear_byols.get_scene_embeddings(torch.randn(2, 16000) * 0.1, model).shape == (2, 3584)
    provenance, training = model.provenance, model.provenance["training"]
    assert (provenance["name"], provenance["data"]) == ("run", [{"name": "audio", "hours": 0.003}])
    assert (training["preset"], training["steps"], training["crops_seen"]) == ("byol_s", 2, 16)
    assert (training["settings"]["mel_scale"], training["settings"]["learning_rate"]) == ([1.0, 1.0], 3e-4)
    assert training["final"]["step"] == 2
    assert str(finished.parent) not in str(provenance)


def test_the_command_again_has_nothing_left_to_do_and_another_run_is_refused(audio, finished, tmp_path, capsys):
    output = shutil.copytree(finished, tmp_path / "run")
    assert pretrain(audio, output, *FINISHED) == 0
    assert pretrain(audio, output, *FINISHED, "--seed", "1") == 2
    assert "has seed=3, this one 1" in capsys.readouterr().err
    for name in ("encoder.pth", "log.csv", "run.toml"):
        assert (output / name).read_bytes() == (finished / name).read_bytes()


def test_a_run_writes_its_settings_which_make_it_again_on_request_in_half_precision(audio, finished, tmp_path):
    paths = ["--data", str(audio), "--output", str(tmp_path / "half")]
    settings = ["--config", str(finished / "run.toml"), "--set", "half=true"]
    assert main(["pretrain", *paths, *settings, *QUIET]) == 0
    full, half = (read_checkpoint(folder / "encoder.pth") for folder in (finished, tmp_path / "half"))
    for name, value in full.state_dict.items():
        assert torch.equal(half.state_dict[name], value.half().to(value.dtype)), name
    assert (tmp_path / "half/encoder.pth").stat().st_size < 0.51 * (finished / "encoder.pth").stat().st_size
    full, half = (checkpoint.provenance["training"]["settings"] for checkpoint in (full, half))
    assert half == {**full, "half": True}


def test_a_killed_run_continues_as_if_it_had_not_been(audio, bands, tmp_path):
    """SIGKILL in the middle; the losses are those of an uninterrupted run, digit by digit."""
    options = ["--encoder", "cnn", "--targets", bands, "--feature-crops", "40", "--steps", "10"]
    options += ["--set", "save_minutes=0", 'schedule="cosine"', "log_steps=2", "--cache", str(tmp_path / "cache")]
    subprocess.run(start(audio, tmp_path / "whole", *options), check=True)
    process = subprocess.Popen(start(audio, tmp_path / "killed", *options))
    while len(read_log(tmp_path / "killed/log.csv")) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(read_log(tmp_path / "killed/log.csv")) < 5
    subprocess.run(start(audio, tmp_path / "killed", *options), check=True)
    whole, killed = (read_log(tmp_path / name / "log.csv") for name in ("whole", "killed"))
    assert len(whole) == 5
    assert [{**line, "minutes": 0} for line in killed] == [{**line, "minutes": 0} for line in whole]
    whole, killed = (read_checkpoint(tmp_path / name / "encoder.pth").state_dict for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


@pytest.mark.parametrize(("room", "what"), [(10_000, "audio.npy"), (3_000_000, "step-")])
def test_a_full_disk_is_one_error_and_the_same_command_continues(room, what, audio, tmp_path):
    output, limit = tmp_path / "run", partial(resource.setrlimit, resource.RLIMIT_FSIZE, (room, room))
    full = subprocess.run(start(audio, output, *ONE_STEP), preexec_fn=limit, capture_output=True, text=True)
    assert full.returncode == 2
    message = rf"hear-byols: error: .*{what}\S* cannot be written \(.+\); make room, the same command continues\n"
    assert re.fullmatch(message, full.stderr)
    assert not list(output.rglob("*.part*"))
    assert pretrain(audio, output, *ONE_STEP) == 0
    assert hear_byols.load_model(output / "encoder.pth").provenance["training"]["steps"] == 1


# The ratios and the other window lengths differ from one of these in numbers only, which test_config.py checks.
KINDS = ("byol_s_500ms", "byol_s_resnetish34", "byol_s_clstm", "hybrid_cvt", "cnn_byols", "cvt_hybrid", "cvt_byols")


@pytest.mark.parametrize("preset", KINDS)
def test_every_kind_of_preset_trains_two_steps(preset, audio, bands, tmp_path):
    options = ["--preset", preset, "--batch-size=2", "--steps=2", "--set", "head_hidden=8", "log_steps=1"]
    if "hybrid" in preset:
        options += [*(ONE_TARGET if preset == "cvt_hybrid" else ()), "--targets", bands, "--feature-crops", "8"]
    output = tmp_path / "run"
    assert main(["pretrain", "--data", str(audio), "--output", str(output), *options, *QUIET]) == 0
    assert [line["step"] for line in read_log(output / "log.csv")] == [1, 2]
    assert hear_byols.load_model(output / "encoder.pth").provenance["training"]["preset"] == preset


def test_a_preset_of_two_runs_trains_one_after_the_other(audio, bands, tmp_path):
    options = ["--preset=cnn_hybrid", f"--targets={bands}", "--batch-size=2", "--feature-crops=8", "--steps=2"]
    options += ["--learning-rate=0", "--set", "head_hidden=8", *ONE_TARGET]
    output = tmp_path / "run"
    assert pretrain(audio, output, *options, "--max-minutes=0") == 0
    assert len(read_log(output / "first" / "log.csv")) == 1
    assert not (output / "encoder.pth").exists()  # the time is up before the second
    for _ in range(2):
        assert pretrain(audio, output, *options) == 0
        assert [len(read_log(folder / "log.csv")) for folder in (output / "first", output)] == [2, 2]
    first, last = (hear_byols.load_model(folder / "encoder.pth") for folder in (output / "first", output))
    told = [model.provenance["training"] for model in (first, last)]
    told = [(training["preset"], training["settings"]["seed"], training["settings"]["init"]) for training in told]
    assert told == [("cnn_hybrid_first", 42, ""), ("cnn_hybrid", 43, "encoder.pth")]  # no folders
    assert torch.equal(first.encoder.fc1.weight, last.encoder.fc1.weight)  # which has begun with the first's


def test_hybrid_is_supervised_by_opensmile(audio, tmp_path):
    pytest.importorskip("opensmile")
    options = ["--encoder", "cnn", "--targets", "opensmile", "--feature-crops", "4", "--steps", "2"]
    assert pretrain(audio, tmp_path / "run", *options) == 0
    assert all(0 < line["loss_supervised"] < 25 for line in read_log(tmp_path / "run/log.csv"))
    provenance = hear_byols.load_model(tmp_path / "run/encoder.pth").provenance
    assert "openSMILE" in provenance["notice"]
    assert provenance["training"]["method"] == "Hybrid BYOL-S"


def test_faults_end_in_one_line(audio, finished, tmp_path, capsys):
    for options, message in (
        (["--data", "nowhere"], "no such file or folder"),
        (["--preset", "hybrid"], "no preset is called 'hybrid'"),
        (["--set", "batchsize=1"], "no such setting: batchsize"),
        (["--set", "batch_size='x'"], "batch_size must be like 256"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--targets", "no_such_module"], "cannot be loaded as a HEAR module"),
        (["--device", "tpu"], "cannot train on"),
        (["--encoder=cvt", f"--init={finished / 'encoder.pth'}"], "not that of 'cvt'"),
        (["--targets=mn04+swift_f0", "--feature-crops=8", "--batch-size=999"], "needs more than the 512 lessons"),
        (["--output", __file__], "test_command.py cannot be written (File exists)"),
        (["--cache", __file__], "test_command.py cannot be written (File exists)"),
    ):
        assert main(["pretrain", "--data", str(audio), "--output", str(tmp_path / "run"), "--quiet", *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("hear-byols: error: ")
        assert len(error.splitlines()) == 1


def test_a_second_run_in_the_folder_is_refused_and_what_a_killed_one_left_is_removed(audio, tmp_path, capsys):
    left = [tmp_path / "run" / name for name in (".a.part.csv", "states/.b.part.pt", "cache/.c.part.npy")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    with FileLock(tmp_path / "run/.lock"):
        assert pretrain(audio, tmp_path / "run", *ONE_STEP) == 2
    assert "another process trains in" in capsys.readouterr().err
    assert pretrain(audio, tmp_path / "run", *ONE_STEP) == 0
    assert not [path for path in left if path.exists()]
