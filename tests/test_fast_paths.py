"""What makes embedding fast changes no vector: folded batch norm, channels last, attention without scores, overlap."""

import copy
import pickle
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch
import torch.nn.functional as F
from test_invariance import sounds
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from untrained import assert_same, make_model

from hear_byols.encoders import ENCODERS, conv_block
from hear_byols.encoders.cvt import ChannelNorm
from hear_byols.encoders.linear import Linear, linear
from hear_byols.extraction import extract
from hear_byols.extraction.files import AudioFile
from hear_byols.model import EmbeddingModel

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import reference


def make_encoder(name: str, seed: int = 1) -> nn.Module:
    return make_model(encoder=name, seed=seed).encoder


def spectrograms(n_frames: int = 61) -> torch.Tensor:
    return torch.randn(2, 1, 64, n_frames, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("channels", [64, 256])
@pytest.mark.parametrize("scale", [0, 1e-30, 1e-6, 1, 1e6])
def test_the_norm_in_one_pass_is_that_of_the_formula(channels, scale):
    torch.manual_seed(0)
    norm, x = ChannelNorm(channels), scale * (torch.randn(3, 4, 5, channels) + 2)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_()
        got, exact = norm(x), x.double()
    std, mean = torch.std_mean(exact, -1, keepdim=True, correction=0)
    assert_same(got, ((exact - mean) / (std + norm.eps) * norm.weight + norm.bias).float())
    assert_same(norm(x), got)  # with gradients it is computed by the formula


def test_a_convolution_block_is_the_same_in_pieces(monkeypatch):
    for kernel in [(3, 3), (9, 9), (4, 3)]:
        torch.manual_seed(0)
        block = conv_block.ConvBlock(2, 8, kernel).eval()
        for n_frames in (8, 24, 33, 34, 35, 36):
            x = torch.randn(3, 2, 16, n_frames, generator=torch.Generator().manual_seed(n_frames))
            with torch.no_grad():
                whole = F.max_pool2d(F.relu(block.norm(block.conv(x))), 2)
                for piece in (1, 900, 8000, 40000):  # one column to whole items
                    monkeypatch.setattr(conv_block, "_PIECE", piece)
                    assert_same(block(x), whole)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("training", [True, False])
def test_vectors_gradients_and_learnt_statistics_are_those_of_the_separate_layers(name, training):
    results = []
    for encode in (type(make_encoder(name)).__call__, reference.encode):
        encoder = make_encoder(name).train(training)
        if name == "cnn":
            encoder.dropout.p = 0.0
        vectors = encode(encoder, spectrograms())
        vectors.square().mean().backward()
        gradients = {key: value.grad for key, value in encoder.named_parameters() if value.grad is not None}
        results.append((vectors, gradients, encoder.state_dict()))
    (vectors, gradients, state), (wanted, wanted_gradients, wanted_state) = results
    assert_same(vectors, wanted)
    assert gradients.keys() == wanted_gradients.keys()
    largest = max(gradient.abs().max() for gradient in wanted_gradients.values())
    tolerance = 0.03 if name == "resnetish34" else 1e-4  # 34 layers of batch statistics magnify rounding
    for key, gradient in wanted_gradients.items():
        assert (gradients[key] - gradient).abs().max() <= tolerance * largest, key
    for key, before in make_encoder(name).state_dict().items():
        assert_same(state[key].double(), wanted_state[key].double())
        assert torch.equal(state[key], before) != (training and key.endswith(("mean", "var", "tracked")))


@pytest.mark.parametrize("gelu", [False, True])
def test_a_linear_map_is_the_same_by_either_library(gelu):
    """oneDNN takes whole batches in inference, PyTorch's own all others: alike within rounding, and what is not finite
    stays so. Inference is what makes the difference: with gradients any batch is PyTorch's."""
    torch.manual_seed(0)
    layer, x = Linear(48, 80), torch.randn(33, 5, 48)
    x[3, 2, 0] = float("nan")
    exact = F.linear(x.double(), layer.weight.double(), layer.bias.double())
    exact = (F.gelu(exact) if gelu else exact).detach().float()
    for n in (0, 1, 16, 31, 32):
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                got = linear(x[:n], layer.weight, layer.bias, gelu=gelu)
            assert got.requires_grad == grad
            assert torch.equal(got.isnan(), exact[:n].isnan())
            assert_same(got.nan_to_num(), exact[:n].nan_to_num()) if n else None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert linear(x[:16], layer.weight, layer.bias).dtype == torch.bfloat16


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="oneDNN is taken with AVX-512 only")
@pytest.mark.parametrize(("name", "n_layers", "n_rows"), [("cnn", 2, 16), ("cvt", 18, 1)])
def test_windows_reach_linear_maps_in_batches_of_few_shapes(name, n_layers, n_rows):
    """oneDNN keeps what it has compiled for a shape: clips of any length come in those of a full batch, or up to 256
    columns in multiples of 16."""
    model, shapes = make_model("clip", encoder=name), set()

    class Shapes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "linear_pointwise" in str(func):
                shapes.add((args[0].shape, args[1].shape))
            return func(*args, **(kwargs or {}))

    for n_samples in (32000, 35000, 40000, 90000):
        with Shapes():
            model.timestamp_embeddings(sounds(1, n_samples, 1))
    assert len({weight for _, weight in shapes}) >= n_layers / 2  # some layers have the same size
    assert len(shapes) <= n_layers * n_rows
    assert all(x[0] % 16 == 0 and x[0] <= 256 for x, _ in shapes)


