"""Streams: chunks of any size give the offline windows, each as early as can be."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from untrained import assert_same, make_model

import hear_byols
from hear_byols.errors import InputError, OptionError
from hear_byols.model import EmbeddingModel
from hear_byols.streaming import StreamingEmbedder

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(first: int, stop: int) -> torch.Tensor:
    """Samples of an endless signal, the same whatever the stretch: hashed positions."""
    positions = np.arange(first, stop, dtype=np.uint64)
    mixed = (positions * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return torch.from_numpy(mixed.astype(np.float32) / 2**24 - 0.5)


def stream(embedder: StreamingEmbedder, chunks: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Feed all, finish, and join what came."""
    parts = [embedder.feed(chunk) for chunk in chunks]
    parts.append(embedder.finish())
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def assert_offline(model: EmbeddingModel, audio: torch.Tensor, got: tuple[torch.Tensor, torch.Tensor]) -> None:
    wanted, times = model.timestamp_embeddings(audio[None])  # equal to window by window: test_overlap
    assert_same(got[0], wanted[0], 1e-5)
    assert got[1].dtype == torch.float64
    torch.testing.assert_close(got[1].float(), times[0], rtol=0, atol=0)


# The offline result


@settings(max_examples=12, deadline=None)
@given(
    options=st.fixed_dictionaries(
        {
            "frame_ms": st.floats(85, 700),
            "hop_ms": st.sampled_from([5, 7, 10, 12.5, 33.3, 50, 100, 250, 700]),
            "layers": st.sampled_from(["last", "multi", "heads"]),
        }
    ),
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=5),
)
@example({}, [0, 7, 15999, 16000, 0, 1, 20001])
@example({}, [800] * 65)
@example({}, [0])
@example({}, [700, 98])
@example({}, [7999])
@example({"frame_ms": 1000.03, "hop_ms": 1000 / 3}, [30011])
@example({"encoder": "cvt", "hop_ms": 250}, [4096] * 7)
def test_chunks_of_any_size_give_the_offline_result(options, sizes):
    """Also of streams shorter than a window, of windows and hops that are no whole samples, and with gaps."""
    model, audio = make_model(**options), noise(0, sum(sizes) + 1)
    assert_offline(model, audio, stream(StreamingEmbedder(model), audio.split([*sizes, 1])))


def test_an_unheard_stream_has_no_windows():
    embedder = StreamingEmbedder(make_model())
    vectors, times = stream(embedder, [torch.empty(0)])
    assert (vectors.shape, times.shape) == ((0, 32), (0,))


# As soon as a window is complete


def test_a_window_comes_with_its_last_sample_and_not_before():
    model = make_model(hop_ms=50)
    embedder = StreamingEmbedder(model)
    assert embedder.feed(noise(0, 7999))[1].tolist() == []
    assert embedder.feed(noise(7999, 8000))[1].tolist() == [0]  # centred on the first sample: half a window later
    assert embedder.feed(noise(8000, 8799))[1].tolist() == []
    assert embedder.feed(noise(8799, 8800))[1].tolist() == [50]
    assert embedder.feed(noise(8800, 10400))[1].tolist() == [100, 150]
    assert embedder._held.untyped_storage().nbytes() < 4 * (16000 + 800)  # no more than a window and a hop
    assert embedder.finish()[1].tolist() == [50.0 * i for i in range(4, 14)]  # 10400 samples are 650 ms


# Hours


def test_positions_are_exact_after_hours():
    """Windows 61.7 s apart, 2.5 h into the stream, are those of the samples that they name."""
    model = make_model(hop_ms=61700.1)
    embedder = StreamingEmbedder(model)
    n_heard, found = 0, []
    while n_heard < 9000 * 16000:
        vectors, times = embedder.feed(noise(n_heard, n_heard + 100 * 16000))
        n_heard += 100 * 16000
        found += zip(times.tolist(), vectors, strict=True)
    assert len(found) == 146
    for i in (1, 73, 145):
        time, vector = found[i]
        assert time == i * 61700.1
        centre = round(time * 16)
        wanted = model.scene_embeddings(noise(centre - 8000, centre + 8000)[None])[0]
        assert_same(vector, wanted)


# What cannot be streamed


def test_what_cannot_be_streamed_is_refused_with_the_way_out():
    remedy = r'before .* load_model\(\.\.\., normalization="dataset"\)'
    for model, words in [
        (make_model(mode="clip"), f"clip' needs the whole clip {remedy}"),
        (make_model(mode="halfway"), f"halfway' needs the whole clip {remedy}"),
        (make_model(mode="original"), f"original' needs the whole call {remedy}"),
        (hear_byols.load_model("random_cnn"), "holds no data-set statistics"),
        (hear_byols.load_model("random_cnn+random_cvt"), "stream each part by itself"),
        (torch.nn.Linear(1, 1), "got Linear"),
    ]:
        with pytest.raises(OptionError, match=words):
            StreamingEmbedder(model)


def test_a_bad_chunk_is_refused_and_the_stream_goes_on_until_it_is_finished():
    model = make_model(hop_ms=100)
    embedder = StreamingEmbedder(model)
    audio = noise(0, 20000)
    parts = [embedder.feed(audio[:9000])]
    bad = audio[9000:10000].clone()
    bad[17] = torch.nan
    for chunk, words in [
        (bad, "begins at sample 9000 of the stream holds 1 samples .* first at sample 17"),
        (torch.zeros(1, 5), r"\(n_samples,\), got \(1, 5\)"),
        (torch.zeros(5, dtype=torch.int16), "int16"),
    ]:
        with pytest.raises(InputError, match=words):
            embedder.feed(chunk)
    parts += [embedder.feed(audio[9000:]), embedder.finish()]
    assert_offline(model, audio, tuple(torch.cat(column) for column in zip(*parts, strict=True)))
    for call in (embedder.finish, lambda: embedder.feed(torch.zeros(5))):
        with pytest.raises(InputError, match="the stream is finished"):
            call()
