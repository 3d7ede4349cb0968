"""Long audio in bounded memory: beyond the input and the result, nothing grows with the length."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.memory
GIGABYTE = 1e9

PROGRAM = """
import json, sys
import torch, hear_byols
from hear_byols._util.memory import peak_memory
call, minutes, name, options = sys.argv[1], float(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
model = hear_byols.load_model(name, **options)
audio = torch.rand(1, int(minutes * 60 * 16000)).sub_(0.5)
out = getattr(hear_byols, call)(audio, model)
peak = peak_memory()
vectors = out[0] if isinstance(out, tuple) else out
assert torch.isfinite(vectors).all()
print(json.dumps({
    "peak": peak,
    "own": vectors.nbytes + audio.nbytes,
    "shape": list(vectors.shape),
}))
"""


def measure(call: str, minutes: float, name: str, **options) -> dict:
    """Embed noise in a process of its own; its peak memory and the size of input and result, in bytes."""
    command = [sys.executable, "-c", PROGRAM, call, str(minutes), name, json.dumps(options)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_ten_minutes_as_one_cvt_scene():
    """The original cannot: its score matrix alone would take 58 GB (the paper's Beehive states, Table 6)."""
    result = measure("get_scene_embeddings", 10, "random_cvt")
    assert result["shape"] == [1, 2048]
    assert result["peak"] < 2 * GIGABYTE


def test_twenty_minutes_of_timestamps():
    """With windows of 0.2 s, to be quick; 1 s windows take the same memory."""
    short = measure("get_timestamp_embeddings", 2, "random_cvt", frame_ms=200)
    long = measure("get_timestamp_embeddings", 20, "random_cvt", frame_ms=200)
    assert long["shape"] == [1, 24001, 2048]
    assert long["peak"] < 2 * GIGABYTE
    # 25 % for the allocator; a second copy of the audio would be 28 %, of the result 72 %, all windows at once 5000 %.
    assert long["peak"] - short["peak"] < 1.25 * (long["own"] - short["own"])


def test_many_clips_are_embedded_in_bounded_batches():
    """A batch of an hour of 5 s clips takes no more than a batch of a minute, but for input and result."""
    result = measure("get_scene_embeddings", 0.001, "random_cnn")
    program = PROGRAM.replace(
        "torch.rand(1, int(minutes * 60 * 16000))", "torch.rand(int(minutes), 80000)"
    )  # minutes counts clips here
    command = [sys.executable, "-c", program, "get_scene_embeddings", "240", "random_cnn", "{}"]
    many = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert many["shape"] == [240, 2048]
    assert many["peak"] - result["peak"] - many["own"] < 0.35 * GIGABYTE
