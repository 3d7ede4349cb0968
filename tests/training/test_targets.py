"""Hand-crafted targets: standardiser, store, interruption."""

import sys

import numpy as np
import pytest

from hear_byols.errors import InputError, MissingDependencyError
from hear_byols.training import targets
from hear_byols.training.data import AudioPool
from hear_byols.training.targets import CLIP, FeatureStore, Standardizer, extract_features


def make_pool(n=64000):
    audio = (8000 * np.sin(0.03 * np.arange(n))).astype(np.int16)
    return AudioPool(audio, np.array([0, n // 4, n]), np.zeros(2, dtype=int), ("all",), 16000)


@pytest.fixture
def fake_features(monkeypatch):
    """Three features a crop instead of openSMILE's."""
    calls = []

    class Fake:
        def __init__(self, sample_rate):
            self.sample_rate = sample_rate

        def __call__(self, audio):
            calls.append(audio)
            return np.array([audio[0], audio[-1], np.nan], dtype=np.float32)

    monkeypatch.setattr(targets, "CompareExtractor", Fake)
    monkeypatch.setattr(targets, "N_FEATURES", 3)
    return calls


def test_standardised_features_have_unit_spread_and_stay_bounded():
    rng = np.random.default_rng(0)
    raw = np.stack([rng.normal(3, 2, 2000), rng.standard_cauchy(2000), rng.lognormal(0, 3, 2000)], axis=1)
    z = Standardizer.fit(raw)(raw)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(z.std(0), 1, atol=0.03)
    assert np.abs(z).max() <= CLIP
    for column in range(3):  # the order of values survives
        order = np.argsort(raw[:, column])
        assert (np.diff(z[order, column]) >= 0).all()


def test_one_column_follows_the_written_formula():
    raw = np.array([[-4.0], [0.0], [1.0], [2.0], [9.0]])
    low, centre, high = np.quantile(raw, [0.25, 0.5, 0.75])
    squashed = [np.arcsinh((v - centre) / ((high - low) / 1.349)) for v in raw[:, 0]]
    expected = [(s - np.mean(squashed)) / np.std(squashed) for s in squashed]
    np.testing.assert_allclose(Standardizer.fit(raw)(raw)[:, 0], expected, rtol=1e-5)


def test_missing_and_constant_features_become_zero():
    raw = np.column_stack([np.full(6, 7.0), np.full(6, np.nan), [1, np.nan, 2, np.inf, 3, 4], [0, 0, 0, 0, 0, 5.0]])
    standardizer = Standardizer.fit(raw)
    z = standardizer(raw)
    assert np.isfinite(z).all()
    assert not z[:, :2].any()
    assert z[1, 2] == z[3, 2] == 0
    assert z[5, 3] > 1  # mostly one value: still informative
    assert standardizer.n_constant == 2
    assert not standardizer(np.array([[1e9, 1.0, np.nan, -np.inf]]))[0, [0, 1, 2, 3]].any()


def test_interrupted_extraction_continues_where_it_stopped(tmp_path, fake_features, monkeypatch):
    pool = make_pool()
    whole = extract_features(pool, tmp_path / "whole", 10, 160, seed=3)
    fake_features.clear()
    store = FeatureStore(tmp_path / "parts")
    store.create(pool, 10, 160, seed=3)
    places = store.places()
    assert store.n_done == 0
    store.fill(targets._extract_all((pool.crop(*p, 160) for p in places[:4]), 16000, 0))
    assert store.n_done == 4
    assert store.features().shape == (4, 3)
    extract_features(pool, tmp_path / "parts", 10, 160, seed=3)
    assert len(fake_features) == 10
    np.testing.assert_array_equal(store.features(), whole.features())
    np.testing.assert_array_equal(whole.features()[5, 0], pool.crop(*places[5], 160)[0])


def test_features_of_other_crops_are_not_mixed_in(tmp_path, fake_features):
    extract_features(make_pool(), tmp_path, 4, 160, seed=0)
    with pytest.raises(InputError, match="other crops"):
        extract_features(make_pool(), tmp_path, 4, 160, seed=1)


def test_statistics_are_kept_when_the_store_grows(tmp_path, fake_features):
    pool = make_pool()
    store = FeatureStore(tmp_path)
    store.create(pool, 10, 160, seed=0)
    places = store.places()
    store.fill(targets._extract_all((pool.crop(*p, 160) for p in places[:5]), 16000, 0))
    first = Standardizer.load_or_fit(tmp_path / "s.npz", store)
    extract_features(pool, tmp_path, 10, 160, seed=0)
    again = Standardizer.load_or_fit(tmp_path / "s.npz", store)
    np.testing.assert_array_equal(first.centre, again.centre)


def test_missing_opensmile_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(MissingDependencyError, match="pip install opensmile"):
        targets.CompareExtractor()


def test_opensmile_gives_6373_features():
    pytest.importorskip("opensmile")
    features = targets.CompareExtractor()(make_pool().crop(1, 0, 15200))
    assert features.shape == (targets.N_FEATURES,)
    assert np.isfinite(features).mean() > 0.9
