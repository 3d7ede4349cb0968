"""Long audio in bounded memory: beyond the input and the result, nothing grows with the length."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch

import hear_byols
from hear_byols._util.memory import keep_freed_memory, peak_memory
from hear_byols.config import EncoderConfig, ModelConfig, NormalizationConfig
from hear_byols.model import EmbeddingModel
from hear_byols.streaming import StreamingEmbedder

GIGABYTE, MEGABYTE = 10**9, 10**6


def apart(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def measure(kind: str, n_clips: int, seconds: float, name: str, **options: Any) -> tuple[int, int, tuple[int, ...]]:
    """Embed noise: the peak memory, the size of input and result, in bytes, and the result's shape."""
    model = hear_byols.load_model(name, **options)
    audio = torch.rand(n_clips, int(seconds * 16000)).sub_(0.5)
    result = getattr(model, f"{kind}_embeddings")(audio)
    peak = peak_memory()
    vectors = result[0] if kind == "timestamp" else result
    assert torch.isfinite(vectors).all()
    return peak, vectors.nbytes + audio.nbytes, tuple(vectors.shape)


@pytest.mark.memory
def test_ten_minutes_as_one_cvt_scene():
    """The original cannot: its score matrix alone would take 58 GB (the paper's Beehive states, Table 6)."""
    peak, _, shape = apart(measure, "scene", 1, 600, "random_cvt")
    assert shape == (1, 2048)
    assert peak < 2 * GIGABYTE


@pytest.mark.memory
def test_a_long_scene_of_a_local_encoder_takes_the_memory_of_its_samples():
    runs = (apart(measure, "scene", 1, seconds, "random_cnn", layers="multi") for seconds in (240, 720))
    (short, own_short, _), (long, own_long, _) = runs
    # A seventh of a gigabyte for the allocator; the maps of eight minutes would be four times that.
    assert long - short < own_long - own_short + 0.15 * GIGABYTE


@pytest.mark.memory
def test_twenty_minutes_of_timestamps():
    """With windows of 0.2 s, to be quick; 1 s windows take the same memory."""
    runs = (apart(measure, "timestamp", 1, seconds, "random_cvt", frame_ms=200) for seconds in (120, 1200))
    (short, own_short, _), (long, own_long, shape) = runs
    assert shape == (1, 24001, 2048)
    assert long < 2 * GIGABYTE
    # 25 % for the allocator; a second copy of the audio would be 28 %, of the result 72 %, all windows at once 5000 %.
    assert long - short < 1.25 * (own_long - own_short)


@pytest.mark.memory
def test_many_clips_are_embedded_in_bounded_batches():
    """Twenty minutes of them take no more than one of 0.06 s, but for input and result."""
    one, _, _ = apart(measure, "scene", 1, 0.06, "random_cnn")
    many, own, shape = apart(measure, "scene", 240, 5, "random_cnn")
    assert shape == (240, 2048)
    assert many - one - own < 0.35 * GIGABYTE


def feed_hours() -> tuple[int, list[int]]:
    """Windows of a stream, and the peak memory after six minutes and after an hour and a half."""
    config = ModelConfig(EncoderConfig("cnn", 32), normalization=NormalizationConfig("dataset", -5.0, 4.0))
    embedder = StreamingEmbedder(EmbeddingModel(config, frame_ms=200, hop_ms=20_000))
    n_windows, peaks = 0, []
    for hours in (0.1, 1.5):
        while embedder.n_samples < hours * 3600 * 16000:
            n_windows += len(embedder.feed(torch.zeros(10 * 16000))[1])
        peaks.append(peak_memory())
    return n_windows, peaks


def test_a_stream_does_not_grow_over_hours():
    """The signal alone would be 320 MB."""
    n_windows, (before, after) = apart(feed_hours)
    assert n_windows == 270
    assert after - before < 20 * MEGABYTE


# What is measured with


def test_peak_memory_is_the_most_that_was_held_and_not_a_childs():
    held = np.ones(2 * peak_memory(), np.uint8)  # beyond anything before
    size = held.nbytes
    assert size < peak_memory() < 2.5 * size
    assert 5 * MEGABYTE < apart(peak_memory) < size
    del held
    assert peak_memory() > size


def count_faults() -> tuple[int, int]:
    """Pages that blocks of 40 MB ask for, before and after the process keeps what it frees."""
    import resource

    def count() -> int:
        for _ in range(20):  # the allocator settles where the block goes
            torch.ones(10_000_000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(10_000_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    torch.set_num_threads(1)
    first = count()
    keep_freed_memory()
    return first, count()


@pytest.mark.skipif(sys.platform != "linux", reason="an option of glibc")
def test_a_process_that_keeps_freed_memory_does_not_ask_for_it_again():
    before, after = apart(count_faults)
    assert after < 0.1 * before
