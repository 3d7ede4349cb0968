"""The published weights give the published vectors: parity with the original (paper, sections 2 and 2.1)."""

import numpy as np
import pytest
import torch
from golden import ENCODER_OF, array, assert_equal_to, needs_golden, original_state_dict, write_original_file

import hear_byols
from hear_byols.encoders import build_encoder
from hear_byols.weights.original import convert, recognize

pytestmark = needs_golden


@pytest.mark.parametrize("name", ENCODER_OF)
def test_encoder_equals_the_original(name):
    for n_frames, seed, batch in [(96, 3, 3), (251, 4, 1)]:
        state = original_state_dict(name)
        config = recognize(state)
        assert config.name == ENCODER_OF[name]
        encoder = build_encoder(config).eval()
        encoder.load_state_dict(convert(state, config.name))
        spectrograms = np.random.RandomState(seed).standard_normal((batch, 1, 64, n_frames)).astype(np.float32)
        with torch.no_grad():
            vectors = encoder(torch.from_numpy(spectrograms))
        assert_equal_to(vectors, array(f"{name}_encoder_{n_frames}"))


@pytest.fixture(scope="module", params=["default", "cvt"])
def published(request, tmp_path_factory):
    """A file as the original publishes them, and the name of its golden arrays."""
    return write_original_file(request.param, tmp_path_factory.mktemp("published")), request.param


def test_scene_embeddings(published):
    """In clip mode every batch gives what the original gives single clips; its own mode mixes those of a call."""
    path, name = published
    audio = torch.from_numpy(array("audio"))
    model = hear_byols.load_model(path)
    assert model.config.normalization.mode == "clip"
    assert_equal_to(hear_byols.get_scene_embeddings(audio, model), array(f"{name}_scene_single"))
    model = hear_byols.load_model(path, normalization="original", batch_size=1)
    assert_equal_to(hear_byols.get_scene_embeddings(audio, model), array(f"{name}_scene_batch2"))
    alone = torch.cat([hear_byols.get_scene_embeddings(clip[None], model) for clip in audio])
    assert_equal_to(alone, array(f"{name}_scene_single"))


@pytest.mark.parametrize(("mode", "golden"), [("clip", "clipnorm"), ("original", "original")])
def test_timestamp_embeddings(published, mode, golden):
    path, name = published
    model = hear_byols.load_model(path, normalization=mode, batch_size=7)
    vectors, times = hear_byols.get_timestamp_embeddings(torch.from_numpy(array("audio")[:1]), model)
    np.testing.assert_array_equal(times[0].numpy(), array("timestamps_ms"))
    assert_equal_to(vectors[0, ::10], array(f"{name}_timestamp_{golden}"))
