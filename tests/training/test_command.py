"""``hear-byols pretrain`` as a user meets it: from a folder to a model, killed and continued, and its faults."""

import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from filelock import FileLock
from pretraining import HEAR_MODULE, SMALL, write_clips

import hear_byols
from hear_byols.cli.main import main
from hear_byols.training.metrics import read_log
from hear_byols.training.presets import PRESETS
from hear_byols.weights.checkpoint import read_checkpoint

QUICK = ["--set", *(f"{name}={value}" for name, value in SMALL.items())]
QUICK += ["--device=cpu", "--threads=1", "--quiet"]


@pytest.fixture
def audio(tmp_path):
    return write_clips(tmp_path / "audio")


@pytest.fixture
def bands(tmp_path, monkeypatch):
    """A HEAR module that supervises instead of openSMILE."""
    (tmp_path / "bands_of_eight.py").write_text(HEAR_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    yield "bands_of_eight"
    sys.modules.pop("bands_of_eight", None)


def pretrain(audio, output, *options):
    return main(["pretrain", "--data", str(audio), "--output", str(output), *QUICK, *options])


def test_a_folder_becomes_a_model_that_knows_where_it_comes_from(audio, tmp_path):
    output = tmp_path / "run"
    settings = ["--set", "mel_scale=[1, 1]", 'layers="multi"']
    assert pretrain(audio, output, "--preset", "byol_s", "--steps", "2", *settings) == 0
    model = hear_byols.load_model(output / "encoder.pth")
    assert hear_byols.get_scene_embeddings(torch.randn(2, 16000) * 0.1, model).shape == (2, 3584)
    provenance = model.provenance
    assert provenance["name"] == "run"
    assert provenance["data"] == [{"name": "audio", "hours": 0.003}]
    training = provenance["training"]
    assert (training["preset"], training["steps"], training["crops_seen"]) == ("byol_s", 2, 16)
    assert training["settings"]["mel_scale"] == [1.0, 1.0]
    assert training["settings"]["learning_rate"] == 3e-4
    assert training["final"]["step"] == 2
    assert str(tmp_path) not in str(provenance)


def test_weights_can_be_stored_in_half_precision(audio, tmp_path):
    for name, options in (("full", ()), ("half", ("--set", "half=true"))):
        assert pretrain(audio, tmp_path / name, "--encoder", "cnn", "--steps", "2", *options) == 0
    full, half = (read_checkpoint(tmp_path / name / "encoder.pth") for name in ("full", "half"))
    for name, value in full.state_dict.items():
        assert torch.equal(half.state_dict[name], value.half().to(value.dtype)), name
    assert (tmp_path / "half/encoder.pth").stat().st_size < 0.51 * (tmp_path / "full/encoder.pth").stat().st_size


def test_the_command_again_has_nothing_left_to_do(audio, tmp_path):
    arguments = audio, tmp_path / "run", "--encoder", "cnn", "--steps", "2"
    assert pretrain(*arguments) == 0
    before = (tmp_path / "run/encoder.pth").read_bytes()
    assert pretrain(*arguments) == 0
    assert (tmp_path / "run/encoder.pth").read_bytes() == before


def test_a_killed_run_continues_as_if_it_had_not_been(audio, bands, tmp_path):
    """SIGKILL in the middle; the losses are those of an uninterrupted run, digit by digit."""
    options = ["--encoder", "cnn", "--targets", bands, "--feature-crops", "40", "--steps", "10"]
    options += ["--set", "save_minutes=0", 'schedule="cosine"', "log_steps=2", "--cache", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "hear_byols", "pretrain", "--data", str(audio), *QUICK, *options]
    command += ["--output"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    while len(read_log(tmp_path / "killed/log.csv")) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(read_log(tmp_path / "killed/log.csv")) < 5
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    lines = {name: read_log(tmp_path / name / "log.csv") for name in ("whole", "killed")}
    assert len(lines["whole"]) == 5
    for whole, killed in zip(lines["whole"], lines["killed"], strict=True):
        assert {**killed, "minutes": 0} == {**whole, "minutes": 0}
    states = [torch.load(tmp_path / name / "encoder.pth", weights_only=True)["state_dict"] for name in lines]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("room", "what"), [(10_000, "audio.npy"), (3_000_000, "step-")])
def test_a_full_disk_is_one_error_and_the_same_command_continues(room, what, audio, tmp_path):
    command = [sys.executable, "-m", "hear_byols", "pretrain", "--data", str(audio), "--output", str(tmp_path / "run")]
    command += [*QUICK, "--encoder", "cnn", "--steps", "1"]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    full = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert full.returncode == 2
    assert re.fullmatch(
        rf"hear-byols: error: .*{what}\S* cannot be written \(.+\); make room, the same command continues\n",
        full.stderr,
    )
    assert not list((tmp_path / "run").rglob("*.part*"))
    assert subprocess.run(command).returncode == 0
    assert hear_byols.load_model(tmp_path / "run/encoder.pth").provenance["training"]["steps"] == 1


def test_folders_that_cannot_be_are_one_error(audio, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"x")
    for options in (
        ["--output", str(tmp_path / "file")],
        ["--output", str(tmp_path / "run"), "--cache", str(tmp_path / "file")],
    ):
        assert main(["pretrain", "--data", str(audio), *QUICK, "--encoder", "cnn", "--steps", "1", *options]) == 2
        assert "file cannot be written (File exists)" in capsys.readouterr().err


# The ratios and the other window lengths differ from one of these in numbers only, which test_config.py checks.
KINDS = ("byol_s", "byol_s_500ms", "byol_s_resnetish34", "byol_s_clstm", "hybrid_cvt")
SHIPPED = ("cnn_hybrid_first", "cnn_byols", "cvt_hybrid", "cvt_byols")


@pytest.mark.parametrize("preset", [*KINDS, *SHIPPED])
def test_every_kind_of_preset_trains_two_steps(preset, audio, bands, tmp_path):
    hybrid = PRESETS[preset].settings.get("targets", "none") != "none"
    targets = ["--targets", bands, "--feature-crops", "8"] if hybrid else []
    small = ["--batch-size=2", "--steps=2", "--set", "head_hidden=8", "log_steps=1"]
    if hybrid and preset in SHIPPED:  # what only several teachers have
        small += ["part_weight=0", "teacher_components=0", "equalizer=0", 'layers="last"']
    quick = ["--device=cpu", "--threads=1", "--quiet"]
    output = tmp_path / "run"
    paths = ["--data", str(audio), "--output", str(output)]
    assert main(["pretrain", "--preset", preset, *paths, *targets, *small, *quick]) == 0
    assert [line["step"] for line in read_log(output / "log.csv")] == [1, 2]
    assert hear_byols.load_model(output / "encoder.pth").provenance["training"]["preset"] == preset


def test_a_preset_of_two_runs_trains_one_after_the_other(audio, bands, tmp_path):
    small = ["--batch-size=2", "--feature-crops=8", "--set", "head_hidden=8", "log_steps=1", 'layers="last"']
    small += ["part_weight=0", "teacher_components=0", "equalizer=0", "--device=cpu", "--threads=1", "--quiet"]
    output = tmp_path / "run"
    command = ["pretrain", "--preset=cnn_hybrid", f"--data={audio}", f"--output={output}", f"--targets={bands}", *small]
    assert main([*command, "--steps=2", "--max-minutes=0"]) == 0
    assert len(read_log(output / "first" / "log.csv")) == 1
    assert not (output / "encoder.pth").exists()  # the time is up before the second
    for _ in range(2):
        assert main([*command, "--steps=2"]) == 0
        assert [len(read_log(folder / "log.csv")) for folder in (output / "first", output)] == [2, 2]
    first, last = (hear_byols.load_model(folder / "encoder.pth") for folder in (output / "first", output))
    told = [model.provenance["training"] for model in (first, last)]
    assert [training["preset"] for training in told] == ["cnn_hybrid_first", "cnn_hybrid"]
    assert [training["settings"]["seed"] for training in told] == [42, 43]
    assert main([*command, "--steps=0", "--learning-rate=0"]) == 2  # another run is in the folder
    still = tmp_path / "still"
    command = [option.replace(str(output), str(still)) for option in command]
    assert main([*command, "--steps=1", f"--init={output / 'first' / 'encoder.pth'}", "--learning-rate=0"]) == 0
    assert not (still / "first").exists()
    begun = hear_byols.load_model(still / "encoder.pth").encoder.state_dict()
    assert all(
        torch.equal(value, begun[name]) for name, value in first.encoder.state_dict().items() if "weight" in name
    )


def test_hybrid_is_supervised_by_opensmile(audio, tmp_path):
    pytest.importorskip("opensmile")
    options = "--encoder", "cnn", "--targets", "opensmile", "--feature-crops", "4", "--steps", "2", "--workers", "2"
    assert pretrain(audio, tmp_path / "run", *options) == 0
    assert all(0 < line["loss_supervised"] < 25 for line in read_log(tmp_path / "run/log.csv"))
    provenance = hear_byols.load_model(tmp_path / "run/encoder.pth").provenance
    assert "openSMILE" in provenance["notice"]
    assert provenance["training"]["method"] == "Hybrid BYOL-S"


def test_two_devices_are_two_processes(audio, tmp_path):
    """The usual launch, by the command itself."""
    command = [sys.executable, "-m", "hear_byols", "pretrain", "--data", str(audio), "--output", str(tmp_path / "run")]
    options = ["--encoder", "cnn", "--steps", "2", "--devices", "2", *QUICK]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in read_log(tmp_path / "run/log.csv")] == [1, 2]
    provenance = hear_byols.load_model(tmp_path / "run/encoder.pth").provenance
    assert provenance["training"]["hardware"].startswith("2 ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "no such file or folder"),
        (["--preset", "hybrid"], "no preset is called 'hybrid'"),
        (["--batch-size", "1"], "batch_size must be at least 2"),
        (["--set", "batchsize=1"], "no such setting: batchsize"),
        (["--set", "batch_size='x'"], "batch_size must be like 256"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--targets", "no_such_module"], "cannot be loaded as a HEAR module"),
        (["--device", "tpu"], "cannot train on"),
    ],
)
def test_faults_end_in_one_line(options, message, audio, tmp_path, capsys):
    assert main(["pretrain", "--data", str(audio), "--output", str(tmp_path / "run"), "--quiet", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("hear-byols: error: ")
    assert len(error.splitlines()) == 1


def test_another_run_in_the_folder_is_not_overwritten(audio, tmp_path, capsys):
    assert pretrain(audio, tmp_path / "run", "--encoder", "cnn", "--steps", "1") == 0
    before = (tmp_path / "run/log.csv").read_bytes()
    assert pretrain(audio, tmp_path / "run", "--encoder", "cnn", "--steps", "1", "--seed", "1") == 2
    assert "has seed=42, this one 1" in capsys.readouterr().err
    assert (tmp_path / "run/log.csv").read_bytes() == before


def test_a_run_writes_its_settings_and_they_make_it_again(audio, tmp_path):
    options = "--preset", "byol_s", "--steps", "2", "--seed", "3", "--set", "fader=0.5"
    assert pretrain(audio, tmp_path / "first", *options) == 0
    paths = ["--data", str(audio), "--output", str(tmp_path / "second"), "--device=cpu", "--threads=1", "--quiet"]
    assert main(["pretrain", "--config", str(tmp_path / "first/run.toml"), *paths]) == 0
    first, second = (read_checkpoint(tmp_path / name / "encoder.pth") for name in ("first", "second"))
    assert all(torch.equal(value, second.state_dict[name]) for name, value in first.state_dict.items())
    assert first.provenance["training"]["settings"] == second.provenance["training"]["settings"]


def test_a_run_continues_from_the_encoder_of_another(audio, tmp_path):
    assert pretrain(audio, tmp_path / "first", "--encoder", "cnn", "--steps", "2") == 0
    init = str(tmp_path / "first/encoder.pth")
    still = "--steps", "1", "--learning-rate", "0", "--init", init
    assert pretrain(audio, tmp_path / "second", "--encoder", "cnn", *still) == 0
    first, second = (read_checkpoint(tmp_path / name / "encoder.pth") for name in ("first", "second"))
    assert torch.equal(first.state_dict["fc1.weight"], second.state_dict["fc1.weight"])
    assert pretrain(audio, tmp_path / "third", "--encoder", "cvt", "--steps", "1", "--init", init) == 2


def test_options_of_the_command_stay_few(capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    options = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert len(options) <= 25


def test_a_second_run_in_the_folder_is_refused_and_what_a_killed_one_left_is_removed(audio, tmp_path, capsys):
    left = [tmp_path / "run" / name for name in (".a.part.csv", "states/.b.part.pt", "cache/.c.part.npy")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    with FileLock(tmp_path / "run/.lock"):
        assert pretrain(audio, tmp_path / "run", "--encoder", "cnn", "--steps", "1") == 2
    assert "another process trains in" in capsys.readouterr().err
    assert pretrain(audio, tmp_path / "run", "--encoder", "cnn", "--steps", "1") == 0
    assert not [path for path in left if path.exists()]
