"""The HEAR contract, rule by rule and for every encoder, without the kits and their TensorFlow.

The rules are those that hear-validator checks, that hear-eval-kit relies on and that hear-baseline sets an example for.
``tests/kits`` runs the real kits; here the same rules are plain, quick tests that also run where the kits cannot.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pkgutil
import random
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hear_byols
from hear_byols import variants

ENCODERS = {"random_cnn": 2048, "random_resnetish34": 2048, "random_clstm": 1024, "random_cvt": 2048}
SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
VARIANTS = sorted(info.name for info in pkgutil.iter_modules(variants.__path__) if not info.name.startswith("_"))
TOLERANCE = 1e-4  # of the largest component


def noise(n_clips: int, n_samples: int, seed: int = 0) -> torch.Tensor:
    """White noise in [-1, 1], [shape=(n_clips, n_samples)]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_clips, n_samples, generator=generator) * 2 - 1


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within the package's promise: 1e-4 of the largest component."""
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= TOLERANCE * expected.abs().max()


def expected_centres_ms(n_samples: int, hop_ms: float, sample_rate: int = 16000) -> list[Fraction]:
    """The contract's rule, in exact arithmetic: centres 0, hop, 2 hop ... while they lie within the clip."""
    hop, centres = Fraction(hop_ms), []
    while (centre := len(centres) * hop) <= Fraction(1000 * n_samples, sample_rate):
        centres.append(centre)
    return centres


@pytest.fixture(scope="module", params=ENCODERS)
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    """Each encoder as ``load_model`` returns it, without ``.eval()``."""
    return hear_byols.load_model(request.param)


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    """The quickest encoder, for rules that do not depend on the encoder."""
    return hear_byols.load_model("random_cnn")


@pytest.fixture
def checkpoint(tmp_path: Path, small: torch.nn.Module) -> Path:
    """A checkpoint file on disk, as the kit's ``--model`` wants it."""
    path = tmp_path / "some model.pth"
    hear_byols.save_checkpoint(path, small.config, small.encoder.state_dict(), {"name": "test"})
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


def test_options_arrive_as_json(checkpoint: Path) -> None:
    for options in ['{"frame_ms": 640.0, "hop_ms": 25}', '{"frame_ms": 500, "batch_size": 2, "normalization": "clip"}']:
        keywords = json.loads(options)
        model = hear_byols.load_model(str(checkpoint), **keywords)
        vectors, centres = hear_byols.get_timestamp_embeddings(noise(1, 3200), model)
        assert vectors.shape[1] == len(expected_centres_ms(3200, keywords.get("hop_ms", 50)))
        assert centres.shape == vectors.shape[:2]


def test_a_file_gives_the_model_that_was_saved(checkpoint: Path, small: torch.nn.Module) -> None:
    audio = noise(2, 4000)
    loaded = hear_byols.load_model(str(checkpoint))
    assert torch.equal(hear_byols.get_scene_embeddings(audio, loaded), hear_byols.get_scene_embeddings(audio, small))


def test_the_model_is_a_module_in_evaluation_mode_with_plain_attributes(model: torch.nn.Module) -> None:
    assert isinstance(model, torch.nn.Module)
    assert not any(module.training for module in model.modules())
    for name in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        assert type(getattr(model, name)) is int
    assert model.sample_rate in SAMPLE_RATES
    assert model.scene_embedding_size == model.timestamp_embedding_size == ENCODERS[model.provenance["name"]]


# ---- shapes, types, values


def test_shapes_and_types(model: torch.nn.Module) -> None:
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


def test_different_sounds_get_different_vectors(model: torch.nn.Module) -> None:
    vectors = hear_byols.get_scene_embeddings(torch.cat([noise(1, 8000), noise(1, 8000).cumsum(1) / 100]), model)
    assert not torch.allclose(vectors[0], vectors[1], rtol=1e-2)


# ---- timestamps


def test_timestamps_are_regular_milliseconds_within_the_clip() -> None:
    for hop_ms in [50, 20, 12.5, 33.3]:
        model = hear_byols.load_model("random_cnn", hop_ms=hop_ms, frame_ms=200)
        for n_samples in (1, 799, 800, 801, 8000):
            check_timestamps(model, n_samples, hop_ms)


def check_timestamps(model: torch.nn.Module, n_samples: int, hop_ms: float) -> None:
    _, centres = hear_byols.get_timestamp_embeddings(noise(2, n_samples), model)
    duration_ms = 1000 * n_samples / model.sample_rate
    expected = torch.tensor([float(centre) for centre in expected_centres_ms(n_samples, hop_ms)])
    assert torch.equal(centres[0], centres[1])
    assert torch.allclose(centres[0], expected, rtol=1e-6)
    assert centres[0, 0] == 0
    assert centres.max() <= duration_ms
    assert centres[0, -1] > duration_ms - hop_ms
    spacing = centres.diff()
    if spacing.numel():
        # The real validator is stricter than its message: it allows 0.001 ms, not 1 ms.
        assert (spacing - spacing.mean()).abs().max() < 1e-3


def test_timestamps_do_not_drift_from_the_windows() -> None:
    """A hop rounded to samples before the loop would be 25 ms off after 37 minutes (hear-contract)."""
    for hop_ms in [50, 25, 33.3, 1000 / 44.1]:
        framing = hear_byols.load_model("random_cnn", hop_ms=hop_ms).framing
        n_samples = 37 * 60 * 16000
        centres = framing.timestamps_ms(n_samples)
        starts = framing.starts(0, len(centres))
        assert len(centres) == math.floor(n_samples / (Fraction(hop_ms) * 16)) + 1
        worst = max(abs(start - 16 * centre) for start, centre in zip(starts, centres, strict=True))
        assert worst <= 0.5 + 1e-6  # samples


