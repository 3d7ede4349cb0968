"""Settings, the presets of the paper's rows and of the shipped models."""

import math

import pytest

from hear_byols.errors import OptionError
from hear_byols.frontend import LogMel
from hear_byols.teachers import list_teachers
from hear_byols.training.config import PretrainConfig
from hear_byols.training.presets import PRESETS, make_config, make_runs, parse_settings


def test_defaults_are_the_papers():
    config, hour = PretrainConfig(), 3600 * 16000
    assert (config.batch_size, config.epochs, config.learning_rate) == (256, 100, 3e-4)  # section 2.3
    assert (config.ema_decay, config.head_hidden, config.mixup_ratio) == (0.99, 4096, 0.4)
    assert LogMel().n_frames(config.crop_samples) == 96
    assert config.total_steps(hour) == math.ceil(100 * 3600 / 0.95 / 256)  # epochs are passes over the hours
    assert PretrainConfig(steps=7).total_steps(hour) == 7


def test_bad_settings_are_refused():
    for settings, message in (
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"mixup_ratio": 1.5}, "mixup_ratio must lie between 0 and 1"),
        ({"alpha": -1}, "alpha must be finite and not negative"),
        ({"learning_rate": math.nan}, "learning_rate must be finite"),
        ({"encoder": "vit"}, "encoder must be one of cnn,"),
        ({"schedule": "linear"}, "schedule must be one of constant, cosine"),
        ({"precision": "bf16"}, "precision must be one of"),
        ({"teacher_loss": "huber"}, "teacher_loss must be one of mse, cosine"),
        ({"restarts": (5, 5)}, "restarts must be rising"),
        ({"restarts": (0,)}, "restarts must be rising"),
        ({"crop_frames": 1}, "crop_frames must lie between 2 and 1001"),
        ({"crop_frames": 2000}, "crop_frames must lie between 2 and 1001"),
        ({"mel_scale": (1.5, 0.6)}, "mel_scale must be two positive numbers"),
        ({"time_canvas": 0.5}, "time_canvas must be at least 1"),
        ({"student_db": (3.0, -3.0)}, "student_db must be two levels"),
        ({"targets": "mn04+mn04"}, "names a teacher twice"),
        ({"targets": "mn04+swift_f0", "teacher_weights": (1.0,)}, "one a teacher"),
        ({"encoder": "clstm", "targets": "mn04+swift_f0", "part_weight": 0.1}, "clstm has no columns"),
        ({"encoder": "clstm", "heads_on": "multi"}, "clstm has no columns"),
        ({"layers": "heads", "targets": "mn04+yamnet", "heads_on": "multi"}, "layers 'heads' needs teachers.*'last'"),
        ({"layers": "heads"}, r"layers 'heads' needs teachers, as in A\+B"),
        ({"targets": "opensmile", "equalizer": 6.0}, "equalizer must be 0 without teachers"),
    ):
        with pytest.raises(OptionError, match=message):
            PretrainConfig(**settings)


def test_rate_rises_then_stays_or_falls_to_zero():
    constant = PretrainConfig(learning_rate=2.0, warmup=0.1)
    assert [constant.rate(s, 100) for s in (0, 10, 99)] == pytest.approx([2 / 11, 2, 2])
    cosine = PretrainConfig(learning_rate=2.0, warmup=0.1, schedule="cosine")
    assert [cosine.rate(s, 100) for s in (10, 55, 100)] == pytest.approx([2, 1, 0])
    assert PretrainConfig().rate(0, 10) == 3e-4
    again = PretrainConfig(learning_rate=2.0, schedule="cosine", restarts=(100, 300))
    assert [again.rate(s, 400) for s in (0, 50, 100, 200, 300, 350, 400)] == pytest.approx([2, 1, 2, 1, 2, 1, 0])
    assert [again.rate(s, 200) for s in (100, 150, 200)] == pytest.approx([2, 1, 0])  # not long enough for the second


def test_every_row_of_the_paper_and_every_shipped_model_has_a_preset():
    ratios = {name: preset.settings for name, preset in PRESETS.items() if name.startswith("hybrid_cvt_")}
    assert len(ratios) == 7
    for name, settings in ratios.items():
        alpha, beta = map(int, name.removeprefix("hybrid_cvt_").split("_"))
        assert settings["alpha"] / settings["beta"] == pytest.approx(alpha / beta)
        assert settings["alpha"] + settings["beta"] == pytest.approx(2)
    windows = [make_config(f"byol_s_{ms}ms") for ms in (500, 950, 1425, 2000)]
    assert [config.crop_samples / 16000 for config in windows] == pytest.approx([0.5, 0.95, 1.425, 2], abs=0.005)
    assert {config.batch_size for config in windows} == {128}  # section 3.2
    assert {make_config(name).encoder for name in PRESETS} == {"cnn", "resnetish34", "clstm", "cvt"}
    assert make_config("hybrid_cnn").targets == make_config("hybrid_cvt").targets == "opensmile"
    assert not make_config("byol_s_plus_plus").hybrid
    assert "LibriSpeech" in PRESETS["byol_s_plus_plus"].data
    for name in ("cnn_hybrid", "cnn_byols", "cvt_hybrid", "cvt_byols"):
        config = make_config(name)
        assert (config.encoder, config.hybrid) == (name.split("_")[0], name.endswith("hybrid"))


def test_settings_replace_those_of_the_preset():
    config = make_config("hybrid_cvt_1_4", batch_size=64, alpha=1.0)
    assert (config.encoder, config.batch_size, config.alpha, config.beta) == ("cvt", 64, 1.0, 1.6)
    with pytest.raises(OptionError, match="no such setting: batch"):
        make_config("", batch=3)
    assert [run.preset for run in make_runs("cnn_hybrid", "run")] == ["cnn_hybrid_first", "cnn_hybrid"]
    assert [run.preset for run in make_runs("cnn_hybrid", "run", init="cnn_byols")] == ["cnn_hybrid"]


def test_settings_of_a_file_are_numbers_of_their_kind_and_may_be_gone_since_5_2_if_they_were_off():
    given = "restarts = [4000]\nteacher_weights = [1, 2]\nwarmup = 0\nband_limit = 0.0\nidentity_norm = false"
    expected = "{'restarts': (4000,), 'teacher_weights': (1.0, 2.0), 'warmup': 0.0}"
    assert repr(parse_settings(given, "run.toml")) == expected
    with pytest.raises(OptionError, match=r"run\.toml names no such setting: band_limit"):
        parse_settings("band_limit = 0.5", "run.toml")


def test_all_teachers_can_be_targets():
    for names in (tuple(list_teachers()), ("opensmile", "mn04")):
        assert PretrainConfig(targets="+".join(names)).teachers == names
    assert PretrainConfig(targets="opensmile").teachers == PretrainConfig().teachers == ()
