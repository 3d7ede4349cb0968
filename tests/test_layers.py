"""Layers "multi", maxima of feature maps behind the last layer's embedding, and "heads", a linear map of it."""

import dataclasses

import numpy as np
import pytest
import torch
from test_fast_paths import spectrograms
from test_invariance import sounds
from untrained import SIZES, assert_same, make_model

import hear_byols
from hear_byols.config import EncoderConfig, ModelConfig
from hear_byols.errors import OptionError
from hear_byols.streaming import StreamingEmbedder

# The modules whose outputs are looked at, the axis of time in them, and the numbers that they add at 64 mel bands.
LOOKED_AT = {
    "cnn": (("blocks.1", "blocks.2"), 3, 64 * 16 + 64 * 8),
    "resnetish34": (("layer2", "layer3"), 3, 128 * 16 + 256 * 8),
    "clstm": (("blocks.1",), 3, 256 * 14),
    "cvt": (("stages.0", "stages.1"), 2, 64 * 16 + 256 * 8),
}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_the_maxima_are_those_of_the_layers(name):
    modules, axis, n_added = LOOKED_AT[name]
    (last, multi), seen = (make_model("clip", layers, name).encoder for layers in ("last", "multi")), []
    for module in modules:
        multi.get_submodule(module).register_forward_hook(lambda *call: seen.append(call[-1].numpy()))
    for n_frames in (10, 61):
        seen.clear()
        with torch.no_grad():
            vectors, embedding = multi(spectrograms(n_frames)), last(spectrograms(n_frames))
        assert vectors.shape == (2, SIZES[name] + n_added) == (2, multi.embedding_size)
        assert torch.equal(vectors[:, : last.embedding_size], embedding)
        # Within a map the channels stand outside, the mel rows inside.
        maxima = [maps.max(axis) if axis == 3 else maps.max(axis).transpose(0, 2, 1) for maps in seen]
        expected = np.concatenate([each.reshape(2, -1) for each in maxima], 1)
        np.testing.assert_array_equal(vectors[:, last.embedding_size :].numpy(), expected)


def test_a_checkpoint_keeps_its_layers_unless_asked_for_others_and_an_older_one_has_the_last(tmp_path):
    model, audio = make_model("clip", "multi"), sounds(2, 16000, seed=0)
    hear_byols.save_checkpoint(tmp_path / "mine.pth", model.config, model.encoder.state_dict(), {})
    multi, last = (hear_byols.load_model(tmp_path / "mine.pth", layers=layers) for layers in (None, "last"))
    assert (multi.config.encoder.layers, multi.scene_embedding_size, last.scene_embedding_size) == ("multi", 1568, 32)
    assert_same(multi.scene_embeddings(audio)[:, :32], last.scene_embeddings(audio))
    assert_same(multi.timestamp_embeddings(audio)[0][..., :32], last.timestamp_embeddings(audio)[0])
    older = model.config.to_dict()
    del older["encoder"]["layers"]
    assert ModelConfig.from_dict(older) == dataclasses.replace(
        model.config, encoder=EncoderConfig("cnn", 32, "last", 9)
    )


@pytest.mark.parametrize("name", SIZES)
def test_heads_are_a_linear_map_of_the_last_layer(name):
    """In scenes, windows and streams."""
    audio = sounds(2, 40000, seed=2)
    model, last = (make_model("dataset", layers, name, hop_ms=200) for layers in ("heads", "last"))
    last.requires_grad_(False)
    assert model.scene_embedding_size == 9
    assert_same(model.scene_embeddings(audio), last.encoder.head(last.scene_embeddings(audio)))
    vectors, _ = model.timestamp_embeddings(audio)
    assert_same(vectors, last.encoder.head(last.timestamp_embeddings(audio)[0]))
    stream = StreamingEmbedder(model)
    assert_same(torch.cat([stream.feed(audio[0])[0], stream.finish()[0]]), vectors[0])
    assert model.half().scene_embeddings(audio).dtype == torch.float32


def test_layers_that_the_weights_have_not_are_refused():
    for name in ("random_cnn", "random_cvt"):
        with pytest.raises(OptionError, match="layers 'heads' is for weights that learnt from teachers"):
            hear_byols.load_model(name, layers="heads")
    for layers in ("all", "", 3, ["last"]):
        with pytest.raises(OptionError, match="layers must be one of last, multi, heads; got"):
            hear_byols.load_model("random_cnn", layers=layers)
