"""The scikit-learn transformer: what it takes, what it gives, and how it behaves within scikit-learn."""

import doctest
import importlib
import os
import pickle
import sys

import numpy as np
import pytest
import soundfile
import torch
import untrained

import hear_byols
from hear_byols.errors import InputError, MissingDependencyError, OptionError, WeightsNotFoundError

pytest.importorskip("sklearn", reason='needs pip install "hear_byols[sklearn]"')

import joblib
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hear_byols.sklearn as module
from hear_byols.sklearn import EmbeddingTransformer

N_CLIPS, N_SAMPLES = 12, 2000


@pytest.fixture(scope="module")
def clips():
    """Noise and tones in turn, float32 [shape=(n_clips, n_samples)]."""
    rng = np.random.default_rng(0)
    time = np.arange(N_SAMPLES) / 16000
    noise = rng.uniform(-0.3, 0.3, (N_CLIPS, N_SAMPLES))
    tones = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 800, (N_CLIPS, 1)) * time)
    return np.where(np.arange(N_CLIPS)[:, None] % 2, tones, noise).astype(np.float32)


LABELS = np.arange(N_CLIPS) % 2


@pytest.fixture(scope="module")
def expected(clips):
    """The vectors by the HEAR API."""
    return hear_byols.get_scene_embeddings(torch.from_numpy(clips), hear_byols.load_model("random_cnn")).numpy()


@pytest.fixture
def paths(tmp_path, clips):
    """The clips as files of float samples."""
    names = [tmp_path / f"{i}.wav" for i in range(N_CLIPS)]
    for path, clip in zip(names, clips, strict=True):
        soundfile.write(path, clip, 16000, subtype="FLOAT")
    return names


def transformer(**options):
    return EmbeddingTransformer("random_cnn", **options)


def assert_same(got, expected):
    untrained.assert_same(torch.from_numpy(got), torch.from_numpy(expected))


# ---- input and output


def test_arrays_lists_tensors_and_files_of_any_length_give_the_hear_api_s_vectors(clips, paths, expected):
    names = [str(path) for path in paths]
    samples = [clips, clips.astype(np.float64), list(clips), torch.from_numpy(clips), clips.tolist()]
    for same, batch_size in zip([*samples, paths, names, np.array(names)], [1, 5, 100, *[32] * 5], strict=True):
        assert_same(transformer(batch_size=batch_size).transform(same), expected)
    mixed = [clips[0], clips[1][:1], clips[2][:1500]]
    alone = hear_byols.load_model("random_cnn").scene_embeddings(mixed).numpy()
    for same in (mixed, np.array(mixed, dtype=object)):
        assert_same(transformer().transform(same), alone)


def test_files_are_read_in_batches(paths, monkeypatch):
    log = []
    model = hear_byols.load_model("random_cnn")
    embed, load = model.scene_embeddings, module.load_audio
    monkeypatch.setattr(module, "load_audio", lambda path, rate: log.append("read") or load(path, rate))
    monkeypatch.setattr(model, "scene_embeddings", lambda batch: log.append(f"embed {len(batch)}") or embed(batch))
    monkeypatch.setattr(module, "_load", lambda *_: model)
    transformer(batch_size=8).transform(paths)
    assert log == ["read"] * 8 + ["embed 8"] + ["read"] * 4 + ["embed 4"]


def test_bad_input_gets_one_clear_error():
    for bad, message in [
        ("clip.wav", r"write \[path\]"),
        ([], "no clips"),
        (None, "NoneType"),
        (np.zeros(100, np.float32), r"\(n_clips, n_samples\)"),
        (np.zeros((1, 2, 100), np.float32), r"\(n_clips, n_samples\)"),
        ([np.zeros(100, np.float32), np.zeros((2, 100), np.float32)], r"X\[1\] .* shape \(2, 100\)"),
        ([np.zeros(100, np.float32), np.zeros(0, np.float32)], r"X\[1\] .* shape \(0,\)"),
        (np.zeros((3, 100), np.int16), r"X\[0\] .* 32768"),
        ([np.zeros(100, np.float32)] * 40 + [np.full(100, np.nan, np.float32)], r"X\[40\] .* NaN"),
        ([np.full(100, 300.0)], r"X\[0\] peaks at 300"),
        (["/nowhere/clip.wav"], "/nowhere/clip.wav.*no such file"),
        ([3], r"X\[0\] .* int"),
    ]:
        with pytest.raises(InputError, match=message):
            transformer().transform(bad)


