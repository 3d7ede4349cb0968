"""What the host program has set or does at the same time changes no vector, and embedding changes nothing of it."""

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from untrained import make_model, noise

import hear_byols
from hear_byols.config import EncoderConfig
from hear_byols.errors import InputError, OptionError
from hear_byols.model import EmbeddingModel
from hear_byols.streaming import StreamingEmbedder

ENCODERS = ("cnn", "cvt", "clstm")
AUDIO = noise(2, 6000)


def make(encoder: str = "cnn", mode: str = "dataset", **options) -> EmbeddingModel:
    return make_model(mode, "last", encoder, frame_ms=200, **options)


def embed(model, audio=AUDIO):
    """Vectors of every kind: of scenes, of a list, of windows and of a stream."""
    vectors = [model.scene_embeddings(audio), model.scene_embeddings([audio[0], audio[1, :3000]])]
    vectors += model.timestamp_embeddings(audio)
    if model.config.normalization.mode == "dataset":
        stream = StreamingEmbedder(model)
        vectors += [stream.feed(audio[0])[0], stream.finish()[0]]
    return vectors


def assert_same(got, expected, tolerance: float = 0.0):
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == torch.float32
        assert ours.device.type == "cpu"
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_autocast_changes_nothing(encoder):
    model = make(encoder)
    for dtype in [torch.bfloat16, torch.float16]:
        for audio in (1e-3 * AUDIO, 9 * AUDIO):
            expected = embed(model, audio)
            with torch.autocast("cpu", dtype):
                assert_same(embed(model, audio), expected)


def test_a_precision_of_ones_own_and_fine_tuning_within_autocast():
    model = make("cvt", precision="bfloat16")
    expected = model.scene_embeddings(AUDIO)
    with torch.autocast("cpu", torch.float16):
        model(AUDIO)  # fills autocast's cache with weights in float16
        assert_same([model.scene_embeddings(AUDIO)], [expected])
        model, loud = make(), 9 * AUDIO
        assert_same([model(loud)], [model.scene_embeddings(loud)], 0.02)  # the front end is in float32


def test_default_type_and_device(tmp_path):
    before, untrained = make(), hear_byols.load_model("random_cvt").state_dict()
    expected = embed(before)
    hear_byols.save_checkpoint(tmp_path / "w.pth", before.config, before.encoder.state_dict(), {})
    try:
        for dtype in [torch.float64, torch.bfloat16, torch.float16]:
            torch.set_default_dtype(dtype)
            assert {parameter.dtype for parameter in make().parameters()} == {torch.float32}
            for model in (before, make()):
                assert_same(embed(model), expected)
        with torch.device("meta"):
            weights = hear_byols.load_model("random_cvt").state_dict()
            got = embed(before), embed(hear_byols.load_model(tmp_path / "w.pth", frame_ms=200))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(weights[key], value) for key, value in untrained.items())
    for vectors in got:
        assert_same(vectors, expected)


@pytest.mark.parametrize(
    ("encoder", "dtype", "tolerance"),
    [("cnn", torch.float16, 0.003), ("clstm", torch.float64, 0), ("cvt", torch.bfloat16, 0.02)],
)
def test_a_converted_model(encoder, dtype, tolerance):
    model = make(encoder)
    expected = embed(model)
    model.to(dtype)
    assert_same(embed(model), expected, tolerance)
    assert model(AUDIO).dtype == torch.float32
    model.float()
    assert model.log_mel(AUDIO).equal(make().log_mel(AUDIO))


