"""openSMILE as a model, and models joined by ``+``, against the opensmile package itself."""

import importlib
import pickle
import sys
import warnings

import numpy as np
import pytest
import torch

import hear_byols
from hear_byols.concatenated import ConcatenatedModel
from hear_byols.errors import InputError, MissingDependencyError, OptionError, WeightsNotFoundError

opensmile = pytest.importorskip("opensmile", reason='needs pip install "hear_byols[opensmile]"')

from hear_byols.opensmile import MIN_SAMPLES, OpenSmileModel  # noqa: E402 - after the skip

FRAME_MS, HOP_MS = 300, 100


def sound(n_samples, seed=0):
    """A hum in noise, float32 in [-1, 1)."""
    rng = np.random.default_rng(seed)
    time = np.arange(n_samples) / 16000
    hum = sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 5))
    return (0.2 * hum + 0.05 * rng.uniform(-1, 1, n_samples)).astype(np.float32)


def batch(n_clips, n_samples):
    return torch.from_numpy(np.stack([sound(n_samples, seed) for seed in range(n_clips)]))


def direct(samples):
    """What opensmile's own documentation does, without any of this package; of less than 60 ms with zeros behind."""
    samples = np.pad(samples, (0, max(0, MIN_SAMPLES - len(samples))))
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return smile.process_signal(samples, 16000).to_numpy()[0]


def assert_close(got, expected):
    """Equal to 1e-6 of each value."""
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=0)


@pytest.fixture(scope="module")
def model():
    return hear_byols.load_model("opensmile", frame_ms=FRAME_MS, hop_ms=HOP_MS)


@pytest.fixture(scope="module")
def joined():
    return hear_byols.load_model("random_cnn+opensmile", frame_ms=FRAME_MS, hop_ms=HOP_MS)


# ---- values


def test_scene_embeddings_are_opensmile_s_own_values(model):
    for n_samples in (1, 100, MIN_SAMPLES - 1, MIN_SAMPLES, 4321, 16000):
        samples = sound(n_samples)
        vectors = hear_byols.get_scene_embeddings(torch.from_numpy(samples)[None], model)
        assert vectors.dtype == torch.float32
        assert vectors.shape == (1, 6373) == (1, model.scene_embedding_size)
        assert_close(vectors[0], direct(samples))