def test_changed_weights_count_at_once():
    """Those of copies, too, that are made of an encoder in use."""
    encoder, other, x = make_encoder("cvt"), make_encoder("cvt", seed=2), spectrograms()
    with torch.no_grad():
        old, new = encoder(x), other(x)
        assert (old - new).abs().max() > 0.1 * new.abs().max()
        for used in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), encoder, encoder.double().float()):
            for mine, theirs in zip(used.state_dict().values(), other.state_dict().values(), strict=True):
                mine.data.copy_(theirs)  # through .data, which no version counter sees
            assert_same(used(x), new)


@pytest.mark.parametrize("name", ENCODERS)
def test_whole_clips_and_windows_equal_the_reference(name):
    """The benchmark compares two ways to the same vectors."""
    model, audio = make_model("clip", encoder=name, frame_ms=500, hop_ms=100), sounds(2, 41000, 4)
    assert_same(model.scene_embeddings(audio), reference.scene_embeddings(audio, model))
    assert_same(model.timestamp_embeddings(audio)[0], reference.timestamp_embeddings(audio, model))


def test_a_group_is_written_while_the_next_is_embedded(tmp_path, monkeypatch, one_thread):
    """With one thread a group is one call of the model; with more it is several."""
    files = []
    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", sounds(1, 4000, i)[0].numpy(), 16000)
        files.append(AudioFile(str(i), tmp_path / f"{i}.wav"))
    model, embedding, recorded = make_model("clip"), [threading.Event() for _ in range(3)], []
    started = iter(embedding)

    def embed(audio):
        next(started).set()
        return EmbeddingModel.scene_embeddings(model, audio)

    def record(clips, items) -> list:
        recorded.append([clip.file.name for clip in clips])
        for following in embedding[len(recorded) :][:1]:
            assert following.wait(20), "the next group is not embedded before this one is written"
        return []

    monkeypatch.setattr(model, "scene_embeddings", embed)
    folder, limits = SimpleNamespace(record=record), extract.GroupLimits(clips=2, seconds=600)
    assert extract._embed_pending(model, files, folder, False, limits, lambda n: None) == []
    assert recorded == [["0", "1"], ["2", "3"], ["4", "5"]]


@pytest.mark.parametrize("name", ["cnn", "cvt"])
def test_torch_compiles_an_encoder_as_one_graph(name):
    """``model.encoder.compile()`` is the user's to call; nothing here may break the graph, or change the state dict."""
    encoder, x = make_encoder(name), spectrograms()
    with torch.no_grad():
        expected = encoder(x)
        encoder.compile(backend="aot_eager", fullgraph=True)  # inductor would need a compiler on this machine
        assert_same(encoder(x), expected)
    assert list(encoder.state_dict()) == list(make_encoder(name).state_dict())
