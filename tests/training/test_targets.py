"""Targets: standardizer, extractors, store, interruption."""

import sys

import numpy as np
import pytest
import torch
from pretraining import HEAR_MODULE

from hear_byols.errors import InputError, MissingDependencyError, OptionError
from hear_byols.training import targets
from hear_byols.training.extractors import OpenSmileExtractor, make_extractor
from hear_byols.training.pool import AudioPool, cut_crops
from hear_byols.training.targets import CLIP, FeatureScaler, extract_features, feature_positions


def make_pool(n=64000):
    audio = (8000 * np.sin(0.03 * np.arange(n))).astype(np.int16)
    return AudioPool.from_clips([audio[: n // 4], audio[n // 4 :]])


def test_standardized_features_have_unit_spread_and_stay_bounded():
    rng = np.random.default_rng(0)
    raw = np.stack([rng.normal(3, 2, 2000), rng.standard_cauchy(2000), rng.lognormal(0, 3, 2000)], axis=1)
    z = FeatureScaler.fit(raw)(torch.from_numpy(raw)).numpy()
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
    np.testing.assert_allclose(FeatureScaler.fit(raw)(torch.from_numpy(raw))[:, 0], expected, rtol=1e-5)


def test_missing_and_constant_features_become_zero():
    raw = np.column_stack([np.full(6, 7.0), np.full(6, np.nan), [1, np.nan, 2, np.inf, 3, 4], [0, 0, 0, 0, 0, 5.0]])
    standardizer = FeatureScaler.fit(raw)
    z = standardizer(torch.from_numpy(raw))
    assert z.isfinite().all()
    assert not z[:, :2].any()
    assert z[1, 2] == z[3, 2] == 0
    assert z[5, 3] > 1  # mostly one value: still informative
    assert (standardizer.std == 0).sum() == 2
    assert not standardizer(torch.tensor([[1e9, 1.0, np.nan, -np.inf]])).any()


@pytest.fixture
def counting(monkeypatch):
    """Three features a crop instead of openSMILE's; the list of crops that were asked for."""
    asked = []

    class Extractor:
        n_features = 3

        def __call__(self, crops):
            asked.extend(crops)
            return np.stack([[crop[0], crop[-1], np.nan] for crop in crops]).astype(np.float32)

    monkeypatch.setattr(targets, "make_extractor", lambda spec: Extractor())
    return asked


def extract(folder, n_crops, pool=None, **options):
    return extract_features(pool or make_pool(), folder, "counting", n_crops, 160, **{"seed": 3, **options})


def test_features_stand_in_the_order_of_their_places(tmp_path, counting):
    store, pool = extract(tmp_path, 40), make_pool()
    crops = cut_crops(torch.from_numpy(pool.audio), feature_positions(pool, 40, 160, seed=3), 160).numpy()
    np.testing.assert_array_equal(store.features()[:, :2], crops[:, [0, -1]])
    assert np.isnan(store.features()[:, 2]).all()  # the standardizer decides on them


def test_interrupted_extraction_continues_where_it_stopped(tmp_path, counting):
    whole = extract(tmp_path / "whole", 40)
    store = extract(tmp_path / "parts", 40)
    with open(tmp_path / "parts/features.f32", "r+b") as file:
        file.truncate(17 * 12 + 5)  # 17 rows and a torn one
    assert store.n_done == 17
    counting.clear()
    extract(tmp_path / "parts", 40)
    assert len(counting) == 23
    np.testing.assert_array_equal(store.features(), whole.features())


@pytest.mark.parametrize("name", ["features.f32", "features.crc32"])
def test_what_a_power_cut_left_as_zeros_is_extracted_again(tmp_path, counting, name, caplog):
    whole = np.array(extract(tmp_path, 40).features())
    with open(tmp_path / name, "r+b") as file:
        file.seek(31 * (12 if name.endswith("f32") else 4))
        file.write(bytes(4))
    counting.clear()
    np.testing.assert_array_equal(extract(tmp_path, 40).features(), whole)
    assert len(counting) == 9
    assert "damaged from row 31 on" in caplog.text


def test_a_damaged_description_is_one_clear_error(tmp_path, counting):
    extract(tmp_path, 4)
    for content in ("", "{}", "[1]", '{"n_features": null}'):
        (tmp_path / "recipe.json").write_text(content)
        with pytest.raises(InputError, match=r"recipe\.json is damaged; remove the folder"):
            extract(tmp_path, 4)


def test_more_crops_keep_the_first_ones(tmp_path, counting):
    few = np.array(extract(tmp_path, 10).features())
    counting.clear()
    more = extract(tmp_path, 1500)
    assert len(counting) == 1490
    np.testing.assert_array_equal(more.features()[:10], few)
    few_positions, more_positions = (feature_positions(make_pool(), n, 160, seed=3) for n in (10, 1500))
    assert torch.equal(more_positions[:10], few_positions)
    counting.clear()
    assert extract(tmp_path, 10).n_done == 1500
    assert not counting


def test_features_of_other_crops_are_not_mixed_in(tmp_path, counting):
    extract(tmp_path, 4)
    for change in ({"seed": 4}, {"pool": make_pool(80000)}):
        with pytest.raises(InputError, match="made in another way"):
            extract(tmp_path, 4, **change)


@pytest.fixture
def hear_module(tmp_path, monkeypatch):
    (tmp_path / "bands_of_eight.py").write_text(HEAR_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield "bands_of_eight"
    sys.modules.pop("bands_of_eight", None)


def test_any_hear_module_can_supervise(hear_module):
    crops = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 8000)).astype(np.float32)
    assert make_extractor(hear_module)(crops).shape == (3, 8)
    assert make_extractor("hear_byols:random_cnn").n_features == 2048


def test_crops_are_resampled_for_a_module_of_another_rate(hear_module, tmp_path):
    (tmp_path / "fast_bands.py").write_text(HEAR_MODULE.replace("= 16000, 8", "= 48000, 8"))

    def tone(hertz, n):
        return np.sin(2 * np.pi * hertz / 16000 * np.arange(n)).astype(np.float32)[None]

    fast, plain = make_extractor("fast_bands")(tone(1000, 16000)), make_extractor(hear_module)(tone(1000 / 3, 48000))
    np.testing.assert_allclose(fast[0, 0], plain[0, 0], atol=0.1)


@pytest.mark.parametrize(
    ("broken", "message"), [("return torch.zeros(len(audio), 7)", "shape"), ("raise KeyError(1)", "failed on a crop")]
)
def test_a_module_that_breaks_its_word_is_named(tmp_path, monkeypatch, broken, message):
    head = HEAR_MODULE.partition("    return LogMel()(audio)")[0]
    (tmp_path / "broken_bands.py").write_text(f"{head}    {broken}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_bands", raising=False)
    with pytest.raises(OptionError, match=message):
        make_extractor("broken_bands")(np.zeros((2, 8000), np.float32))


def test_several_workers_give_the_same_rows(hear_module, tmp_path):
    pool = make_pool()
    one = extract_features(pool, tmp_path / "one", hear_module, 40, 1600)
    two = extract_features(pool, tmp_path / "two", hear_module, 40, 1600, workers=2)
    np.testing.assert_allclose(one.features(), two.features(), rtol=1e-5)


def test_what_is_not_a_hear_module_is_refused():
    for spec in ("no_such_module", "json", "hear_byols.errors:x"):
        with pytest.raises(OptionError, match=r'accepted: "opensmile", "MODULE" or "MODULE:PATH"'):
            make_extractor(spec)


def test_missing_opensmile_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        make_extractor("opensmile")


def test_opensmile_gives_6373_features():
    pytest.importorskip("opensmile")
    crops = np.stack([0.2 * np.sin(0.03 * np.arange(15200)), np.zeros(15200)]).astype(np.float32)
    features = OpenSmileExtractor()(crops)
    assert features.shape == (2, 6373)
    assert np.isfinite(features[0]).mean() > 0.9
