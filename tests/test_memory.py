"""Long audio in bounded memory: beyond the input and the result, nothing grows with the length."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hear_byols._util.memory import peak_memory

GIGABYTE, MEGABYTE = 10**9, 10**6


def run(program: str, *arguments: Any) -> Any:
    """What a program prints, as JSON, that runs in a process of its own."""
    command = [sys.executable, "-c", program, *map(json.dumps, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


PROGRAM = """
import json, sys
import torch, hear_byols
from hear_byols._util.memory import peak_memory
call, n_clips, seconds, name, options = map(json.loads, sys.argv[1:])
model = hear_byols.load_model(name, **options)
audio = torch.rand(n_clips, int(seconds * 16000)).sub_(0.5)
out = getattr(model, call)(audio)
peak = peak_memory()
vectors = out[0] if isinstance(out, tuple) else out
assert torch.isfinite(vectors).all()
print(json.dumps({"peak": peak, "own": vectors.nbytes + audio.nbytes, "shape": list(vectors.shape)}))
"""


def measure(call: str, n_clips: int, seconds: float, name: str, **options: Any) -> dict[str, Any]:
    """Embed noise; the peak memory, and the size of input and result, in bytes."""
    return run(PROGRAM, f"{call}_embeddings", n_clips, seconds, name, options)


@pytest.mark.memory
def test_ten_minutes_as_one_cvt_scene():
    """The original cannot: its score matrix alone would take 58 GB (the paper's Beehive states, Table 6)."""
    result = measure("scene", 1, 600, "random_cvt")
    assert result["shape"] == [1, 2048]
    assert result["peak"] < 2 * GIGABYTE


@pytest.mark.memory
def test_a_long_scene_of_a_local_encoder_takes_the_memory_of_its_samples():
    short, long = (measure("scene", 1, seconds, "random_cnn", layers="multi") for seconds in (240, 720))
    # A seventh of a gigabyte for the allocator; the maps of eight minutes would be four times that.
    assert long["peak"] - short["peak"] < long["own"] - short["own"] + 0.15 * GIGABYTE


@pytest.mark.memory
def test_twenty_minutes_of_timestamps():
    """With windows of 0.2 s, to be quick; 1 s windows take the same memory."""
    short, long = (measure("timestamp", 1, seconds, "random_cvt", frame_ms=200) for seconds in (120, 1200))
    assert long["shape"] == [1, 24001, 2048]
    assert long["peak"] < 2 * GIGABYTE
    # 25 % for the allocator; a second copy of the audio would be 28 %, of the result 72 %, all windows at once 5000 %.
    assert long["peak"] - short["peak"] < 1.25 * (long["own"] - short["own"])


@pytest.mark.memory
def test_many_clips_are_embedded_in_bounded_batches():
    """Twenty minutes of them take no more than one of 0.06 s, but for input and result."""
    one, many = measure("scene", 1, 0.06, "random_cnn"), measure("scene", 240, 5, "random_cnn")
    assert many["shape"] == [240, 2048]
    assert many["peak"] - one["peak"] - many["own"] < 0.35 * GIGABYTE


STREAM = """
import json, torch
from hear_byols.config import EncoderConfig, ModelConfig, NormalizationConfig
from hear_byols._util.memory import peak_memory
from hear_byols.model import EmbeddingModel
from hear_byols.streaming import StreamingEmbedder
config = ModelConfig(EncoderConfig("cnn", 32), normalization=NormalizationConfig("dataset", -5.0, 4.0))
embedder = StreamingEmbedder(EmbeddingModel(config, frame_ms=200, hop_ms=20_000))
n_windows, peaks = 0, []
for hours in (0.1, 1.5):
    while embedder.n_samples < hours * 3600 * 16000:
        n_windows += len(embedder.feed(torch.zeros(10 * 16000))[1])
    peaks.append(peak_memory())
print(json.dumps([n_windows, *peaks]))
"""


def test_a_stream_does_not_grow_over_hours():
    """Between six minutes and an hour and a half; the signal alone would be 320 MB."""
    n_windows, before, after = run(STREAM)
    assert n_windows == 270
    assert after - before < 20 * MEGABYTE


# What is measured with


def test_peak_memory_is_the_most_that_was_held_and_not_a_childs():
    held = np.ones(2 * peak_memory(), np.uint8)  # beyond anything before
    size = held.nbytes
    assert size < peak_memory() < 2.5 * size
    child = run("from hear_byols._util.memory import peak_memory; print(peak_memory())")
    assert 5 * MEGABYTE < child < size
    del held
    assert peak_memory() > size


@pytest.mark.skipif(sys.platform != "linux", reason="an option of glibc")
def test_a_process_that_keeps_freed_memory_does_not_ask_for_it_again():
    program = """
import resource, torch
from hear_byols._util.memory import keep_freed_memory
torch.set_num_threads(1)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def count():
    for _ in range(20):  # the allocator settles where the block goes
        torch.ones(10_000_000)
    before = faults()
    for _ in range(10):
        torch.ones(10_000_000)
    return faults() - before
first = count()
keep_freed_memory()
print([first, count()])
"""
    before, after = run(program)
    assert after < 0.1 * before