def test_the_precision_of_products_elsewhere():
    model = make("cvt")
    expected = embed(model)
    torch.set_float32_matmul_precision("medium")
    try:
        with ThreadPoolExecutor(4) as pool:
            for got in pool.map(lambda _: embed(model), range(8)):
                assert_same(got, expected, 1e-5)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_model_in_training_is_neither_felt_nor_touched():
    """Dropout and batch statistics stay out, flags and buffers as they are, also while other threads look."""
    model = make("cvt")
    expected = embed(model)
    model.train()
    before = copy.deepcopy(model.state_dict())
    flags = []
    model.encoder.register_forward_pre_hook(
        lambda *_: flags.append(all(module.training for module in model.encoder.modules()))
    )
    with ThreadPoolExecutor(3) as pool:
        for got in pool.map(lambda _: embed(model), range(6)):
            assert_same(got, expected)
    assert set(flags) == {True}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("start", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_processes(start):
    model, audio = make(), noise(2, 100_000)
    expected = model.scene_embeddings(audio)  # torch's threads are there now, and a forked child has none
    with get_context(start).Pool(1) as pool:
        vectors = pool.apply_async(model.scene_embeddings, (audio.numpy(),)).get(timeout=120)
    assert_same([vectors], [expected], 1e-6)


CONVERSIONS = {
    "big-endian": lambda x: x.astype(">f4"),
    "big-endian double": lambda x: x.astype(">f8"),
    "long double": lambda x: x.astype(np.longdouble),
    "Fortran order": np.asfortranarray,
    "negative stride": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "every second sample": lambda x: np.repeat(x, 2, 1)[:, ::2],
    "mask without effect": lambda x: np.ma.MaskedArray(x),
    "read-only": lambda x: x.setflags(write=False) or x,
}


@pytest.mark.filterwarnings("error")
def test_arrays_of_any_kind():
    model, expected = make(), embed(make())
    for convert in CONVERSIONS.values():
        array = convert(AUDIO.numpy().copy())
        before = array.copy()
        assert_same(embed(model, array), expected)
        np.testing.assert_array_equal(array, before)


def test_vmap_and_a_model_without_weights_get_one_clear_error():
    model = make()
    with pytest.raises(InputError, match=r"within torch\.func\.vmap; give all clips in one call"):
        torch.func.vmap(lambda clip: model.scene_embeddings(clip[None])[0])(AUDIO)
    with pytest.raises(InputError, match="the model is on the device meta"):
        model.to("meta").scene_embeddings(AUDIO)
    stream = StreamingEmbedder(make())
    with pytest.raises(InputError, match="device meta"):
        stream.feed(AUDIO[0].to("meta"))
    assert stream.n_samples == 0


def test_numbers_of_numpy_are_numbers():
    model = hear_byols.load_model("random_cnn", frame_ms=np.int16(500), hop_ms=np.float32(50), batch_size=np.int64(4))
    assert type(model.batch_size) is int
    assert (type(model.framing.frame_ms), type(model.framing.hop_ms)) == (int, float)
    assert type(EncoderConfig("cnn", np.int32(64)).embedding_size) is int
    for value in (np.bool_(True), np.float64(2), np.int64(0), "4"):
        with pytest.raises(OptionError, match="batch_size"):
            hear_byols.load_model("random_cnn", batch_size=value)


@pytest.mark.parametrize("mode", ["dataset", "clip", "halfway"])
def test_gradients_reach_the_audio(mode):
    """As autograd has it for the formula, statistics of the clip included; silence has a gradient without NaN."""
    model, audio = make(mode=mode), noise(2, 3000).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(audio).square().sum(), audio)
    log_mel = model.log_mel(audio)
    mean, std = log_mel.mean((1, 2), keepdim=True), log_mel.std((1, 2), keepdim=True)
    if mode != "clip":
        mean, std = (-5, 4) if mode == "dataset" else ((mean - 5) / 2, (std * 4).sqrt())
    (expected,) = torch.autograd.grad(model.encoder(((log_mel - mean) / std)[:, None]).square().sum(), audio)
    assert expected.abs().max() > 0
    assert (gradient - expected).abs().max() < 1e-3 * expected.abs().max()
    silence = torch.zeros(1, 3000, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(model(silence).sum(), silence)[0]).all()
    assert not model.scene_embeddings(audio).requires_grad


@pytest.mark.parametrize("encoder", ENCODERS)
def test_vectors_that_are_not_finite_are_an_error_that_names_the_clip(encoder):
    """Finite weights can make them; one bad clip of a call is named."""
    model = make(encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e15)
    with pytest.raises(InputError, match="embedding of clip 0 holds NaN or infinite"):
        model.scene_embeddings(AUDIO)
    with pytest.raises(InputError, match="window at 0 ms of clip 0 holds NaN"):
        model.timestamp_embeddings([AUDIO[0]])
    stream = StreamingEmbedder(model)
    with pytest.raises(InputError, match="window at 0 ms of the stream"):
        stream.feed(AUDIO[0])
    assert stream.n_samples == 0


def test_the_one_clip_of_a_call_is_named():
    model = make()
    second = torch.tensor(1)
    model.encoder.register_forward_hook(
        lambda module, inputs, vectors: vectors.index_fill(0, second, torch.inf) if len(vectors) > 1 else vectors
    )
    with pytest.raises(InputError, match="clip 1 holds NaN or infinite"):
        model.scene_embeddings(AUDIO)
    with pytest.raises(InputError, match="clip 3 holds"):
        model.scene_embeddings([AUDIO[0, :5000], AUDIO[0, :4000], *AUDIO])
