"""The loop: it learns, resumes exactly, and leaves a loadable checkpoint."""

import csv
import logging
import math

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import hear_byols
from hear_byols.errors import CheckpointError, InputError, OptionError
from hear_byols.frontend import LogMel
from hear_byols.training import __main__ as command
from hear_byols.training import pretrain
from hear_byols.training.batches import FixedCrops, RandomCrops, crop_samples, log_mel_crops
from hear_byols.training.data import AudioPool
from hear_byols.training.export import read_manifest
from hear_byols.training.pretrain import PretrainConfig, Pretrainer, load_state, run, save_state, scheduled_rate
from hear_byols.training.targets import FeatureStore

N_FRAMES = 32
N_SAMPLES = crop_samples(N_FRAMES)
SMALL = {"crop_frames": N_FRAMES, "batch_size": 8, "head_hidden": 32, "mixup_memory": 64, "log_steps": 1}


class TinyEncoder(nn.Module):
    embedding_size = 16

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU())

    def forward(self, x):
        return self.net(x).mean((2, 3))


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    monkeypatch.setattr(pretrain, "STATISTICS_CROPS", 32)


@pytest.fixture(scope="module")
def pool():
    """Tones of many pitches and noise."""
    rng = np.random.default_rng(0)
    time = np.arange(16000)
    clips = [rng.uniform(0.1, 0.9) * np.sin(time * rng.uniform(0.02, 1.5)) for _ in range(16)]
    clips += [rng.normal(0, rng.uniform(0.01, 0.2), 16000) for _ in range(8)]
    audio = np.concatenate([np.round(c.clip(-1, 1) * 32767).astype(np.int16) for c in clips])
    return AudioPool(audio, np.arange(25) * 16000, np.zeros(24, dtype=int), ("synthetic",), 16000)


@pytest.fixture
def few_features(monkeypatch):
    monkeypatch.setattr(pretrain, "N_FEATURES", 8)
    monkeypatch.setattr("hear_byols.training.targets.N_FEATURES", 8)


def fixed_crops(pool, folder):
    """Crops whose features are log band energies, which can be learnt."""
    store = FeatureStore(folder)
    store.create(pool, 64, N_SAMPLES, seed=0)
    if store.n_done:
        return FixedCrops(pool, store, N_SAMPLES, LogMel())
    log_mels = log_mel_crops(pool, store.places(), N_SAMPLES, LogMel()).float()
    bands = log_mels[:, 0].mean(2).unflatten(1, (8, 8)).mean(2)
    store.fill(bands.numpy())
    return FixedCrops(pool, store, N_SAMPLES, LogMel())


def make_trainer(pool, folder, hybrid=True, **options):
    config = PretrainConfig(**{**SMALL, "hybrid": hybrid, "steps": 40, **options})
    crops = fixed_crops(pool, folder) if hybrid else RandomCrops(pool, N_SAMPLES, LogMel())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Pretrainer(config, crops, encoder=TinyEncoder())


def test_hybrid_lowers_both_losses(pool, tmp_path, few_features):
    trainer = make_trainer(pool, tmp_path, steps=60, learning_rate=3e-3)
    rows = [trainer.step() for _ in range(60)]
    for name in ("loss_supervised", "loss_self_supervised"):
        assert np.mean([r[name] for r in rows[-10:]]) < 0.8 * np.mean([r[name] for r in rows[:10]])
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["loss_supervised"] + rows[-1]["loss_self_supervised"], rel=1e-5)
    assert rows[-1]["spread"] > 0.01


def test_self_supervised_run_needs_no_features(pool, tmp_path):
    trainer = make_trainer(pool, tmp_path, hybrid=False, beta=2.0)
    row = trainer.step()
    assert math.isnan(row["loss_supervised"])
    assert row["loss"] == pytest.approx(2 * row["loss_self_supervised"], rel=1e-5)
    assert trainer.byol.predictor[3].out_features == 256


def test_resumed_run_equals_an_uninterrupted_one(pool, tmp_path, few_features):
    whole = make_trainer(pool, tmp_path)
    expected = [whole.step()["loss"] for _ in range(8)]
    first = make_trainer(pool, tmp_path)
    losses = [first.step()["loss"] for _ in range(4)]
    save_state(first, tmp_path / "state.pt")
    second = make_trainer(pool, tmp_path, seed=7)  # everything that matters comes from the file
    load_state(second, tmp_path / "state.pt")
    losses += [second.step()["loss"] for _ in range(4)]
    assert losses == expected


def test_resuming_another_kind_of_run_is_refused(pool, tmp_path, few_features):
    save_state(make_trainer(pool, tmp_path), tmp_path / "state.pt")
    other = make_trainer(pool, tmp_path, head_hidden=16)
    with pytest.raises(CheckpointError, match="head_hidden=32"):
        load_state(other, tmp_path / "state.pt")
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(other, tmp_path / "state.pt")


