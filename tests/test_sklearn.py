"""The scikit-learn transformer: what it takes, what it gives, and how it behaves within scikit-learn."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import hear_byols
from hear_byols.errors import InputError, OptionError, WeightsNotFoundError

pytest.importorskip("sklearn", reason='needs pip install "hear_byols[sklearn]"')

import joblib
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import hear_byols.sklearn as module
from hear_byols.sklearn import EmbeddingTransformer

N_CLIPS, N_SAMPLES = 12, 2000
DIGITS = Path(__file__).resolve().parents[2] / "shared/data/tasks/fsdd_digits-v1-full/16000/test"


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    """Noise and tones in turn, float32 [shape=(n_clips, n_samples)]."""
    rng = np.random.default_rng(0)
    time = np.arange(N_SAMPLES) / 16000
    noise = rng.uniform(-0.3, 0.3, (N_CLIPS, N_SAMPLES))
    tones = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 800, (N_CLIPS, 1)) * time)
    return np.where(np.arange(N_CLIPS)[:, None] % 2, tones, noise).astype(np.float32)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.arange(N_CLIPS) % 2


@pytest.fixture(scope="module")
def expected(clips: np.ndarray) -> np.ndarray:
    """The vectors by the HEAR API."""
    return hear_byols.get_scene_embeddings(torch.from_numpy(clips), hear_byols.load_model("random_cnn")).numpy()


@pytest.fixture
def paths(tmp_path: Path, clips: np.ndarray) -> list[Path]:
    """The clips as files of float samples."""
    names = [tmp_path / f"{i}.wav" for i in range(N_CLIPS)]
    for path, clip in zip(names, clips, strict=True):
        soundfile.write(path, clip, 16000, subtype="FLOAT")
    return names


def transformer(**options: Any) -> EmbeddingTransformer:
    return EmbeddingTransformer("random_cnn", **options)


def probe(**options: Any) -> Pipeline:
    return make_pipeline(transformer(**options), StandardScaler(), LogisticRegression())


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal within the package's promise: 1e-4 of the largest component."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


# ---- input and output


def test_arrays_lists_and_tensors_give_the_hear_api_s_vectors(clips: np.ndarray, expected: np.ndarray) -> None:
    vectors = transformer().transform(clips)
    assert vectors.dtype == np.float32
    for same in (clips.astype(np.float64), list(clips), torch.from_numpy(clips), clips.tolist()):
        assert_same(transformer().transform(same), expected)
    assert_same(vectors, expected)


def test_files_give_the_same_vectors_as_their_samples(paths: list[Path], expected: np.ndarray) -> None:
    for files in (paths, [str(path) for path in paths], np.array([str(path) for path in paths])):
        assert_same(transformer().transform(files), expected)


def test_clips_may_differ_in_length(clips: np.ndarray) -> None:
    mixed = [clips[0], clips[1][:1], clips[2][:1500]]
    objects = np.empty(3, dtype=object)
    objects[:] = mixed
    model = hear_byols.load_model("random_cnn")
    alone = np.concatenate([model.scene_embeddings(torch.from_numpy(clip)[None]).numpy() for clip in mixed])
    assert_same(transformer().transform(mixed), alone)
    assert_same(transformer().transform(objects), alone)


def test_the_batch_size_changes_nothing(clips: np.ndarray, expected: np.ndarray) -> None:
    for batch_size in [1, 5, 100]:
        assert_same(transformer(batch_size=batch_size).transform(clips), expected)


def test_files_are_read_in_batches(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    model = hear_byols.load_model("random_cnn")
    embed, load = model.scene_embeddings, module.load_audio
    monkeypatch.setattr(module, "load_audio", lambda path, rate: log.append("read") or load(path, rate))
    monkeypatch.setattr(model, "scene_embeddings", lambda batch: log.append(f"embed {len(batch)}") or embed(batch))
    monkeypatch.setattr(module, "_load", lambda *_: model)
    transformer(batch_size=8).transform(paths)
    assert log == ["read"] * 8 + ["embed 8"] + ["read"] * 4 + ["embed 4"]


def test_real_speech_at_another_rate(tmp_path: Path) -> None:
    if not DIGITS.is_dir():
        pytest.skip(f"no real audio: the task fsdd_digits is not at {DIGITS}")
    path = sorted(DIGITS.iterdir())[0]
    vectors = transformer().transform([path])
    assert_same(vectors, transformer().transform([hear_byols.load_audio(path)]))
    samples, rate = soundfile.read(path)
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples], 1), rate, subtype="FLOAT")
    assert_same(transformer().transform([tmp_path / "stereo.wav"]), vectors)


def test_bad_input_gets_one_clear_error() -> None:
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


def test_bad_parameters_get_one_clear_error(clips: np.ndarray) -> None:
    for parameters, error in [
        ({"batch_size": 0}, OptionError),
        ({"options": {"normalization": "foo"}}, OptionError),
        ({"options": {"hop_ms": object()}}, OptionError),
        ({"options": "clip"}, OptionError),
        ({"model": "no such model"}, WeightsNotFoundError),
        ({"model": 3}, OptionError),
    ]:
        with pytest.raises(error):
            EmbeddingTransformer(**{"model": "random_cnn", **parameters}).fit_transform(clips)


# ---- within scikit-learn


def test_parameters_clone_and_representation() -> None:
    original = transformer(options={"hop_ms": 25}, batch_size=7, device="cpu")
    copy = clone(original)
    assert copy.get_params() == original.get_params()
    assert set(copy.get_params()) == {"model", "options", "batch_size", "device", "on_error"}
    assert copy.set_params(batch_size=9).batch_size == 9
    assert original.batch_size == 7
    assert "random_cnn" in repr(original)


def test_a_pipeline_learns_and_predicts(clips: np.ndarray, labels: np.ndarray, paths: list[Path]) -> None:
    fitted = probe().fit(clips, labels)
    assert fitted.score(clips, labels) == 1
    assert (fitted.predict(paths) == labels).all()


def test_cross_validation_of_files_loads_the_model_once(
    paths: list[Path], labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = module.load_model
    monkeypatch.setattr(module, "load_model", lambda spec, **options: loads.append(spec) or load(spec, **options))
    module._load.cache_clear()
    assert cross_val_score(probe(), paths, labels, cv=3).shape == (3,)
    assert loads == ["random_cnn"]


def test_a_grid_search_sets_its_parameters(clips: np.ndarray, labels: np.ndarray) -> None:
    grid = {"embeddingtransformer__model": ["random_cnn", "random_clstm"]}
    search = GridSearchCV(probe(), grid, cv=2, error_score="raise").fit(clips, labels)
    assert len(search.cv_results_["params"]) == 2


def test_two_processes_give_the_same_vectors(clips: np.ndarray, expected: np.ndarray) -> None:
    ours = transformer()
    ours.transform(clips[:1])
    halves = [clips[:6], clips[6:]]
    with joblib.parallel_config(backend="loky", n_jobs=2):
        results = joblib.Parallel()(joblib.delayed(_transform_elsewhere)(ours, half) for half in halves)
    assert_same(np.concatenate([vectors for vectors, _ in results]), expected)
    assert os.getpid() not in {process for _, process in results}


def _transform_elsewhere(ours: EmbeddingTransformer, clips: np.ndarray) -> tuple[np.ndarray, int]:
    return ours.transform(clips), os.getpid()


def test_it_pickles_without_the_weights(clips: np.ndarray, expected: np.ndarray) -> None:
    ours = transformer()
    ours.transform(clips)
    data = pickle.dumps(ours)
    assert len(data) < 1000
    module._load.cache_clear()  # as in another process
    assert_same(pickle.loads(data).transform(clips), expected)


def test_a_replaced_file_is_loaded_again(clips: np.ndarray, tmp_path: Path) -> None:
    model = hear_byols.load_model("random_cnn")
    state = model.encoder.state_dict()
    path = tmp_path / "model.pth"
    hear_byols.save_checkpoint(path, model.config, state, {"name": "first"})
    ours = EmbeddingTransformer(path)
    first = ours.transform(clips)
    other = {key: 2 * value if value.is_floating_point() else value for key, value in state.items()}
    hear_byols.save_checkpoint(path, model.config, other, {"name": "second"})
    os.utime(path, ns=(1, 1))
    assert not np.allclose(ours.transform(clips), first)


def test_output_as_a_data_frame_has_names(clips: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    names = transformer().get_feature_names_out()
    assert list(names[:2]) == ["embedding0", "embedding1"]
    assert len(names) == 2048
    frame = transformer().set_output(transform="pandas").fit_transform(clips[:2])
    assert list(frame.columns) == list(names)
    column = pandas.Series(list(clips[:2]), index=["a", "b"])
    np.testing.assert_array_equal(transformer().transform(column), frame.to_numpy())


def test_the_docstring_s_example_runs() -> None:
    import doctest

    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def test_missing_scikit_learn_names_the_extra() -> None:
    code = """
