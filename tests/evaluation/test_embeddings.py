"""Embeddings of tasks, kept on disk."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from task_folders import event, scene_task, tone, write_clip, write_event_task

from hear_byols.audio import load_audio
from hear_byols.errors import InputError, OutputError, TaskError
from hear_byols.evaluation.adapters import logmel
from hear_byols.evaluation.embeddings import Cost, audio_digest, batch_size, embed_task, read_embeddings
from hear_byols.evaluation.models import ModelSpec
from hear_byols.evaluation.tasks import read_task
from hear_byols.evaluation.worker import ModelCrashError, embed_apart, known_folder


@pytest.fixture
def task(tmp_path):
    return read_task(scene_task(tmp_path, n=2))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def embed(task, cache, module=logmel):
    """What the cache holds after a run."""
    embed_task(module, logmel.load_model(), task, cache, device="cpu")
    return read_embeddings(cache)


def alone(function, task, clip):
    """What a function of the log-mel module gives for one clip."""
    audio = torch.from_numpy(load_audio(task.audio_path(clip, 16000)))[None]
    return function(audio, logmel.load_model())


def test_scene_embeddings_are_those_of_each_clip_alone(task, cache, one_thread):
    found = embed(task, cache)
    for clip in task.all_clips()[::5]:
        expected = alone(logmel.get_scene_embeddings, task, clip)[0]
        np.testing.assert_allclose(found.vectors[clip.split, clip.name], expected, rtol=1e-4, atol=1e-4)
    assert (found.cost.audio_seconds, found.cost.device) == (9.0, "cpu, 1 thread")
    assert found.cost.seconds > 0
    assert found.cost.peak_bytes > 1e8


def test_timestamp_embeddings_keep_their_times_whatever_the_length(tmp_path, cache):
    events = [event("x", 0, 100)]
    task = read_task(write_event_task(tmp_path, {"short.wav": events, "long.wav": events}))
    lengths = {clip: 11 if "short" in clip.name else 16 for clip in task.all_clips()}
    for seed, (clip, n) in enumerate(lengths.items()):
        write_clip(task.folder, clip.split, clip.name, tone(500, seconds=0.05 * (n - 1), seed=seed))
    found = embed(task, cache)
    for clip, n in lengths.items():
        assert found.timestamps[clip.split, clip.name].tolist() == [50.0 * i for i in range(n)]
        expected = alone(logmel.get_timestamp_embeddings, task, clip)[0][0]
        np.testing.assert_allclose(found.vectors[clip.split, clip.name], expected, rtol=1e-4, atol=1e-4)


def test_a_part_that_cannot_be_written_or_read_is_one_error(task, cache, monkeypatch):
    def fill(path, **content):
        Path(path).write_bytes(bytes(100))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fill)
        with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)):
            embed(task, cache)
    assert not list(cache.glob("part-*"))
    embed(task, cache)
    (part,) = cache.glob("part-*.npz")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(OutputError, match=r"part-00000-\w+.npz cannot be read .* delete it and run again"):
        read_embeddings(cache)


def test_embeddings_that_break_the_api_are_refused(task, cache):
    for result, says in (
        (lambda audio, _: torch.zeros(len(audio), 3, 3), "have the shape"),
        (lambda audio, _: torch.zeros(1, 3), "have the shape"),
        (lambda audio, _: torch.full((len(audio), 3), torch.nan), "train_low0.wav: the model's embedding holds NaN"),
    ):
        with pytest.raises(InputError, match=says):
            embed(task, cache, SimpleNamespace(get_scene_embeddings=result))


def test_audio_that_is_missing_or_of_another_rate_is_refused(task, cache):
    with pytest.raises(TaskError, match=r"no audio at 48000 Hz.*tasks resample .* --rate 48000"):
        audio_digest(task, 48000)
    place = task.folder / "16000/test/test_low0.wav"
    place.unlink()
    with pytest.raises(TaskError, match=r"test_low0.wav is missing; .*tasks check"):
        audio_digest(task, 16000)
    write_clip(task.folder, "test", place.name, tone(300, rate=8000), rate=8000).replace(place)
    with pytest.raises(InputError, match="has 8000 Hz, its folder's name says 16000 Hz"):
        embed(task, cache)


def test_batches_are_as_large_as_the_kits_and_costs_of_parts_add_up():
    assert [batch_size(seconds, 16000) for seconds in (1, 5, 10, 120, 600)] == [84, 16, 8, 1, 1]
    assert batch_size(5, 48000) == 5
    assert Cost(1, 10, 200, "cpu") + Cost(2, 10, 100, "cpu") == Cost(3, 10, 200, "cpu")


FRAGILE = """
import os, signal, time
from pathlib import Path
from hear_byols.evaluation import embeddings
from hear_byols.evaluation.adapters import logmel
from hear_byols.evaluation.adapters.logmel import get_timestamp_embeddings

calls = []

def load_model():
    embeddings._PART_SECONDS = 0.0
    embeddings.batch_size = lambda *_: 2
    return logmel.load_model()

def get_scene_embeddings(audio, model):
    calls.append(len(audio))
    if len(calls) == 4:
        exec(os.environ["FOURTH"])
    with open(Path(__file__).with_name("calls.txt"), "a") as file:
        print(len(audio), file=file)
    return logmel.get_scene_embeddings(audio, model)
"""


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    """A model that does at its fourth batch what the environment says."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/fragile_module.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield ModelSpec("fragile_module")
    sys.modules.pop("fragile_module", None)  # its file goes with this test's folder


def calls(tmp_path: Path) -> list[int]:
    return [int(line) for line in (tmp_path / "modules/calls.txt").read_text().split()]


def test_a_crash_takes_nothing_with_it_and_the_next_run_goes_on(fragile, task, tmp_path, cache, monkeypatch):
    for action, says in (
        ("os.kill(os.getpid(), signal.SIGKILL)", r"ended by SIGKILL \(out of memory\?\)"),
        ("raise ValueError('no more, please')", "ValueError: no more, please"),
    ):
        monkeypatch.setenv("FOURTH", action)
        with pytest.raises(ModelCrashError, match=says):
            embed_apart(fragile, task, cache, device="cpu")
        assert known_folder(fragile, task, cache) is None
    monkeypatch.setenv("FOURTH", "")
    folder = embed_apart(fragile, task, cache, device="cpu")
    assert calls(tmp_path) == [2, 2, 2] * 3
    assert known_folder(fragile, task, cache) == folder
    assert len(read_embeddings(folder).vectors) == 18
    assert not list(folder.glob(".*.part*"))
    next(folder.glob("part-*")).unlink()
    assert known_folder(fragile, task, cache) is None


@pytest.mark.usefixtures("fragile")
def test_the_process_that_embeds_ends_with_the_one_that_asked(task, tmp_path):
    wait = "print('waiting', flush=True); time.sleep(300)"
    environment = {**os.environ, "FOURTH": wait, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    evaluate = ["evaluate", "-m", "fragile_module", "-t", task.folder, "-o", tmp_path / "out", "--device", "cpu"]
    command = [sys.executable, "-m", "hear_byols", *evaluate]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "waiting\n"
        parent.kill()
        assert parent.stdout.read() == ""  # which is at its end when no process holds it any more
    assert calls(tmp_path) == [2, 2, 2]