def test_training_leaves_the_callers_random_state_alone(pool, tmp_path, few_features):
    state = torch.random.get_rng_state()
    make_trainer(pool, tmp_path).step()
    assert torch.equal(state, torch.random.get_rng_state())


def test_run_logs_every_step_and_stops_at_the_last(pool, tmp_path, few_features):
    exported = []
    trainer = make_trainer(pool, tmp_path, steps=4)
    last = run(trainer, tmp_path / "out", lambda trainer, last: exported.append(trainer.n_steps))
    with open(tmp_path / "out/log.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(r["step"]) for r in rows] == [1, 2, 3, 4]
    assert float(rows[-1]["loss"]) == pytest.approx(last["loss"], rel=1e-4)
    assert exported == [4]
    assert (tmp_path / "out/state.pt").exists()


def test_minutes_end_a_run_and_drive_its_schedule(pool, tmp_path, few_features):
    trainer = make_trainer(pool, tmp_path, steps=10**6, max_minutes=1.0)
    trainer.seconds = 45.0
    assert trainer.progress == 0.75
    trainer.seconds = 61.0
    run(trainer, tmp_path / "out")
    assert trainer.n_steps == 0


def test_schedule_rises_then_falls_to_zero():
    rates = [scheduled_rate(p, 2.0, 0.1) for p in (0.0, 0.05, 0.1, 0.55, 1.0, 1.5)]
    assert rates == pytest.approx([0.02, 1.0, 2.0, 1.0, 0.0, 0.0])
    assert scheduled_rate(0.0, 1.0, 0.0) == 1.0


@pytest.mark.parametrize(
    "option", [{"batch_size": 1}, {"steps": 0}, {"mixup_ratio": 1.5}, {"alpha": -1}, {"learning_rate": math.nan}]
)
def test_bad_options_are_refused(option):
    with pytest.raises(OptionError, match=next(iter(option))):
        PretrainConfig(**option)


def test_fixed_crops_take_in_rows_that_appear_later(pool, tmp_path, few_features):
    store = FeatureStore(tmp_path)
    store.create(pool, 8, N_SAMPLES, seed=0)
    store.fill(np.random.default_rng(0).standard_normal((5, 8)))
    crops = FixedCrops(pool, store, N_SAMPLES, LogMel())
    assert len(crops) == 5
    store.fill(np.zeros((3, 8)))
    crops.refresh()
    assert len(crops) == 8
    log_mels, features = crops.draw(4, torch.Generator().manual_seed(0))
    assert log_mels.shape == (4, 1, 64, N_FRAMES)
    assert features.shape == (4, 8)


def test_crop_of_96_frames_has_095_seconds():
    assert crop_samples(96) == 15200
    assert LogMel().n_frames(15200) == 96


def write_folder(pool, folder):
    folder.mkdir()
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", pool.crop(5 * i, 0, 16000), 16000)
    return folder


def test_command_trains_and_its_checkpoint_loads(pool, tmp_path):
    audio = write_folder(pool, tmp_path / "audio")
    (tmp_path / "manifest.csv").write_text("shard,licence,content\naudio,CC0,tones\n")
    options = ["--steps", "2", "--batch-size", "4", "--head-hidden", "16", "--crop-frames", "32", "--threads", "1"]
    output = tmp_path / "run"
    arguments = ["--data", str(audio), "--output", str(output), "--no-hybrid", "--log-steps", "1", *options]
    assert command.main([*arguments, "--manifest", str(tmp_path / "manifest.csv"), "--licence", "CC0"]) == 0
    model = hear_byols.load_model(str(output / "encoder.pth"))
    vectors = hear_byols.get_scene_embeddings(torch.randn(2, 16000) * 0.1, model)
    assert vectors.shape == (2, 2048)
    provenance = torch.load(output / "encoder.pth", weights_only=True)["provenance"]
    assert provenance["data"][0]["licence"] == "CC0"
    assert provenance["training"]["crops_seen"] == 8
    assert provenance["training"]["final"]["step"] == 2
    assert str(tmp_path) not in str(provenance)
    assert command.main([*arguments, "--resume"]) == 0  # nothing left to do


def test_command_reports_faults_in_one_line(tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        assert command.main(["--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    assert "no such file or folder" in caplog.text


def test_command_without_features_says_so(pool, tmp_path, caplog):
    audio = write_folder(pool, tmp_path / "audio")
    assert command.main(["--data", str(audio), "--output", str(tmp_path / "out"), "--no-extract"]) == 2
    assert "holds no features yet" in caplog.text


def test_manifest_needs_its_columns(tmp_path):
    (tmp_path / "m.csv").write_text("name\nx\n")
    with pytest.raises(InputError, match="'shard'"):
        read_manifest(tmp_path / "m.csv")