import sys
sys.modules["sklearn"] = None  # the import now raises, as where it is not installed
import hear_byols
from hear_byols.errors import MissingDependencyError
try:
    import hear_byols.sklearn
except MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "hear_byols[sklearn]"' in done.stdout


def test_a_clip_that_cannot_be_read_leaves_a_row_of_nan_when_asked(paths, expected, tmp_path, caplog):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    mixed = [paths[0], tmp_path / "bad.wav", np.full(100, np.inf, np.float32), paths[1]]
    got = EmbeddingTransformer("random_cnn", on_error="skip").transform(mixed)
    assert np.isnan(got).all(axis=1).tolist() == [False, True, True, False]
    np.testing.assert_allclose(got[[0, 3]], expected[:2], atol=1e-3)
    assert "bad.wav" in caplog.text
    assert "X[2]" in caplog.text
    with pytest.raises(InputError, match=r"bad\.wav"):
        EmbeddingTransformer("random_cnn").transform(mixed)
    with pytest.raises(OptionError, match="'raise' or 'skip'"):
        EmbeddingTransformer("random_cnn", on_error="drop").transform(mixed)


def test_an_embed_folder_is_taken_as_it_is(paths, tmp_path):
    hear_byols.embed_to_folder(paths, tmp_path / "out", model="random_cnn")
    content = hear_byols.read_embeddings(tmp_path / "out")
    assert EmbeddingTransformer("random_cnn").transform(content) is content.vectors
    with pytest.raises(OptionError, match="another model"):
        EmbeddingTransformer("random_clstm").transform(content)
