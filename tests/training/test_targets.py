"""Targets: standardizer, extractors, store, interruption."""

import dataclasses

import numpy as np
import pytest
import torch
from pretraining import HEAR_MODULE

from hear_byols.errors import InputError, OptionError
from hear_byols.training import targets
from hear_byols.training.pool import cut_crops
from hear_byols.training.targets import CLIP, FeatureScaler, extract_features, make_extractor


def test_standardized_features_follow_the_written_formula_and_stay_bounded():
    rng = np.random.default_rng(0)
    raw = np.stack([rng.normal(3, 2, 2000), rng.standard_cauchy(2000), rng.lognormal(0, 3, 2000)], axis=1)
    z = FeatureScaler.fit(raw)(torch.from_numpy(raw)).numpy()
    low, centre, high = np.quantile(raw, [0.25, 0.5, 0.75], axis=0)
    squashed = np.arcsinh((raw - centre) / ((high - low) / 1.349))
    expected = ((squashed - squashed.mean(0)) / squashed.std(0)).clip(-CLIP, CLIP)
    assert np.abs(expected).max() == CLIP
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)


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
def asked(monkeypatch):
    """The list of crops that were asked for; three features a crop instead of openSMILE's."""
    asked = []

    def extractor(crops):
        asked.extend(crops)
        return np.stack([[crop[0], crop[-1], np.nan] for crop in crops]).astype(np.float32)

    extractor.n_features = 3
    monkeypatch.setattr(targets, "make_extractor", lambda spec: extractor)
    return asked


def test_features_stand_in_the_order_of_their_places_and_more_crops_keep_the_first_ones(pool, tmp_path, asked):
    places, few = extract_features(pool, tmp_path, "counting", 10, 160)
    few = np.array(few)
    more_places, more = extract_features(pool, tmp_path, "counting", 1500, 160)
    assert len(asked) == 1500  # none twice
    crops = cut_crops(torch.from_numpy(pool.audio), more_places, 160).numpy()
    np.testing.assert_array_equal(more[:, :2], crops[:, [0, -1]])
    assert np.isnan(more[:, 2]).all()  # the standardizer decides on them
    np.testing.assert_array_equal(more[:10], few)
    assert torch.equal(places, more_places[:10])
    assert len(extract_features(pool, tmp_path, "counting", 10, 160)[1]) == 10
    assert len(asked) == 1500


def test_interrupted_or_damaged_extraction_continues_with_the_first_row_that_is_not_whole(
    pool, tmp_path, asked, caplog
):
    def extract():
        return np.array(extract_features(pool, tmp_path, "counting", 40, 160)[1])

    whole = extract()
    for name, place, content, n_whole in (
        ("f32", 17 * 12 + 5, None, 17),  # 17 rows and a torn one
        ("f32", 31 * 12, bytes(4), 31),  # as a power cut may
        ("crc32", 29 * 4, bytes(4), 29),
    ):
        with open(tmp_path / f"features.{name}", "r+b") as file:
            file.seek(place)
            file.write(content) if content else file.truncate()
        asked.clear()
        np.testing.assert_array_equal(extract(), whole)
        assert len(asked) == 40 - n_whole
        assert not content or f"damaged from row {n_whole} on" in caplog.text


def test_features_of_other_crops_and_damaged_descriptions_are_refused(pool, tmp_path, asked):
    extract_features(pool, tmp_path, "counting", 4, 160)
    for other, seed in ((pool, 4), (dataclasses.replace(pool, digest="other"), 0)):
        with pytest.raises(InputError, match="made in another way"):
            extract_features(other, tmp_path, "counting", 4, 160, seed)
    for content in ("", "{}", "[1]", '{"n_features": null}'):
        (tmp_path / "recipe.json").write_text(content)
        with pytest.raises(InputError, match=r"recipe\.json is damaged; remove the folder"):
            extract_features(pool, tmp_path, "counting", 4, 160)


def test_any_hear_module_can_supervise_and_hears_crops_at_its_rate(bands, tmp_path):
    (tmp_path / "fast_bands.py").write_text(HEAR_MODULE.replace("= 16000, 8", "= 48000, 8"))

    def tone(hertz, n):
        return np.sin(2 * np.pi * hertz / 16000 * np.arange(n)).astype(np.float32)[None]

    fast, plain = make_extractor("fast_bands")(tone(1000, 16000)), make_extractor(bands)(tone(1000 / 3, 48000))
    assert fast.shape == plain.shape == (1, 8)
    np.testing.assert_allclose(fast[0, 0], plain[0, 0], atol=0.1)
    assert make_extractor("hear_byols:random_cnn").n_features == 2048


def test_several_workers_give_the_same_rows(pool, bands, tmp_path):
    (_, one), (_, two) = (extract_features(pool, tmp_path / f"{n}", bands, 40, 1600, workers=n) for n in (0, 2))
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_what_is_not_a_hear_module_or_breaks_its_word_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for spec in ("no_such_module", "json", "hear_byols.errors:x"):
        with pytest.raises(OptionError, match=r'accepted: "opensmile", "MODULE" or "MODULE:PATH"'):
            make_extractor(spec)
    head = HEAR_MODULE.partition("    return LogMel()(audio)")[0]
    for name, broken, message in (
        ("short_bands", "return torch.zeros(len(audio), 7)", "shape"),
        ("failing_bands", "raise KeyError(1)", "failed on a crop"),
    ):
        (tmp_path / f"{name}.py").write_text(f"{head}    {broken}\n")
        with pytest.raises(OptionError, match=message):
            make_extractor(name)(np.zeros((2, 8000), np.float32))