def test_bad_parameters_get_one_clear_error(clips):
    for parameters, error, message in [
        ({"batch_size": 0}, OptionError, "batch_size must be a positive integer, got 0"),
        ({"on_error": "drop"}, OptionError, "'raise' or 'skip'"),
        ({"options": {"normalization": "foo"}}, OptionError, "normalization"),
        ({"options": {"hop_ms": object()}}, OptionError, "options must be JSON-able"),
        ({"options": "clip"}, OptionError, "options must be a dictionary or None, got 'clip'"),
        ({"model": "no such model"}, WeightsNotFoundError, "no such model"),
        ({"model": 3}, OptionError, "a string or a path, got int"),
    ]:
        with pytest.raises(error, match=message):
            EmbeddingTransformer(**{"model": "random_cnn", **parameters}).fit_transform(clips)


def test_a_clip_that_cannot_be_read_leaves_a_row_of_nan_when_asked(paths, expected, caplog):
    mixed = [paths[0], "/nowhere/bad.wav", np.full(100, np.inf, np.float32), paths[1]]
    got = transformer(on_error="skip").transform(mixed)
    assert np.isnan(got).all(axis=1).tolist() == [False, True, True, False]
    assert_same(got[[0, 3]], expected[:2])
    assert "bad.wav" in caplog.text
    assert "X[2]" in caplog.text


def test_an_embed_folder_is_taken_as_it_is(paths, tmp_path):
    hear_byols.embed_to_folder(paths, tmp_path / "out", model="random_cnn")
    content = hear_byols.read_embeddings(tmp_path / "out")
    assert transformer().transform(content) is content.vectors
    with pytest.raises(OptionError, match="another model"):
        EmbeddingTransformer("random_clstm").transform(content)


# ---- within scikit-learn


def test_parameters_clone_and_representation():
    original = transformer(options={"hop_ms": 25}, batch_size=7)
    given = {"model": "random_cnn", "options": {"hop_ms": 25}, "batch_size": 7, "device": "cpu", "on_error": "raise"}
    assert clone(original).set_params(batch_size=9).get_params() == given | {"batch_size": 9}
    assert original.get_params() == given
    assert "random_cnn" in repr(original)


def test_a_pipeline_learns_and_predicts_and_the_model_is_loaded_once(clips, paths, monkeypatch):
    loads = []
    load = module.load_model
    monkeypatch.setattr(module, "load_model", lambda spec, **options: loads.append(spec) or load(spec, **options))
    module._load.cache_clear()
    probe = make_pipeline(transformer(), StandardScaler(), LogisticRegression())
    assert cross_val_score(probe, paths, LABELS, cv=3).shape == (3,)
    assert (probe.fit(clips, LABELS).predict(paths) == LABELS).all()
    assert loads == ["random_cnn"]


def test_another_process_gives_the_same_vectors_and_is_not_sent_the_weights(clips, expected):
    ours = transformer()
    ours.transform(clips[:1])
    assert len(pickle.dumps(ours)) < 1000
    with joblib.parallel_config(backend="loky", n_jobs=2):
        ((vectors, process),) = joblib.Parallel()([joblib.delayed(lambda: (ours.transform(clips), os.getpid()))()])
    assert_same(vectors, expected)
    assert process != os.getpid()


def test_a_replaced_file_is_loaded_again(clips, tmp_path):
    path = tmp_path / "model.pth"
    for seed in (1, 2):
        model = untrained.make_model(seed=seed)
        hear_byols.save_checkpoint(path, model.config, model.encoder.state_dict(), {"name": "mine"})
        os.utime(path, ns=(seed, seed))
        assert_same(EmbeddingTransformer(path).transform(clips), model.scene_embeddings(clips).numpy())


def test_output_as_a_data_frame_has_names(clips):
    pandas = pytest.importorskip("pandas")
    names = transformer().get_feature_names_out()
    assert list(names[:2]) == ["embedding0", "embedding1"]
    assert len(names) == 2048
    frame = transformer().set_output(transform="pandas").fit_transform(clips[:2])
    assert list(frame.columns) == list(names)
    column = pandas.Series(list(clips[:2]), index=["a", "b"])
    np.testing.assert_array_equal(transformer().transform(column), frame.to_numpy())


def test_the_docstring_s_example_runs():
    failed, attempted = doctest.testmod(module)
    assert failed == 0 < attempted


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)  # the import raises, as where it is not installed
    monkeypatch.delitem(sys.modules, "hear_byols.sklearn")
    with pytest.raises(MissingDependencyError, match=r'pip install "hear_byols\[sklearn\]"'):
        importlib.import_module("hear_byols.sklearn")
