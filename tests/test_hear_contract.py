"""The HEAR contract, rule by rule and for every encoder, without the kits and their TensorFlow.

The rules are those that hear-validator checks, that hear-eval-kit relies on and that hear-baseline sets an example for.
``tests/kits`` runs the real kits; here the same rules are plain, quick tests that also run where the kits cannot.
"""

import copy
import importlib
import inspect
import json
import math
import pickle
import pkgutil
import random
from contextlib import nullcontext
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from untrained import SIZES, make_model, noise

import hear_byols
from hear_byols import variants

ENCODERS = {"random_cnn": 2048, "random_resnetish34": 2048, "random_clstm": 1024, "random_cvt": 2048}
SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
VARIANTS = sorted(info.name for info in pkgutil.iter_modules(variants.__path__) if not info.name.startswith("_"))


@pytest.fixture(scope="module", params=ENCODERS)
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    """Each encoder as ``load_model`` returns it, without ``.eval()``."""
    return hear_byols.load_model(request.param)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint file on disk, as the kit's ``--model`` wants it."""
    path, model = tmp_path / "some model.pth", make_model()
    hear_byols.save_checkpoint(path, model.config, model.encoder.state_dict(), {"name": "test"})
    return path


# ---- load_model


def test_load_model_takes_a_path_first_and_then_only_json_keywords() -> None:
    path, *options = inspect.signature(hear_byols.load_model).parameters.values()
    assert path.name == "model_file_path"
    assert path.kind is path.POSITIONAL_OR_KEYWORD
    assert path.default == ""
    assert {option.kind for option in options} == {inspect.Parameter.KEYWORD_ONLY}
    assert {"frame_ms", "hop_ms", "normalization", "batch_size", "precision"} <= {option.name for option in options}
    for option in options:
        assert json.loads(json.dumps(option.default)) == option.default


