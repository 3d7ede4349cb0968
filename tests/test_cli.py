"""The command: exit statuses, what goes to which stream, and each subcommand."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from extraction import MODEL, noise, recorded, write_corpus

import hear_byols
from hear_byols._util.files import file_digest
from hear_byols.cli.main import COMMANDS, main
from hear_byols.weights import registry
from hear_byols.weights.records import WeightRecord

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def corpus(tmp_path):
    write_corpus(tmp_path / "in", 3)
    return tmp_path / "in"


def embed(*args: object) -> int:
    return main(["embed", "--model", MODEL, *map(str, args)])


# Starting


def test_help_is_quick_and_imports_nothing_heavy():
    program = (
        "import sys\n"
        "from hear_byols.cli.main import build_parser, COMMANDS\n"
        "for arguments in [['--help'], *([name, '--help'] for name in COMMANDS)]:\n"
        "    try:\n"
        "        build_parser().parse_args(arguments)\n"
        "    except SystemExit as status:\n"
        "        if status.code != 0: raise\n"
        "heavy = {'torch', 'soundfile', 'soxr', 'huggingface_hub', 'tqdm', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)\n"
    )
    for flags in ([], ["-OO"]):  # without docstrings too
        result = subprocess.run([sys.executable, *flags, "-c", program], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        for name in COMMANDS:
            assert f"usage: hear-byols {name}" in result.stdout


def test_wrong_usage_is_status_2_and_the_version_is_told(capsys):
    for arguments in ([], ["dance"], ["embed"], ["embed", "x.wav"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: hear-byols" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"hear_byols {hear_byols.__version__}\n"


# embed


def test_embed_says_what_it_did_on_standard_error(corpus, tmp_path, capsys):
    """And names what it could not read, even when quiet; without a terminal there is no progress bar."""
    out = tmp_path / "out"
    assert embed(corpus, "--output", out) == 0
    assert capsys.readouterr() == ("", f"embedded 3 files into {out}\n")
    assert embed(corpus, "--output", out) == 0
    assert capsys.readouterr() == ("", f"embedded 0 files into {out}, 3 were there already\n")
    (corpus / "bad.wav").write_text("not audio")
    for quiet in ([], ["--quiet"]):
        assert embed(corpus, "--output", out, *quiet) == 1
        line, *summary = capsys.readouterr().err.splitlines()
        assert line.startswith(f"hear-byols: not embedded: bad.wav: {corpus / 'bad.wav'}: cannot be read as audio")
        assert len(summary) == (not quiet)


def test_all_options_of_embed_reach_the_model(corpus, tmp_path):
    options = "--timestamps --frame-ms 500 --hop-ms 100 --normalization original --precision bfloat16"
    options += " --layers multi --batch-size 2"
    arguments = [*options.split(), "--device", "cpu", "--format", "npy", "--relative-to", tmp_path, "--quiet"]
    assert embed(corpus, "--output", tmp_path / "out", *arguments) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    wanted = {"timestamps": True, "frame_ms": 500, "hop_ms": 100, "normalization": "original", "precision": "bfloat16"}
    wanted["embedding_size"] = 3584  # of layers "multi"
    assert wanted.items() <= manifest.items()
    assert (manifest["format"], manifest["about"]["batch_size"], manifest["about"]["device"]) == ("npy", 2, "cpu")
    assert recorded(tmp_path / "out")[0] == "in/a/clip00.flac"
    assert embed(corpus, "--output", tmp_path / "out") == 2  # other settings
    assert embed(corpus, "--output", tmp_path / "out", "--overwrite") == 0
    assert len(recorded(tmp_path / "out")) == 3


def test_errors_are_one_line_with_status_2_before_anything_is_written(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file, out = tmp_path / "file", tmp_path / "out"
    file.touch()
    for arguments, message in (
        ([corpus, "-o", file / "out"], "out cannot be written (Not a directory)"),
        ([corpus, "-o", out, "--format", "mat"], "format must be one of npz, npy, parquet, csv; got 'mat'"),
        ([corpus, "-o", out, "--format", "parquet"], "pip install 'hear_byols[parquet]'"),
        ([corpus, "-o", out, "--device", "toaster"], "device 'toaster' is not available"),
        ([corpus, "-o", out, "--device", "cuda:99"], "device 'cuda:99' is not available"),
        ([corpus, "-o", out, "--batch-size", 0], "batch_size must be a positive integer"),
        ([corpus, "-o", out, "--hop-ms", -1], "hop_ms must be"),
        ([file / "..", "-o", out, "--relative-to", corpus / "a"], "does not lie in"),
        ([corpus, "-o", out, "--model", "cvt_hybird"], "did you mean"),
    ):
        assert embed(*arguments) == 2
        shown, told = capsys.readouterr()
        assert told.startswith("hear-byols: error: ")
        assert message in told
        assert (told.count("\n"), shown) == (1, "")
    assert not out.exists()


def test_a_terminal_gets_a_progress_bar_unless_quiet(corpus, tmp_path, monkeypatch):
    for quiet in ([], ["--quiet"]):
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", terminal)
        assert embed(corpus, "--output", tmp_path / f"out{quiet}", *quiet) == 0
        shown = terminal.getvalue()
        assert (shown == "") if quiet else ("3/3" in shown)


def test_ctrl_c_is_status_130_at_once_and_the_same_command_continues(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(80):  # a group of 64 short ones, and one that takes a while
        soundfile.write(tmp_path / "in" / f"{i:02}.wav", noise(0.3 if i < 64 else 4, seed=i), 16000)
    command = [sys.executable, "-m", "hear_byols", "embed", tmp_path / "in", "-o", tmp_path / "out", "-m", MODEL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # shells start background jobs deaf to Ctrl-C
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heeding)
    while not (tmp_path / "out" / "index.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "hear-byols: interrupted; the same command continues from what is recorded\n"
    assert len(recorded(tmp_path / "out")) == 64
    assert embed(tmp_path / "in", "--output", tmp_path / "out") == 0
    assert len(recorded(tmp_path / "out")) == 80


def test_a_reader_that_goes_away_is_no_traceback():
    command = f"{sys.executable} -m hear_byols models | true"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stderr == ""


# models, info, verify, demo


def test_models_lists_the_zoo(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "encoder", "size", "source", "local", "commercial", "use", "licence"]
    assert [line.split()[0] for line in lines[1:]] == hear_byols.list_models()
    assert main(["models", "random_c*"]) == 0
    found = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]]
    assert found == [["random_clstm", "clstm", "1024"], ["random_cnn", "cnn", "2048"], ["random_cvt", "cvt", "2048"]]
    assert main(["models", "nothing*"]) == 2
    assert main(["models", "random_*", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["name"] for record in records] == hear_byols.list_models("random_*")
    assert records[0]["local"] is None
    assert not records[0]["default"]


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "mine.pth"
    model = hear_byols.load_model(MODEL)
    hear_byols.save_checkpoint(path, model.config, model.encoder.state_dict(), {"name": "mine", "steps": 7})
    return path


def test_info_describes_a_checkpoint(checkpoint, capsys):
    assert main(["info", str(checkpoint), "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    model = hear_byols.load_model(checkpoint)
    assert description == {
        "name": None,
        "file": str(checkpoint),
        "bytes": checkpoint.stat().st_size,
        "sha256": file_digest(checkpoint),
        "n_parameters": sum(parameter.numel() for parameter in model.encoder.parameters()),
        "sample_rate": 16000,
        "scene_embedding_size": 2048,
        "timestamp_embedding_size": 2048,
        "config": model.config.to_dict(),
        "provenance": {"name": "mine", "steps": 7},
    }
    assert main(["info", str(checkpoint)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (lines["sha256"], lines["provenance.steps"]) == (description["sha256"], "7")
    assert main(["info", "cnn_hybrid"]) == 0
    sources = [line for line in capsys.readouterr().out.splitlines() if line.startswith("provenance.data ")]
    assert len(sources) == len(hear_byols.load_model("cnn_hybrid").provenance["data"]) > 5
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert main(["info", str(checkpoint)]) == 2


def test_verify_finds_weights_that_are_wrong_absent_or_give_no_numbers(checkpoint, tmp_path, monkeypatch, capsys):
    """In a zoo of one downloadable file, which lies in the cache."""
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path))
    good = checkpoint.read_bytes()
    digest, url = file_digest(checkpoint), "http://localhost/mine.pth"
    record = WeightRecord("mine", "cnn", 2048, "url", "mine.pth", url, digest, len(good))
    monkeypatch.setattr(registry, "_RECORDS", (record,))
    monkeypatch.setattr(registry, "_BY_NAME", {"mine": record})

    def verify(status: int, *names: str) -> str:
        assert main(["verify", *names]) == status
        return capsys.readouterr().out

    assert verify(0).startswith(f"ok      mine: {checkpoint} ({len(good)} bytes, sha256 ")
    verify(0, "mine")
    verify(2, "yours")
    with monkeypatch.context() as patch:
        patch.setattr("hear_byols.model.EmbeddingModel.scene_embeddings", lambda self, audio: audio * torch.nan)
        assert "not finite" in verify(1)
    middle = len(good) // 2
    checkpoint.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    assert verify(1).startswith(f"FAULT   mine: {checkpoint} is not the file of record 'mine': its sha256 is")
    checkpoint.unlink()
    assert verify(0) == "absent  mine: not on this machine\n"
    verify(1, "mine")  # a fault where it was asked for


@pytest.mark.parametrize("model", ["cnn_hybrid", "cvt_hybrid"])
def test_the_demo_finds_the_other_sound_of_a_kind(tmp_path, capsys, model):
    """Its sounds are the same every time, audible, and of eight kinds of file."""
    demo, heard = tmp_path / "demo", []
    for _ in range(1 if model == "cnn_hybrid" else 2):  # again over its own output
        assert main(["demo", "--output", str(demo), "--model", model]) == 0
        table, _, rest = capsys.readouterr().out.partition("\n\n")
        heard.append({path.name: soundfile.read(path, always_2d=True) for path in (demo / "audio").iterdir()})
    sounds = heard[0]
    for name, (audio, rate) in sounds.items():
        assert 1.5 <= len(audio) / rate <= 3
        assert 0.1 < np.abs(audio).max() < 0.999
        np.testing.assert_array_equal(audio, heard[-1][name][0])
    assert len({(name[-4:], rate, audio.shape[1]) for name, (audio, rate) in sounds.items()}) == 8
    rows = [line.split() for line in table.splitlines()[1:]]
    assert {row[0] for row in rows} == sounds.keys()
    for name, nearest, cosine, after in rows:
        assert name != nearest
        assert name.split("_")[0].split(".")[0] == nearest.split("_")[0].split(".")[0]
        assert 1 > float(cosine) > float(after)
    assert str(demo / "embeddings") in rest
    page = (demo / "demo.html").read_text()
    assert set(re.findall(r'<audio controls src="audio/([^"]+)">', page)) == sounds.keys()
    assert len(re.findall("<td style", page)) == len(sounds) ** 2
    assert all(f">{cosine}</td>" in page for _, _, cosine, _ in rows)