@pytest.mark.parametrize("frame_ms", [300, 20])
def test_windows_are_cut_padded_and_timed_as_the_contract_says(frame_ms):
    samples, n_samples = sound(5000), 16 * frame_ms
    audio = torch.from_numpy(samples)[None]
    vectors, times = hear_byols.get_timestamp_embeddings(audio, OpenSmileModel(frame_ms=frame_ms, hop_ms=100))
    assert times.dtype == vectors.dtype == torch.float32
    assert times.tolist() == [[0, 100, 200, 300]]  # floor(312.5 / 100) + 1 centres
    assert vectors.shape == (1, 4, 6373)
    padded = np.pad(samples, n_samples // 2)
    for i, vector in enumerate(vectors[0]):
        assert_close(vector, direct(padded[1600 * i :][:n_samples]))


def test_full_scale_is_clipped_not_wrapped_around(model):
    square = np.sign(np.sin(2 * np.pi * 100 * np.arange(4000) / 16000) + 0.1).astype(np.float32)
    clipped = square.clip(-1, 32767 / 32768)
    assert not np.allclose(direct(square), direct(clipped))  # opensmile alone takes 1.0 for -1.0
    for audio in (torch.from_numpy(square)[None], torch.from_numpy(3 * square)[None]):
        before = audio.clone()
        assert_close(model.scene_embeddings(audio)[0], direct(clipped))
        model.timestamp_embeddings(audio)
        assert torch.equal(audio, before)


def test_nan_and_infinite_features_become_zero(model, monkeypatch):
    """As silence has them."""
    assert torch.isfinite(model.scene_embeddings(torch.zeros(1, 4000))).all()
    values = np.full((1, 6373, 1), 1e200)  # beyond float32
    values[0, :3, 0] = np.nan, np.inf, 7
    monkeypatch.setattr(model, "_smile", lambda samples, rate: values)
    with np.errstate(over="ignore"):
        (vector,) = model.scene_embeddings([sound(1000)])
    assert vector[2] == 7
    assert vector.count_nonzero() == 1


# ---- the same whatever the batch


def test_alone_in_a_batch_in_a_list_repeated_and_of_a_copy_embeddings_are_equal(model):
    clips = batch(3, 3000)
    vectors, (windows, _) = model.scene_embeddings(clips), model.timestamp_embeddings(clips)
    assert torch.equal(vectors.flip(0), model.scene_embeddings(clips.flip(0)))
    copy = pickle.loads(pickle.dumps(model))
    for i, clip in enumerate(clips):
        assert torch.equal(vectors[i], copy.scene_embeddings(clip[None])[0])
        assert torch.equal(windows[i], copy.timestamp_embeddings(clip[None])[0][0])
    mixed = [clips[0], sound(1, 9), clips[2]]
    assert torch.equal(model.scene_embeddings(mixed)[2], vectors[2])
    lists = model.timestamp_embeddings(mixed)
    assert torch.equal(lists[0][2], windows[2])
    assert [len(times) for times in lists[1]] == [2, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_audio_on_a_gpu_gives_the_same_values_there():
    audio = torch.from_numpy(sound(3000))[None]
    for name in ("opensmile", "random_cnn+opensmile"):
        model = hear_byols.load_model(name, frame_ms=FRAME_MS, hop_ms=HOP_MS)
        scene, (windows, times) = model.scene_embeddings(audio), model.timestamp_embeddings(audio)
        model.to("cuda")
        got = model.scene_embeddings(audio.cuda())
        assert got.device.type == "cuda"
        assert torch.equal(got[:, -6373:].cpu(), scene[:, -6373:])
        got, got_times = model.timestamp_embeddings(audio.cuda())
        assert torch.equal(got[..., -6373:].cpu(), windows[..., -6373:])
        assert torch.equal(got_times.cpu(), times)


# ---- bad input and options


def test_bad_audio_gets_the_same_errors_as_with_an_encoder(model):
    for embed in (model.scene_embeddings, model.timestamp_embeddings):
        with pytest.raises(InputError, match="shape"):
            embed(torch.zeros(100))
        with pytest.raises(InputError, match=r"clip 1 .* NaN"):
            embed([np.zeros(100, np.float32), np.full(100, np.nan, np.float32)])


def test_an_option_that_it_cannot_use_is_an_error():
    useless = [("normalization", "clip"), ("layers", "multi"), ("precision", "float16"), ("win_length", 1024)]
    for name, value in [*useless, ("precision", "foo"), ("batch_size", 0), ("frame_ms", -1), ("hop_ms", "x")]:
        with pytest.raises(OptionError, match=name):
            hear_byols.load_model("opensmile", **{name: value})
    assert hear_byols.load_model("opensmile", precision="float32", batch_size=4).scene_embedding_size == 6373


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)  # the import raises, as where it is not installed
    assert "opensmile" in hear_byols.list_models()
    for name in ("opensmile", "opensmile+random_cnn"):
        with pytest.raises(MissingDependencyError, match=r'pip install "hear_byols\[opensmile\]"'):
            hear_byols.load_model(name)


def test_the_licence_is_said(model):
    for text in (model.provenance["licence"], hear_byols.find_record("opensmile").licence):
        assert "research" in text.lower()
        assert "commercial use" in text


# ---- concatenation


def test_a_concatenation_equals_its_parts(joined, model):
    cnn = hear_byols.load_model("random_cnn", frame_ms=FRAME_MS, hop_ms=HOP_MS)
    assert joined.scene_embedding_size == joined.timestamp_embedding_size == 2048 + 6373
    for audio in (batch(3, 3000), [sound(3000), sound(1700), sound(1)]):
        vectors = hear_byols.get_scene_embeddings(audio, joined)
        assert torch.equal(vectors, torch.cat([cnn.scene_embeddings(audio), model.scene_embeddings(audio)], 1))
        windows, times = hear_byols.get_timestamp_embeddings(audio, joined)
        parts = cnn.timestamp_embeddings(audio), model.timestamp_embeddings(audio)
        for i in range(3):
            assert torch.equal(windows[i], torch.cat([own[i] for own, _ in parts], 1))
            assert all(torch.equal(times[i], centres[i]) for _, centres in parts)


def test_options_go_to_the_parts_that_take_them():
    model = hear_byols.load_model("random_cnn+opensmile", normalization="clip", layers="multi", batch_size=3, hop_ms=25)
    assert model.scene_embedding_size == 3584 + 6373
    assert model.parts[0].config.normalization.mode == "clip"
    assert model.parts[0].batch_size == 3
    assert model.framing == model.parts[0].framing == model.parts[1].framing
    with pytest.raises(OptionError, match="normalization"):
        hear_byols.load_model("random_cnn+opensmile", normalization="foo")


def test_any_two_models_are_joined_as_they_are_and_trained():
    parts = [hear_byols.load_model("random_cnn").train(), hear_byols.load_model("random_clstm")]
    joined = ConcatenatedModel(parts)
    assert joined.provenance["name"] == "random_cnn+random_clstm"
    joined.scene_embeddings([sound(2000)])
    assert (joined.training, parts[0].training, parts[1].training) == (True, True, False)
    vectors = joined.eval()(torch.from_numpy(sound(4000))[None])
    assert not parts[0].training
    assert vectors.shape == (1, 2048 + 1024)
    vectors.sum().backward()
    assert all(any(p.grad is not None for p in part.parameters()) for part in parts)


def test_what_cannot_be_joined_is_refused():
    for spec in ("random_cnn+", "+opensmile", "opensmile+opensmile", "a++b"):
        with pytest.raises(OptionError, match="joined"):
            hear_byols.load_model(spec)
    with pytest.raises(WeightsNotFoundError, match="'opensmlie'"):
        hear_byols.load_model("random_cnn+opensmlie")
    cnn = hear_byols.load_model("random_cnn")
    with pytest.raises(OptionError, match="framing"):
        ConcatenatedModel([cnn, OpenSmileModel(hop_ms=25)])
    with pytest.raises(OptionError, match="two or more"):
        ConcatenatedModel([cnn])


def test_a_file_is_joined_by_its_path_and_by_the_variant_even_with_a_plus_in_it(tmp_path):
    path = tmp_path / "c++" / "a+b.pth"
    path.parent.mkdir()
    cnn = hear_byols.load_model("random_cnn")
    hear_byols.save_checkpoint(path, cnn.config, cnn.encoder.state_dict(), {"name": "mine"})
    names = [
        hear_byols.load_model(spec).provenance["name"] for spec in (path, str(path), f"opensmile+{path}+random_cnn")
    ]
    assert names == ["mine", "mine", "opensmile+mine+random_cnn"]
    variant = importlib.import_module("hear_byols.variants.cvt_hybrid_opensmile")
    model = variant.load_model(str(path))
    assert model.provenance["name"] == "mine+opensmile"
    assert variant.get_scene_embeddings(torch.zeros(1, 1600), model).shape == (1, 2048 + 6373)