def test_a_vector_belongs_to_its_timestamp(model: torch.nn.Module) -> None:
    """A burst of noise moves the vectors of the windows that contain it, and no others."""
    audio = torch.zeros(2, 32000)
    audio[1, 22400:23200] = noise(1, 800)[0]  # from 1400 to 1450 ms
    windows = hear_byols.EmbeddingModel(model.config, frame_ms=500, hop_ms=250)
    windows.encoder.load_state_dict(model.encoder.state_dict())
    windows.config = _fixed_normalization(model)  # clip statistics would let the burst reach every window
    vectors, centres = hear_byols.get_timestamp_embeddings(audio, windows)
    moved = (vectors[0] - vectors[1]).abs().amax(1) > TOLERANCE * vectors.abs().max()
    assert centres[0][moved].tolist() == [1250, 1500]


def _fixed_normalization(model: torch.nn.Module) -> Any:
    from hear_byols.config import ModelConfig, NormalizationConfig

    return ModelConfig(model.config.encoder, model.config.frontend, NormalizationConfig("dataset", -10.0, 5.0))


# ---- the same audio gives the same vector


def test_alone_and_in_a_batch(model: torch.nn.Module) -> None:
    audio = noise(4, 4800) * torch.tensor([1.0, 0.1, 0.5, 0.01])[:, None]
    scenes = hear_byols.get_scene_embeddings(audio, model)
    windows, centres = hear_byols.get_timestamp_embeddings(audio, model)
    for i in (0, 3):
        assert_same(scenes[i : i + 1], hear_byols.get_scene_embeddings(audio[i : i + 1], model))
        alone, alone_centres = hear_byols.get_timestamp_embeddings(audio[i : i + 1], model)
        assert_same(windows[i : i + 1], alone)
        assert torch.equal(centres[i : i + 1], alone_centres)


def test_neither_repetition_nor_the_gradient_mode_nor_the_training_mode_matters(model: torch.nn.Module) -> None:
    """hear-eval-kit wraps calls in ``no_grad``, hear-validator does not; neither calls ``.eval()``."""
    audio = noise(2, 3200)

    def embed() -> tuple[torch.Tensor, ...]:
        return hear_byols.get_scene_embeddings(audio, model), *hear_byols.get_timestamp_embeddings(audio, model)

    expected = embed()
    got = [embed()]
    for context in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with context():
            got.append(embed())
    model.train()
    try:
        got.append(embed())
    finally:
        model.eval()
    for vectors in got:
        assert not any(values.requires_grad for values in vectors)
        assert all(torch.equal(a, b) for a, b in zip(expected, vectors, strict=True))


# ---- devices


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_model_moves_and_answers_on_its_device() -> None:
    audio = noise(2, 3200)
    for name in ENCODERS:
        model = hear_byols.load_model(name)
        expected = hear_byols.get_scene_embeddings(audio, model)
        model.to("cuda")  # in place, as the kits do it
        scenes = hear_byols.get_scene_embeddings(audio.cuda(), model)
        vectors, centres = hear_byols.get_timestamp_embeddings(audio.cuda(), model)
        assert {scenes.device.type, vectors.device.type, centres.device.type} == {"cuda"}
        assert_same(scenes.cpu(), expected)


# ---- nothing of the caller's is changed


@pytest.fixture
def half_trained(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """A model as a caller may hold it: some parts in training mode, some parameters frozen."""
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 2 == 0)
    yield model
    model.eval()
    model.requires_grad_(True)


def test_the_model_and_the_audio_are_left_as_they_were(half_trained: torch.nn.Module) -> None:
    def snapshot() -> list[tuple[Any, ...]]:
        parameters = [(parameter.requires_grad, parameter.grad) for parameter in half_trained.parameters()]
        return [*parameters, *((module.training,) for module in half_trained.modules())]

    weights = {name: value.clone() for name, value in half_trained.state_dict().items()}
    before = snapshot()
    audio = noise(2, 1601).requires_grad_()
    copy = audio.detach().clone()
    hear_byols.get_scene_embeddings(audio, half_trained)
    hear_byols.get_timestamp_embeddings(audio, half_trained)
    assert snapshot() == before
    for name, value in half_trained.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert torch.equal(audio, copy)
    assert audio.requires_grad
    assert audio.grad is None


@pytest.fixture
def n_threads() -> Iterator[int]:
    """A number of threads that the caller chose, other than before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2 if before == 1 else 1)
    yield torch.get_num_threads()
    torch.set_num_threads(before)


def test_the_process_is_left_as_it_was(n_threads: int) -> None:
    """Random states, number of threads, default type, gradient mode and deterministic mode."""

    def snapshot() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            np.random.get_state()[2:],
            random.getstate(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = snapshot()
    assert before[0] == n_threads
    loaded = hear_byols.load_model("random_cvt")
    hear_byols.get_scene_embeddings(noise(1, 1600), loaded)
    hear_byols.get_timestamp_embeddings(noise(1, 1600), loaded)
    assert snapshot() == before


# ---- modules: the package itself, and one per named variant


def test_the_package_is_a_hear_module() -> None:
    for name in ("load_model", "get_scene_embeddings", "get_timestamp_embeddings"):
        assert callable(getattr(hear_byols, name))
    assert set(hear_byols.list_models()) <= set(VARIANTS)


def test_a_variant_takes_other_weights_and_options(checkpoint: Path) -> None:
    """Every module that can be handed to the kits by name."""
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


def test_a_variant_needs_no_file() -> None:
    for name in ENCODERS:
        model = importlib.import_module(f"hear_byols.variants.{name}").load_model()
        assert model.scene_embedding_size == ENCODERS[name]