def test_a_file_gives_the_model_that_was_saved_with_options_that_arrive_as_json(checkpoint: Path) -> None:
    audio = noise(2, 4000)
    vectors = hear_byols.get_scene_embeddings(audio, hear_byols.load_model(str(checkpoint)))
    assert torch.equal(vectors, make_model().scene_embeddings(audio))
    for options in ['{"frame_ms": 640.0, "hop_ms": 25}', '{"frame_ms": 500, "batch_size": 2, "normalization": "clip"}']:
        keywords = json.loads(options)
        model = hear_byols.load_model(str(checkpoint), **keywords)
        vectors, centres = hear_byols.get_timestamp_embeddings(audio, model)
        assert vectors.shape[:2] == centres.shape == (2, 250 // keywords.get("hop_ms", 50) + 1)


def test_the_model_is_a_module_in_evaluation_mode_with_plain_attributes(model: torch.nn.Module) -> None:
    assert not any(module.training for module in model.modules())
    for name in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        assert type(getattr(model, name)) is int
    assert model.sample_rate in SAMPLE_RATES
    assert model.scene_embedding_size == model.timestamp_embedding_size == ENCODERS[model.provenance["name"]]


# ---- vectors


def test_shapes_types_and_values(model: torch.nn.Module) -> None:
    for n_samples in (1, 800, 2399, 12345):
        vectors = hear_byols.get_scene_embeddings(noise(2, n_samples), model)
        windows, centres = hear_byols.get_timestamp_embeddings(noise(2, n_samples), model)
        assert vectors.shape == (2, model.scene_embedding_size)
        assert windows.shape == (*centres.shape, model.timestamp_embedding_size)
        assert centres.tolist() == [[50 * i for i in range(n_samples // 800 + 1)]] * 2  # the hop that HEAR advises
        for values in (vectors, windows, centres):
            assert values.dtype == torch.float32
            assert torch.isfinite(values).all()
            assert not values.requires_grad
    vectors = hear_byols.get_scene_embeddings(torch.cat([noise(1, 8000), noise(1, 8000).cumsum(1) / 100]), model)
    assert not torch.allclose(vectors[0], vectors[1], rtol=1e-2)  # of different sounds


# ---- timestamps


def test_timestamps_are_regular_milliseconds_within_the_clip() -> None:
    for hop_ms in [50, 20, 12.5, 33.3]:
        model = hear_byols.load_model("random_cnn", hop_ms=hop_ms, frame_ms=200)
        for n_samples in (1, 799, 800, 801, 8000):
            _, centres = hear_byols.get_timestamp_embeddings(noise(2, n_samples), model)
            n_windows = math.floor(Fraction(n_samples, 16) / Fraction(hop_ms)) + 1  # while they lie within the clip
            expected = torch.tensor([float(i * Fraction(hop_ms)) for i in range(n_windows)])
            assert torch.equal(centres, expected.repeat(2, 1))  # the validator allows 0.001 ms, not 1 as it says


@pytest.mark.parametrize("encoder", SIZES)
def test_a_vector_belongs_to_its_timestamp(encoder: str) -> None:
    """A burst of noise moves the vectors of the windows that contain it, and no others."""
    audio = torch.zeros(2, 32000)
    audio[1, 22400:23200] = noise(1, 800)[0]  # from 1400 to 1450 ms
    # Statistics of the clip would let the burst reach every window.
    model = make_model("dataset", encoder=encoder, frame_ms=500, hop_ms=250)
    vectors, centres = hear_byols.get_timestamp_embeddings(audio, model)
    moved = (vectors[0] - vectors[1]).abs().amax(1) > 1e-4 * vectors.abs().max()
    assert centres[0][moved].tolist() == [1250, 1500]


@pytest.mark.parametrize("encoder", SIZES)
def test_what_the_caller_holds_is_left_as_it_was_and_does_not_matter(encoder: str) -> None:
    """Gradient mode, parts in training mode, frozen parameters; the kits set some, and none calls ``.eval()``."""
    model, audio = make_model(encoder=encoder), noise(2, 3200).requires_grad_()

    def embed() -> tuple[torch.Tensor, ...]:
        return hear_byols.get_scene_embeddings(audio, model), *hear_byols.get_timestamp_embeddings(audio, model)

    def snapshot() -> list[Any]:
        flags = [(parameter.requires_grad, parameter.grad) for parameter in [audio, *model.parameters()]]
        return [*flags, *(module.training for module in model.modules())]

    expected = embed()
    for i, part in enumerate([*model.modules(), *model.parameters()]):
        part.train(i % 2 == 0) if isinstance(part, torch.nn.Module) else part.requires_grad_(i % 2 == 0)
    before, values = snapshot(), copy.deepcopy([audio.detach(), *model.state_dict().values()])
    for context in (nullcontext, torch.no_grad, torch.enable_grad, torch.inference_mode):
        with context():
            vectors = embed()
        assert not any(values.requires_grad for values in vectors)
        assert all(map(torch.equal, vectors, expected))
    assert snapshot() == before
    assert all(map(torch.equal, values, [audio, *model.state_dict().values()]))


# ---- nothing of the caller's is changed


def test_the_process_is_left_as_it_was() -> None:
    """Random states, number of threads, default type, gradient mode and deterministic mode."""

    def snapshot() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            pickle.dumps((torch.get_rng_state().tolist(), np.random.get_state(), random.getstate())),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )

    n_threads = torch.get_num_threads()
    torch.set_num_threads(2 if n_threads == 1 else 1)  # one that the caller chose
    try:
        before = snapshot()
        loaded = hear_byols.load_model("random_cvt")
        hear_byols.get_scene_embeddings(noise(1, 1600), loaded)
        hear_byols.get_timestamp_embeddings(noise(1, 1600), loaded)
        assert snapshot() == before
    finally:
        torch.set_num_threads(n_threads)


# ---- modules: one per named variant


def test_a_variant_needs_no_file_and_takes_other_weights_and_options(checkpoint: Path) -> None:
    """Every module that can be handed to the kits by name."""
    assert set(hear_byols.list_models()) <= set(VARIANTS)
    for name in VARIANTS:
        if name.endswith("_opensmile") and not find_spec("opensmile"):
            continue
        variant = importlib.import_module(f"hear_byols.variants.{name}")
        assert variant.__doc__
        model = variant.load_model(str(checkpoint), hop_ms=100)
        assert model.framing.frame_ms == (500 if name.endswith("_500ms") else 1000)
        vectors, centres = variant.get_timestamp_embeddings(noise(1, 1600), model)
        assert centres.tolist() == [[0, 100]]
        assert variant.get_scene_embeddings(noise(1, 1600), model).shape == (1, vectors.shape[2])
        if name in ENCODERS:
            assert variant.load_model().scene_embedding_size == ENCODERS[name]
