"""The engine ray: the files of ``hear-byols embed``, each once, whoever is killed. The clusters are real, and local."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from extraction import MODEL, recorded, write_corpus

from hear_byols import embed_to_folder, read_embeddings
from hear_byols.cli.main import main
from hear_byols.errors import OptionError
from hear_byols.extraction.files import AudioFile, collect
from hear_byols.extraction.ray import _shards, embed_with_ray

psutil = pytest.importorskip("psutil")
ray = pytest.importorskip("ray", reason='needs pip install "hear_byols[ray]"')
pytest.importorskip("pyarrow")

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_thread")]
SECONDS = 300  # in which a run must have come to its next step, however busy the machine


def start(corpus: Path, output: Path) -> subprocess.Popen:
    """The command, with a cluster of its own, in a group of processes of its own."""
    command = [sys.executable, "-m", "hear_byols", "embed", corpus, "-o", output, "--model", MODEL, "--timestamps"]
    command += ["--engine", "ray", "--workers", "2", "--device", "cpu"]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"after {SECONDS} s still no {what}"
        time.sleep(0.02)


def family(driver: subprocess.Popen) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The processes of a run, and the workers among them."""
    processes, workers = psutil.Process(driver.pid).children(recursive=True), []
    for process in processes:
        with suppress(psutil.Error):
            workers += [process] * ("(Worker)" in "".join(process.cmdline()))
    return processes, workers


def test_a_killed_driver_and_a_killed_worker_lose_and_repeat_nothing(tmp_path):
    corpus, output = tmp_path / "in", tmp_path / "out"
    names = write_corpus(corpus, 24, lengths_s=(2.5, 2.0, 1.5))
    (corpus / "a" / "bad.wav").write_bytes(b"this is no audio")

    driver = start(corpus, output)
    wait_for(lambda: recorded(output) or driver.poll() is not None, "record")
    processes, workers = family(driver)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    driver.communicate()
    first = recorded(output)
    assert 0 < len(first) < len(names)
    psutil.wait_procs(workers, timeout=SECONDS)
    assert recorded(output) == first  # workers without a driver record nothing
    for process in processes:  # the rest of the cluster goes by itself, but takes a minute
        with suppress(psutil.NoSuchProcess):
            process.kill()

    driver = start(corpus, output)
    wait_for(lambda: len(recorded(output)) > len(first) or driver.poll() is not None, "further record")
    processes, workers = family(driver)
    workers[0].kill()
    assert len(recorded(output)) < len(names)
    out, err = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 1, err  # a file could not be read
    assert all("(raylet)" in line for line in out.splitlines())  # Ray tells that a worker died
    said = [line for line in err.splitlines() if line.startswith(("hear-byols", "embedded"))]  # Ray tells it here too
    assert [line.split(":")[:3] for line in said] == [
        ["hear-byols", " not embedded", " a/bad.wav"],
        [f"embedded {len(names) - len(first)} files into {output}, {len(first)} were there already, 1 could not be"],
    ]
    assert psutil.wait_procs(processes, timeout=SECONDS)[1] == []  # the cluster has gone with the run

    assert recorded(output)[: len(first)] == first
    assert sorted(recorded(output)) == names
    report = embed_to_folder([corpus], tmp_path / "plain", model=MODEL, format="parquet", timestamps=True, device="cpu")
    assert report.n_embedded == len(names)
    ours, plain = (read_embeddings(folder) for folder in (output, tmp_path / "plain"))
    assert sorted(zip(ours.names, ours.times_ms, strict=True)) == sorted(zip(plain.names, plain.times_ms, strict=True))
    assert not list((output / "embeddings").glob(".*"))

    # The folder is that of any other run: the engine without Ray finds nothing to do in it but the bad file.
    again = embed_to_folder([corpus], output, model=MODEL, format="parquet", timestamps=True, device="cpu")
    assert (again.n_embedded, again.n_present, len(again.failures)) == (0, len(names), 1)


def test_a_cluster_of_the_users_is_used_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    names = write_corpus(tmp_path / "in", 6)
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    with ray.init(address="local", num_cpus=2, object_store_memory=100 << 20, **quiet):
        report = embed_with_ray([tmp_path / "in"], tmp_path / "out", model=MODEL, workers=1, device="cpu")
        assert (report.n_embedded, report.n_present, report.failures) == (6, 0, ())
        assert sorted(recorded(tmp_path / "out")) == names
        for options, message in (
            ({"workers": 3, "device": "cpu"}, "3 workers need a CPU each, and the cluster has 2"),
            ({"address": "10.0.0.1:6379"}, "Ray runs already in this process"),
        ):
            with pytest.raises(OptionError, match=message):
                embed_with_ray([tmp_path / "in"], tmp_path / "other", model=MODEL, **options)
        assert ray.is_initialized()


# Without a cluster


def test_shards_are_small_enough_for_all_workers_and_bounded_in_bytes(tmp_path):
    write_corpus(tmp_path, 30)
    files = collect([tmp_path])
    shards = _shards(files, n_workers=2)
    assert [file for shard in shards for file in shard] == files
    assert {len(shard) for shard in shards} == {2}
    (tmp_path / "long.wav").touch()
    os.truncate(tmp_path / "long.wav", 60 << 20)
    long = [AudioFile(name, tmp_path / "long.wav") for name in ("l1", "l2")]
    assert [len(shard) for shard in _shards([files[0], *long, *files[1:20]], n_workers=1)][:2] == [2, 3]


def test_options_that_cannot_be_and_the_missing_extra_are_named(tmp_path, capsys, monkeypatch):
    write_corpus(tmp_path / "in", 1)
    command = ["embed", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", MODEL]
    for arguments, message in (
        (["--engine", "ray", "--format", "npz"], "--engine ray writes parquet, got --format npz"),
        (["--workers", "2"], "--workers and --address belong to --engine ray"),
        (["--engine", "ray", "--workers", "0"], "workers must be a positive integer, got 0"),
        (["--engine", "ray", "--device", "tpu"], "must be auto, cpu or cuda, got 'tpu'"),
    ):
        assert main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*command, "--engine", "ray"]) == 2
    assert 'pip install "hear_byols[ray]"' in capsys.readouterr().err
